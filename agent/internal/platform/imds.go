package platform

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const imdsEndpoint = "http://169.254.169.254"

// identity is what the metadata service said.
type identity struct {
	doc             imds.InstanceIdentityDocument
	environmentName string
	err             error
}

// identity asks for the instance identity document, and for the environment's name among the instance's tags when
// nothing else told it: tags are in the metadata only where somebody enabled them, else the answer is 404.
func (h host) identity(ctx context.Context, wantName bool) identity {
	ctx, cancel := context.WithTimeout(ctx, imdsLimit)
	defer cancel()
	client, done := newIMDS(h.IMDSEndpoint)
	defer done()
	var id identity
	out, err := client.GetInstanceIdentityDocument(ctx, nil)
	if err != nil {
		id.err = imdsReason(err)
		return id
	}
	id.doc = out.InstanceIdentityDocument
	if !wantName {
		return id
	}
	tag, err := client.GetMetadata(ctx, &imds.GetMetadataInput{Path: "tags/instance/elasticbeanstalk:environment-name"})
	if err != nil {
		return id
	}
	defer tag.Content.Close()
	buf := make([]byte, 256)
	n, _ := tag.Content.Read(buf)
	id.environmentName = strings.TrimSpace(string(buf[:n]))
	return id
}

// newIMDS is a client that speaks version 2 only, through no proxy, and gives up early: a missing service swallows
// packets rather than refuse them. The second result closes its connections.
func newIMDS(endpoint string) (*imds.Client, func()) {
	if endpoint == "" {
		endpoint = imdsEndpoint
	}
	tr := &http.Transport{
		Proxy:                 nil,
		DialContext:           (&net.Dialer{Timeout: 250 * time.Millisecond}).DialContext,
		ResponseHeaderTimeout: 500 * time.Millisecond,
	}
	return imds.New(imds.Options{
		Endpoint:          endpoint,
		HTTPClient:        &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		EnableFallback:    aws.FalseTernary,
		ClientEnableState: imds.ClientEnabled,
		Retryer:           retry.AddWithMaxAttempts(retry.NewStandard(), 2),
	}), tr.CloseIdleConnections
}

// imdsReason is err without the SDK's wrapping.
func imdsReason(err error) error {
	if re, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		return fmt.Errorf("instance metadata: HTTP %d", re.HTTPStatusCode())
	}
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return errors.New("instance metadata: no answer in time")
	}
	return errors.New("instance metadata: cannot be reached")
}

func (f *Facts) fromIMDS(id identity) {
	if id.err != nil {
		f.missing(id.err.Error())
		return
	}
	f.found("identity from instance metadata")
	f.InstanceID = id.doc.InstanceID
	f.AccountID = id.doc.AccountID
	f.AvailabilityZone = id.doc.AvailabilityZone
	if f.Region == "" {
		f.Region = id.doc.Region
	}
	if f.EnvironmentName == "" && id.environmentName != "" {
		f.EnvironmentName = id.environmentName
		f.found("environment name from the instance's tags")
	}
}
