// Package awsconf says as whom, and where, the agent itself speaks to AWS.
//
// The aws.Config is built by hand: linking the SDK's config module costs 1.9 MB of binary, 0.5 MB of memory and a
// millisecond on every start for sources an instance does not have. It reads, in this order: the static
// credentials and the region of the agent's OWN environment (never the application's: its AWS_ACCESS_KEY_ID must not
// decide who sends the agent's metrics), then the instance's role over IMDSv2. Not read: AWS_PROFILE, the shared
// config files, SSO, assumed roles and container credentials.
//
// Nothing here touches the network before it is asked, and off EC2 every question is answered within two seconds.
package awsconf

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
)

// Reasons why AWS cannot be spoken to from here. Both are states of a host, not faults: a laptop has neither.
var (
	ErrNoCredentials = errors.New("no AWS credentials")
	ErrNoRegion      = errors.New("no AWS region")
)

// compressFrom is the body size in bytes from which requests are gzipped. The SDK's config module has 10,240, and an
// aws.Config built by hand 0. A minute of sixty series is some 20 kB: to gzip it was measured at 40 % of a publish's
// CPU and 0.8 MB of memory, to save most of a gigabyte of free inbound traffic a month and instance.
const compressFrom = 64 << 10

// Config says what to use instead of what the environment and the instance say. The zero value is valid.
type Config struct {
	// Optional. Region to send to. Empty: AWS_REGION, AWS_DEFAULT_REGION, then the instance's own.
	Region string

	// Optional. URLs to speak to instead of AWS's own. Empty: AWS_ENDPOINT_URL_CLOUDWATCH or AWS_ENDPOINT_URL_S3,
	// then AWS_ENDPOINT_URL, then AWS's own for the region.
	CloudWatchEndpoint string
	S3Endpoint         string

	// Optional. The agent's own environment. Nil: os.Getenv.
	Getenv func(string) string
}

// AWS answers as whom and where to speak. Safe for concurrent use.
type AWS struct {
	cloudwatchEndpoint string
	s3Endpoint         string
	client             *http.Client
	imds               *imds.Client
	imdsEndpoint       string // as the environment names it
	imdsDisabled       bool
	credentials        *aws.CredentialsCache

	region chan string // holds the region, "" until it is known; empty while one caller asks the instance
}

// New checks c without touching the network. It returns all faults at once.
func New(c Config) (*AWS, error) {
	if c.Getenv == nil {
		c.Getenv = os.Getenv
	}
	endpoint := c.Getenv("AWS_ENDPOINT_URL")
	a := &AWS{
		region:             make(chan string, 1),
		cloudwatchEndpoint: cmp.Or(c.CloudWatchEndpoint, c.Getenv("AWS_ENDPOINT_URL_CLOUDWATCH"), endpoint),
		s3Endpoint:         cmp.Or(c.S3Endpoint, c.Getenv("AWS_ENDPOINT_URL_S3"), endpoint),
		client:             newHTTPClient(c.Getenv),
		imdsEndpoint:       c.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
		imdsDisabled:       strings.EqualFold(c.Getenv("AWS_EC2_METADATA_DISABLED"), "true"),
	}
	a.imds = newIMDS(a.imdsEndpoint, a.imdsDisabled)
	region := cmp.Or(c.Region, c.Getenv("AWS_REGION"), c.Getenv("AWS_DEFAULT_REGION"))
	a.region <- region
	provider, credErr := a.provider(c.Getenv)
	// Five minutes before expiry a fresh set is fetched, spread so that a fleet does not ask at once.
	a.credentials = aws.NewCredentialsCache(provider, func(o *aws.CredentialsCacheOptions) {
		o.ExpiryWindow, o.ExpiryWindowJitterFrac = 5*time.Minute, 0.5
	})
	return a, errors.Join(credErr,
		CheckRegion(region),
		checkBundle(c.Getenv("AWS_CA_BUNDLE")),
		CheckEndpoint("CloudWatch endpoint", a.cloudwatchEndpoint),
		CheckEndpoint("S3 endpoint", a.s3Endpoint))
}

// CloudWatch returns the configuration for a CloudWatch client whose region and credentials have been found to exist,
// or an error that wraps ErrNoRegion or ErrNoCredentials. The SDK's retries are off: the caller has a spool that knows
// which attempts may have been applied.
func (a *AWS) CloudWatch(ctx context.Context) (aws.Config, error) {
	region, err := a.Region(ctx)
	if err != nil {
		return aws.Config{}, err
	}
	if _, err := a.credentials.Retrieve(ctx); err != nil {
		return aws.Config{}, noCredentials(err)
	}
	c := aws.Config{
		Region:                      region,
		Credentials:                 a.credentials,
		HTTPClient:                  a.client,
		Retryer:                     func() aws.Retryer { return aws.NopRetryer{} },
		RequestMinCompressSizeBytes: compressFrom,
	}
	if a.cloudwatchEndpoint != "" {
		c.BaseEndpoint = aws.String(a.cloudwatchEndpoint)
	}
	return c, nil
}

// Credentials is the cached source of the agent's own credentials.
func (a *AWS) Credentials() aws.CredentialsProvider { return a.credentials }

// HTTPClient is the one client all requests to AWS share, for those made by hand.
func (a *AWS) HTTPClient() *http.Client { return a.client }

// S3Endpoint is the URL to speak S3 to instead of AWS's own, or "".
func (a *AWS) S3Endpoint() string { return a.s3Endpoint }

// Region returns the configured region, else the instance's, which is asked for until it is known. The error wraps
// ErrNoRegion.
func (a *AWS) Region(ctx context.Context) (region string, err error) {
	select {
	case region = <-a.region:
	case <-ctx.Done():
		return "", fmt.Errorf("%w: %w", ErrNoRegion, context.Cause(ctx))
	}
	defer func() { a.region <- region }()
	if region == "" {
		if region, err = a.instanceRegion(ctx); err != nil {
			region, err = "", fmt.Errorf("%w: neither aws.region nor AWS_REGION is set, and %w", ErrNoRegion, err)
		}
	}
	return region, err
}

// provider is the environment's static credentials when there are any, else the instance's role.
func (a *AWS) provider(getenv func(string) string) (aws.CredentialsProvider, error) {
	id, secret := getenv("AWS_ACCESS_KEY_ID"), getenv("AWS_SECRET_ACCESS_KEY")
	switch {
	case id == "" && secret == "":
		return roleProvider(a.imds), nil
	case id == "":
		return nil, errors.New("AWS_SECRET_ACCESS_KEY is set and AWS_ACCESS_KEY_ID is not: set both or neither")
	case secret == "":
		return nil, errors.New("AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not: set both or neither")
	}
	return credentials.NewStaticCredentialsProvider(id, secret, getenv("AWS_SESSION_TOKEN")), nil
}

func noCredentials(cause error) error {
	return fmt.Errorf("%w: AWS_ACCESS_KEY_ID is not set, and %w", ErrNoCredentials, brief(cause))
}

// CheckEndpoint accepts "" and absolute http and https URLs. The value may carry a password, so no error repeats it.
func CheckEndpoint(what, s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		const example = "https://monitoring.eu-west-1.amazonaws.com"
		return fmt.Errorf("read %s: not an absolute http or https URL, such as %s", what, example)
	}
	return nil
}

// checkBundle accepts "" and a file that can be read: a bundle that was named is meant, and none other would do.
func checkBundle(name string) error {
	if name == "" {
		return nil
	}
	if _, err := os.ReadFile(name); err != nil {
		return fmt.Errorf("read AWS_CA_BUNDLE: %w", err)
	}
	return nil
}

// CheckRegion refuses what cannot be a label of a host name, because the region becomes one.
func CheckRegion(s string) error {
	bad := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }
	if strings.ContainsFunc(s, bad) || len(s) > 63 {
		return fmt.Errorf("read region %q: not an AWS region, such as eu-west-1", s)
	}
	return nil
}
