package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

const imdsEndpoint = "http://169.254.169.254"

// identity is what the metadata service said.
type identity struct {
	doc             struct{ InstanceID, AccountID, Region, AvailabilityZone string }
	environmentName string
	err             error
}

// identity asks for the instance identity document, and for the environment's name among the instance's tags when
// nothing else told it: tags are in the metadata only where somebody enabled them, else the answer is 404.
func (h host) identity(ctx context.Context, wantName bool) identity {
	ctx, cancel := context.WithTimeout(ctx, imdsLimit)
	defer cancel()
	c, done := newIMDS(h.IMDSEndpoint)
	defer done()
	var id identity
	if id.err = c.login(ctx); id.err != nil {
		return id
	}
	doc, err := c.do(ctx, http.MethodGet, "dynamic/instance-identity/document")
	if err != nil {
		id.err = err
		return id
	}
	if json.Unmarshal(doc, &id.doc) != nil {
		id.err = errors.New("instance metadata: the identity document is no JSON object")
		return id
	}
	if wantName {
		name, _ := c.do(ctx, http.MethodGet, "meta-data/tags/instance/elasticbeanstalk:environment-name")
		id.environmentName = strings.TrimSpace(string(name))
	}
	return id
}

// imds speaks version 2 of the metadata service only: version 1 answers 401 on Amazon Linux 2023. It is written by
// hand because the SDK's client hides the status of a refused token, and would go through a proxy.
type imds struct {
	base  string
	http  *http.Client
	token string
}

// newIMDS is a client that gives up early: a missing service swallows packets rather than refuse them. The second
// result closes its connections.
func newIMDS(endpoint string) (*imds, func()) {
	if endpoint == "" {
		endpoint = imdsEndpoint
	}
	tr := &http.Transport{
		Proxy:                 nil, // never the environment's
		DialContext:           (&net.Dialer{Timeout: 500 * time.Millisecond}).DialContext,
		ResponseHeaderTimeout: time.Second,
	}
	noRedirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &imds{base: strings.TrimSuffix(endpoint, "/") + "/latest/", http: &http.Client{Transport: tr, CheckRedirect: noRedirect}}, tr.CloseIdleConnections
}

// login gets the token that every other request needs, for a minute.
func (c *imds) login(ctx context.Context) error {
	token, err := c.do(ctx, http.MethodPut, "api/token")
	c.token = string(token)
	return err
}

// do sends one request, and once more after a fault of the service's.
func (c *imds) do(ctx context.Context, method, path string) ([]byte, error) {
	body, again, err := c.once(ctx, method, path)
	if again && ctx.Err() == nil {
		body, _, err = c.once(ctx, method, path)
	}
	return body, err
}

func (c *imds) once(ctx context.Context, method, path string) (body []byte, again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, nil)
	if err != nil {
		return nil, false, errors.New("instance metadata: the endpoint is no address")
	}
	if c.token == "" {
		req.Header.Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "60")
	} else {
		req.Header.Set("X-Aws-Ec2-Metadata-Token", c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			return nil, false, errors.New("instance metadata: no answer in time")
		}
		return nil, true, errors.New("instance metadata: cannot be reached")
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	switch {
	case resp.StatusCode != http.StatusOK:
		return nil, resp.StatusCode >= 500, fmt.Errorf("instance metadata: HTTP %d", resp.StatusCode)
	case err != nil:
		return nil, true, errors.New("instance metadata: the answer breaks off")
	}
	return body, false, nil
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
