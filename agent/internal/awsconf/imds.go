package awsconf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
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
)

// Identity is what the instance's identity document says. Fields it does not have are empty.
type Identity struct {
	Region     string
	Account    string // twelve digits
	InstanceID string
}

// newIMDS builds a client that speaks version 2 only: AL2023's default answers 401 to version 1, and a fallback to it
// would hide a broken token path until the day it matters.
func newIMDS(getenv func(string) string) *imds.Client {
	state := imds.ClientEnabled
	if strings.EqualFold(getenv("AWS_EC2_METADATA_DISABLED"), "true") {
		state = imds.ClientDisabled
	}
	return imds.New(imds.Options{
		ClientEnableState: state,
		EnableFallback:    aws.FalseTernary,
		Endpoint:          first(getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"), "http://169.254.169.254"),
		HTTPClient: &http.Client{Transport: &http.Transport{
			DialContext:           (&net.Dialer{Timeout: imdsDial}).DialContext,
			ResponseHeaderTimeout: imdsAnswer,
			IdleConnTimeout:       5 * time.Second,
			MaxIdleConns:          1,
		}},
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

// Identity asks the instance who it is, once: none of it changes while an instance lives. Errors are not remembered.
func (a *AWS) Identity(ctx context.Context) (Identity, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.identity != (Identity{}) {
		return a.identity, nil
	}
	ctx, cancel := context.WithTimeout(ctx, imdsQuery)
	defer cancel()
	doc, err := a.imds.GetInstanceIdentityDocument(ctx, nil)
	if err != nil {
		return Identity{}, brief(err)
	}
	if doc.Region == "" {
		return Identity{}, errors.New("the instance's identity document names no region")
	}
	a.identity = Identity{Region: doc.Region, Account: doc.AccountID, InstanceID: doc.InstanceID}
	return a.identity, nil
}

// Role returns the name of the instance's IAM role, for messages that say which role lacks a permission.
func (a *AWS) Role(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, imdsQuery)
	defer cancel()
	out, err := a.imds.GetMetadata(ctx, &imds.GetMetadataInput{Path: "iam/security-credentials/"})
	if err != nil {
		return "", brief(fmt.Errorf("no EC2 IMDS role: %w", err))
	}
	defer out.Content.Close()
	b, err := io.ReadAll(io.LimitReader(out.Content, 1024))
	if err != nil {
		return "", brief(err)
	}
	role, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	if role == "" {
		return "", errNoRole
	}
	return role, nil
}

var errNoRole = errors.New("the instance has no role: give its environment an instance profile")

// brief says in a few words what the SDK says in many. An operator reads it at the end of a sentence.
func brief(err error) error {
	if answer, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && answer.HTTPStatusCode() != 0 {
		if answer.HTTPStatusCode() == http.StatusNotFound && strings.Contains(err.Error(), "IMDS role") {
			return errNoRole
		}
		return fmt.Errorf("the instance metadata service answers with status %d", answer.HTTPStatusCode())
	}
	if strings.Contains(err.Error(), "access disabled to EC2 IMDS") {
		return errors.New("AWS_EC2_METADATA_DISABLED is set")
	}
	// The SDK's token step keeps the text of its cause and not the cause.
	if _, unsent := errors.AsType[*smithyhttp.RequestSendError](err); unsent || strings.Contains(err.Error(), "failed to get API token") {
		return errors.New("no instance metadata service answers")
	}
	return fmt.Errorf("ask the instance metadata service: %w", err)
}
