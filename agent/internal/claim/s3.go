package claim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const requestLimit = 5 * time.Second

// bucket gets and puts registers. The requests are made by hand and signed with the SDK's signer: linking service/s3
// for two calls costs 1.1 MB, and its retries would hide which write won.
type bucket struct {
	root        string // URL of the bucket
	arn         string // of the bucket
	prefix      string // of all environments' keys
	keys        string // prefix of this environment's keys
	region      string
	credentials aws.CredentialsProvider
	client      http.Client
	clock       storeClock
	signer      *v4.Signer
}

// Lengths are checked apart: a count in an expression, {1,61}, costs every start of the agent some 40 kB.
var (
	bucketText = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]+[a-z0-9]$`)
	prefixText = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$`)
	regionText = regexp.MustCompile(`^[a-z0-9-]+$`)
)

// isBucket reports whether S3 has buckets of such names. Source: its User Guide, "General purpose bucket naming rules".
// The names that those reserve, such as an access point's alias, S3 takes in a bucket's place.
func isBucket(s string) bool {
	_, notAddress := netip.ParseAddr(s)
	return len(s) <= 63 && bucketText.MatchString(s) && notAddress != nil && !strings.Contains(s, "..")
}

func isRegion(s string) bool { return len(s) <= 63 && regionText.MatchString(s) }

// ParseURL reads s3://BUCKET/PREFIX; the prefix may be missing.
func ParseURL(s string) (bucket, prefix string, err error) {
	rest, ok := strings.CutPrefix(s, "s3://")
	bucket, prefix, _ = strings.Cut(strings.TrimRight(rest, "/"), "/")
	if !ok || !isBucket(bucket) || prefix != "" && !prefixText.MatchString(prefix) {
		const want = "must be s3://BUCKET or s3://BUCKET/PREFIX, the prefix of letters, digits and -_./"
		return "", "", fmt.Errorf("read claim store %q: %s", s, want)
	}
	return bucket, prefix, nil
}

// DefaultBucket is the bucket that Elastic Beanstalk itself makes for an account in a region.
func DefaultBucket(region, account string) string {
	return "elasticbeanstalk-" + region + "-" + account
}

func newBucket(c Config) (*bucket, error) {
	var errs []error
	if !isBucket(c.Bucket) {
		errs = append(errs, fmt.Errorf("use a claim store: %q cannot be a bucket", c.Bucket))
	}
	if !isRegion(c.Region) {
		errs = append(errs, fmt.Errorf("use a claim store: %q cannot be a region", c.Region))
	}
	if !prefixText.MatchString(c.Prefix) {
		errs = append(errs, fmt.Errorf("use a claim store: prefix %q must be of letters, digits and -_./", c.Prefix))
	}
	partition, suffix := partitionOf(c.Region)
	base := fmt.Sprintf("https://%s.s3.%s.%s", c.Bucket, c.Region, suffix)
	if strings.Contains(c.Bucket, ".") { // no certificate covers a dot in the host
		base = fmt.Sprintf("https://s3.%s.%s/%s", c.Region, suffix, c.Bucket)
	}
	if c.Endpoint != "" {
		if u, err := url.Parse(c.Endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			errs = append(errs, errors.New("use a claim store: the S3 endpoint is not an absolute http or https URL"))
		}
		base = strings.TrimRight(c.Endpoint, "/") + "/" + c.Bucket
	}
	b := &bucket{
		root: base, arn: "arn:" + partition + ":s3:::" + c.Bucket, prefix: c.Prefix + "/",
		keys:   c.Prefix + "/" + sharer{c.Environment, c.Group}.key() + "/",
		region: c.Region, credentials: c.Credentials, client: *c.Client, clock: storeClock{boot: bootClock},
		// S3 signs the path as it is, other services escape it again.
		signer: v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }),
	}
	// A redirect means another region; following one would send a signature that does not fit.
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return b, errors.Join(errs...)
}

// partitionOf returns the partition of a region and its hosts' domain.
// https://docs.aws.amazon.com/general/latest/gr/s3.html
func partitionOf(region string) (partition, suffix string) {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn", "amazonaws.com.cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov", "amazonaws.com"
	}
	return "aws", "amazonaws.com"
}

// key is the key of a job's register.
func (b *bucket) key(job string) string { return b.keys + objectName(job) + ".json" }

// get reads a job's register; one that does not exist yet is empty, and its tag is absent.
func (b *bucket) get(ctx context.Context, job string) (register, error) {
	return b.getKey(ctx, b.key(job), job)
}

func (b *bucket) getKey(ctx context.Context, key, job string) (register, error) {
	head, body, err := b.do(ctx, call{method: http.MethodGet, path: key, limit: maxRegister})
	if e, ok := errors.AsType[*answer](err); ok && e.status == http.StatusNotFound && e.code != "NoSuchBucket" {
		return register{Register{Version: registerVersion, Job: job}, absent}, nil
	}
	if err != nil {
		return register{}, err
	}
	r, err := parseRegister(body)
	if err != nil {
		const effect = "every slot of the job is missed until it is mended or deleted"
		return register{}, fmt.Errorf("%w: read the register %s: %w; %s", ErrMisconfigured, b.object(key), err, effect)
	}
	r.Job = job // whatever it says
	if tag := head.Get("Etag"); tag != "" {
		return register{r, tag}, nil
	}
	return register{}, fmt.Errorf("%w: %s came without an ETag", ErrMisconfigured, b.object(key))
}

// believe refuses a register that lists runs of the future.
func (b *bucket) believe(r register) error {
	now := b.clock.high()
	run, ahead := r.ahead(now)
	if !ahead {
		return nil
	}
	what := "claimed " + run.Slot.Format(time.RFC3339) + " at " + run.Claimed.Format(time.RFC3339)
	if run.Until.After(now.Add(maxUntil)) {
		what = "runs " + run.Slot.Format(time.RFC3339) + " until " + run.Until.Format(time.RFC3339)
	}
	return fmt.Errorf("%w: the register %s says that %q %s, in the future by the store's clock; "+
		"every slot of the job is missed until the object is deleted, by somebody who looks who may write it",
		errAhead, b.object(b.key(r.Job)), oneLine(run.Owner, 100), what)
}

// put writes r if the object has not changed since it was read, and returns its new tag.
func (b *bucket) put(ctx context.Context, r register) (string, error) {
	body, err := r.encode()
	if err != nil {
		return "", err
	}
	c := condition{"If-Match", r.tag}
	if r.tag == absent {
		c = condition{"If-None-Match", "*"}
	}
	head, _, err := b.do(ctx, call{http.MethodPut, b.key(r.Job), body, &c, maxRegister})
	if err != nil {
		return "", err
	}
	return head.Get("Etag"), nil
}

// answer is an error response of S3.
type answer struct {
	method  string
	status  int
	code    string
	message string
}

func (e *answer) Error() string {
	return fmt.Sprintf("%s answered %d %s: %s", e.method, e.status, e.code, e.message)
}

// uncertain wraps the error of a request that may have taken effect.
type uncertain struct{ error }

func (e uncertain) Unwrap() error { return e.error }

// condition is a header that makes a request conditional, and its value.
type condition [2]string

// call is one request.
type call struct {
	method string
	path   string // key of an object, or a query
	body   []byte
	when   *condition
	limit  int64 // bytes of the response's body; one more is read
}

// do makes one request and returns the response's header and body. The error is uncertain when there was no response.
func (b *bucket) do(ctx context.Context, c call) (http.Header, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	req, err := b.request(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	sent := b.clock.boot()
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, nil, uncertain{err}
	}
	defer resp.Body.Close()
	dated := b.clock.hear(resp.Header, sent)
	got, err := io.ReadAll(io.LimitReader(resp.Body, c.limit+1))
	switch {
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusRequestTimeout:
		return nil, nil, uncertain{refusal(c.method, resp, got)}
	case !dated && c.method == http.MethodGet && (resp.StatusCode < 300 || resp.StatusCode == http.StatusNotFound):
		return nil, nil, fmt.Errorf("%w: %s answers without a Date: what runs elsewhere cannot be judged",
			ErrMisconfigured, b.root)
	case resp.StatusCode >= 300:
		return nil, nil, b.explain(refusal(c.method, resp, got))
	case err != nil:
		return nil, nil, uncertain{err}
	}
	return resp.Header, got, nil
}

func (b *bucket) request(ctx context.Context, c call) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, c.method, b.root+"/"+c.path, bytes.NewReader(c.body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMisconfigured, err)
	}
	sum := sha256.Sum256(c.body)
	hash := hex.EncodeToString(sum[:])
	req.Header.Set("X-Amz-Content-Sha256", hash) // before signing: it is part of what is signed
	if c.when != nil {
		req.Header.Set(c.when[0], c.when[1])
		req.Header.Set("Content-Type", "application/json")
	}
	creds, err := b.credentials.Retrieve(ctx)
	if err != nil {
		return nil, fmt.Errorf("find credentials: %w", err)
	}
	return req, b.signer.SignHTTP(ctx, creds, req, hash, "s3", b.region, time.Now())
}

func refusal(method string, resp *http.Response, body []byte) *answer {
	var e struct {
		Code    string
		Message string
	}
	if xml.Unmarshal(body, &e) != nil || e.Code == "" { // it comes from a proxy
		e.Code, e.Message = http.StatusText(resp.StatusCode), "without S3's own words"
	}
	return &answer{method, resp.StatusCode, oneLine(e.Code, 100), oneLine(e.Message, 300)}
}

// explain wraps errors that only an operator can mend. All others end by themselves, or with the window.
func (b *bucket) explain(e *answer) error {
	switch {
	case e.code == "AccessDenied" || e.code == "AllAccessDisabled":
		return fmt.Errorf("%w: %w; the instance's role needs: %s", ErrDenied, e, b.statement())
	case e.code == "NoSuchBucket" || e.code == "InvalidBucketName":
		return fmt.Errorf("%w: the bucket does not exist: %w", ErrMisconfigured, e)
	case e.status >= 300 && e.status < 400 || e.code == "AuthorizationHeaderMalformed" || e.code == "PermanentRedirect":
		return fmt.Errorf("%w: the bucket is not in %s: %w", ErrMisconfigured, b.region, e)
	case e.code == "RequestTimeTooSkewed":
		return fmt.Errorf("this instance's clock is wrong, check chronyd: %w", e)
	}
	return e
}

// statement is the policy that the role needs. Without ListBucket S3 answers for a register that does not exist yet as
// if it were forbidden.
func (b *bucket) statement() string {
	return fmt.Sprintf(`{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":"%s/%s*"},`+
		`{"Effect":"Allow","Action":"s3:ListBucket","Resource":"%[1]s"}`, b.arn, b.keys)
}

func (b *bucket) object(key string) string {
	return "s3://" + b.arn[strings.LastIndex(b.arn, ":")+1:] + "/" + key
}

// isConflict reports whether another instance wrote since the register was read. AWS answers 409 when two writes meet
// and 404 when an object to match does not exist; other services answer 412 for both.
func isConflict(err error) bool {
	e, ok := errors.AsType[*answer](err)
	return ok && (e.status == http.StatusPreconditionFailed || e.status == http.StatusConflict ||
		e.status == http.StatusNotFound && e.code != "NoSuchBucket") && !isUncertain(err)
}

// isFinal reports whether only an operator can mend err. A register that does not parse may be a proxy's page, and is
// read again.
func isFinal(err error) bool {
	_, refused := errors.AsType[*answer](err)
	return errors.Is(err, errAhead) || refused && (errors.Is(err, ErrDenied) || errors.Is(err, ErrMisconfigured))
}

// isUnsure reports whether a write may have taken effect.
func isUncertain(err error) bool {
	_, ok := errors.AsType[uncertain](err)
	return ok
}
