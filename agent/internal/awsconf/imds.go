package awsconf

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Time limits of the metadata service. It is one hop away and answers in a millisecond; off EC2 nothing answers, and
// a start must not wait for that. The address is link-local, so no proxy is ever right.
const (
	imdsDial    = 250 * time.Millisecond
	imdsAnswer  = 500 * time.Millisecond
	imdsQuery   = 1500 * time.Millisecond // one question, its token and its retry
	imdsBackoff = 100 * time.Millisecond
	imdsIdle    = 15 * time.Second // termination notices are asked for every 5 s, over one connection
)

// newIMDS builds a client that speaks version 2 only: AL2023's default answers 401 to version 1, and a fallback to it
// would hide a broken token path until the day it matters.
func newIMDS(endpoint string, disabled bool) *imds.Client {
	state := imds.ClientEnabled
	if disabled {
		state = imds.ClientDisabled
	}
	return imds.New(imds.Options{
		ClientEnableState: state,
		EnableFallback:    aws.FalseTernary,
		Endpoint:          cmp.Or(endpoint, "http://169.254.169.254"),
		HTTPClient: &http.Client{
			Transport: bounded{&http.Transport{
				DialContext:           (&net.Dialer{Timeout: imdsDial}).DialContext,
				ResponseHeaderTimeout: imdsAnswer,
				IdleConnTimeout:       imdsIdle,
				MaxIdleConns:          1,
			}},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.MaxBackoff = 2, imdsBackoff
		}),
	})
}

// roleProvider is the instance role's credentials, with each question limited in time.
func roleProvider(c *imds.Client) aws.CredentialsProvider {
	return limited{ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = c })}
}

// limited keeps the provider's other methods, by which the cache extends credentials while IMDS is away.
type limited struct{ *ec2rolecreds.Provider }

func (l limited) Retrieve(ctx context.Context) (aws.Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, imdsQuery)
	defer cancel()
	return l.Provider.Retrieve(ctx)
}

// AsksMetadata reports whether the metadata service may be asked: on EC2, and wherever the environment names its
// endpoint; nowhere while AWS_EC2_METADATA_DISABLED is set.
func (a *AWS) AsksMetadata(ec2 bool) bool { return !a.imdsDisabled && (ec2 || a.imdsEndpoint != "") }

// Metadata returns what the metadata service has at a path such as meta-data/spot/instance-action, or "" where it has
// nothing. It takes at most a second and a half.
func (a *AWS) Metadata(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, imdsQuery)
	defer cancel()
	out, err := a.imds.GetMetadata(ctx, &imds.GetMetadataInput{Path: "../" + path}) // the SDK joins it to meta-data
	if status(err) == http.StatusNotFound {
		return "", nil
	}
	if err != nil {
		return "", brief(err)
	}
	b, err := io.ReadAll(out.Content) // which the SDK has in memory
	return strings.TrimSpace(string(b)), err
}

func (a *AWS) instanceRegion(ctx context.Context) (string, error) {
	region, err := a.Metadata(ctx, "meta-data/placement/region")
	if err == nil && region == "" {
		err = errors.New("the instance metadata service names none")
	}
	return region, errors.Join(err, CheckRegion(region))
}

var errNoRole = errors.New("the instance has no role: give its environment an instance profile")

// brief shortens an error of the SDK, for an operator who reads it at the end of a sentence.
func brief(err error) error {
	text := err.Error()
	if s := status(err); s == http.StatusNotFound && strings.Contains(text, "IMDS role") {
		return errNoRole
	} else if s != 0 {
		return fmt.Errorf("the instance metadata service answers with status %d", s)
	}
	if strings.Contains(text, "access disabled to EC2 IMDS") {
		return errors.New("AWS_EC2_METADATA_DISABLED is set")
	}
	// The SDK's token step keeps the text of its cause and not the cause.
	token := strings.Contains(text, "failed to get API token")
	if m := statusText.FindStringSubmatch(text); token && m != nil {
		return fmt.Errorf("the instance metadata service refuses a token with status %s", m[1])
	}
	if _, unsent := errors.AsType[*smithyhttp.RequestSendError](err); unsent || token {
		return errors.New("no instance metadata service answers")
	}
	return fmt.Errorf("ask the instance metadata service: %w", err)
}

var statusText = regexp.MustCompile(`StatusCode: ([1-9]\d\d)\b`)

// status is the HTTP status of an answer that is an error, 0 where there was none.
func status(err error) int {
	if answer, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		return answer.HTTPStatusCode()
	}
	return 0
}
