package awsconf

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"beanstalk-agent/packaging/testbed/cloudwatchfake"
	"beanstalk-agent/packaging/testbed/gotool"
	"beanstalk-agent/packaging/testbed/planted"
)

func env(m map[string]string) func(string) string { return func(k string) string { return m[k] } }

func TestNewTellsAllFaultsAtOnce(t *testing.T) {
	_, err := New(Config{
		Region:             "eu-west-1/../x",
		CloudWatchEndpoint: "user:planted-5c1e@monitoring",
		Getenv:             env(map[string]string{"AWS_SESSION_TOKEN": planted.Value, "AWS_ACCESS_KEY_ID": "AKID", "AWS_CA_BUNDLE": "/nowhere"}),
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"AWS_SECRET_ACCESS_KEY", `region "eu-west-1/../x"`, "CloudWatch endpoint"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not name %s: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), planted.Value) {
		t.Errorf("error repeats the endpoint's password: %v", err)
	}
}

func TestEnvironmentIsEnough(t *testing.T) {
	a, err := New(Config{Getenv: env(map[string]string{
		"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": planted.Value, "AWS_SESSION_TOKEN": planted.Value, "AWS_REGION": "eu-west-1",
		"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:2",
		"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1", // would fail, must not be asked
	})})
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.CloudWatch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	creds, err := c.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c.Region != "eu-west-1" || *c.BaseEndpoint != "http://127.0.0.1:1" || a.S3Endpoint() != "http://127.0.0.1:2" ||
		creds.AccessKeyID != "AKID" || creds.SessionToken != planted.Value || c.RequestMinCompressSizeBytes != compressFrom {
		t.Errorf("got region %q, endpoint %q, s3 %q, key %q, compress from %d",
			c.Region, *c.BaseEndpoint, a.S3Endpoint(), creds.AccessKeyID, c.RequestMinCompressSizeBytes)
	}
}

// Off EC2 nothing answers: a start waits for this, so it must end soon, and say which of the two is missing.
func TestNothingAnswers(t *testing.T) {
	roleless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
			fmt.Fprint(w, planted.Value)
			return
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(roleless.Close)
	for name, tt := range map[string]struct {
		vars  map[string]string
		words string
	}{
		"deaf":     {map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": deaf(t)}, "and no instance metadata service answers"},
		"disabled": {map[string]string{"AWS_EC2_METADATA_DISABLED": "TRUE"}, "and AWS_EC2_METADATA_DISABLED is set"},
		"refused":  {map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"}, "and no instance metadata service answers"},
		"no role":  {map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": roleless.URL}, "and the instance has no role: give its environment an instance profile"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait
			vars := tt.vars
			a, err := New(Config{Getenv: env(vars)})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if _, err := a.CloudWatch(t.Context()); !errors.Is(err, ErrNoRegion) {
				t.Errorf("got %v, want ErrNoRegion", err)
			}
			vars["AWS_REGION"] = "eu-west-1"
			a, _ = New(Config{Getenv: env(vars)})
			if _, err := a.CloudWatch(t.Context()); !errors.Is(err, ErrNoCredentials) || !strings.HasSuffix(err.Error(), tt.words) {
				t.Errorf("got %v, want ErrNoCredentials ending in %q", err, tt.words)
			}
			if took := time.Since(start); took > 2*imdsQuery+2*time.Second {
				t.Errorf("two questions took %v", took)
			}
		})
	}
}

// A service that answers version 1 must not be believed: no token, no credentials.
func TestNoFallbackToVersion1(t *testing.T) {
	v1 := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		fmt.Fprint(w, "role")
	}))
	defer v1.Close()
	if role, err := metadataAt(t, v1.URL).Metadata(t.Context(), "meta-data/iam/security-credentials/"); err == nil {
		t.Errorf("got role %q without a token", role)
	}
}

// AWS's own mock in its version 2 only mode: region, credentials and both kinds of paths come from it.
func TestRealMetadataMock(t *testing.T) {
	a, err := New(Config{Getenv: env(map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": startMock(t)})})
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.CloudWatch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	creds, err := c.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c.Region != "us-east-1" || creds.AccessKeyID != "12345678901" || !creds.CanExpire {
		t.Errorf("got region %q, key %q, can expire %v", c.Region, creds.AccessKeyID, creds.CanExpire)
	}
	for path, want := range map[string]string{
		"dynamic/instance-identity/document":       `"accountId": "0123456789"`,
		"meta-data/iam/security-credentials/":      "baskinc-role",
		"meta-data/tags/instance/is-not-there":     "",
		"meta-data/spot/instance-action/not-there": "",
	} {
		if got, err := a.Metadata(t.Context(), path); err != nil || !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("%s: got %q, %v", path, got, err)
		}
	}
}

// An instance's tags are there only where they were enabled.
func TestTagsFromTheRealMetadataMock(t *testing.T) {
	const path = "meta-data/tags/instance/elasticbeanstalk:environment-name"
	for tag, want := range map[string]string{"elasticbeanstalk:environment-name": "shop-prod", "Name": ""} {
		a := metadataAt(t, gotool.Metadata(t, map[string]any{"metadata": map[string]any{
			"paths":  map[string]string{"tags-instance-name": "/latest/meta-data/tags/instance/" + tag},
			"values": map[string]string{"tags-instance-name": "shop-prod"},
		}}))
		if got, err := a.Metadata(t.Context(), path); err != nil || got != want {
			t.Errorf("tag %s: got %q, %v", tag, got, err)
		}
	}
}

// The instance role's credentials, from AWS's own mock, sign a PutMetricData that is accepted.
func TestRoleSignsMetrics(t *testing.T) {
	fake := &cloudwatchfake.Server{}
	var auth atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		auth.Store(r.Header.Get("Authorization") + " token=" + r.Header.Get("X-Amz-Security-Token"))
		fake.ServeHTTP(w, r)
	}))
	defer server.Close()
	a, err := New(Config{CloudWatchEndpoint: server.URL, Getenv: env(map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": startMock(t)})})
	if err != nil {
		t.Fatal(err)
	}
	put(t, a)
	if got := auth.Load().(string); !strings.Contains(got, "Credential=12345678901/") || !strings.Contains(got, "/us-east-1/monitoring/") || !strings.HasSuffix(got, "token="+planted.Value) {
		t.Errorf("signed as %q", got)
	}
	if len(fake.Points()) != 1 {
		t.Errorf("%d datums arrived", len(fake.Points()))
	}
}

// https is verified against the one bundle that is named, and against nothing else.
func TestTrustsTheNamedBundleOnly(t *testing.T) {
	fake := &cloudwatchfake.Server{}
	server := httptest.NewTLSServer(fake)
	defer server.Close()
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(bundle, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	vars := map[string]string{"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": planted.Value, "AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL": server.URL}
	a, err := New(Config{Getenv: env(vars)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.HTTPClient().Get(server.URL); err == nil {
		t.Error("a certificate nobody vouches for is trusted")
	}
	vars["AWS_CA_BUNDLE"] = bundle
	if a, err = New(Config{Getenv: env(vars)}); err != nil {
		t.Fatal(err)
	}
	put(t, a)
	if len(fake.Points()) != 1 {
		t.Errorf("%d datums arrived", len(fake.Points()))
	}
	vars["AWS_CA_BUNDLE"] = bundle + "x"
	if _, err = New(Config{Getenv: env(vars)}); err == nil || !strings.Contains(err.Error(), "AWS_CA_BUNDLE") {
		t.Errorf("a bundle that is not there: %v", err)
	}
}

func metadataAt(t *testing.T, url string) *AWS {
	t.Helper()
	a, err := New(Config{Getenv: env(map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": url})})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A caller that gives up returns at once, also while another one's question hangs.
func TestACancelledCallerWaitsForNoOther(t *testing.T) {
	asked, hang := make(chan bool, 9), make(chan struct{})
	service := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- true; <-hang }))
	defer service.Close()
	defer close(hang)
	a := metadataAt(t, service.URL)
	first := make(chan error)
	go func() { _, err := a.Region(context.Background()); first <- err }()
	<-asked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	start := time.Now()
	if _, err := a.Region(ctx); !errors.Is(err, context.Canceled) || !errors.Is(err, ErrNoRegion) {
		t.Errorf("the cancelled caller: %v", err)
	}
	if took := time.Since(start); took > imdsAnswer/2 {
		t.Errorf("the cancelled caller waited %s", took)
	}
	if err := <-first; !errors.Is(err, ErrNoRegion) {
		t.Errorf("the other caller: %v", err)
	}
}

// A proxy, even of the agent's own environment, must not carry a metadata request away; version 1 is never spoken;
// every wrong answer is said, within a time limit.
func TestMetadataServicesThatFail(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	var v1 atomic.Int64
	answer := func(status int) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Aws-Ec2-Metadata-Token") == "" && r.Method != http.MethodPut {
				v1.Add(1)
			}
			w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
			w.WriteHeader(status)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	for name, c := range map[string]struct{ endpoint, want string }{
		"302":        {answer(302), "status 302"},
		"401":        {answer(401), "status 401"},
		"403":        {answer(403), "status 403"},
		"404":        {answer(404), "status 404"},
		"500":        {answer(500), "status 500"},
		"deaf":       {deaf(t), "no instance metadata service answers"},
		"black hole": {blackHole(t), "no instance metadata service answers"},
		"refused":    {"http://127.0.0.1:1", "no instance metadata service answers"},
		"no address": {"http://[::1", "ask the instance metadata service"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait
			start := time.Now()
			got, err := metadataAt(t, c.endpoint).Metadata(t.Context(), "dynamic/instance-identity/document")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, %v", got, err)
			}
			if took := time.Since(start); took > imdsQuery+time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
	t.Cleanup(func() {
		if v1.Load() > 0 {
			t.Errorf("%d requests of version 1", v1.Load())
		}
	})
}

// deaf accepts into its backlog and never answers.
func deaf(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return "http://" + l.Addr().String()
}

// A service that has forgotten its tokens costs one more question and no answer.
func TestForgottenTokenIsRenewed(t *testing.T) {
	var valid atomic.Value
	valid.Store("old")
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut:
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
			fmt.Fprint(w, valid.Load())
		case r.Header.Get("X-Aws-Ec2-Metadata-Token") != valid.Load():
			w.WriteHeader(http.StatusUnauthorized)
		default:
			fmt.Fprint(w, "InService\n")
		}
	}))
	defer service.Close()
	a := metadataAt(t, service.URL)
	for _, token := range []string{"old", "new"} {
		valid.Store(token)
		if got, err := a.Metadata(t.Context(), "meta-data/autoscaling/target-lifecycle-state"); err != nil || got != "InService" {
			t.Errorf("token %s: got %q, %v", token, got, err)
		}
	}
}

// No answer is read without end, whoever sends it: a token, a value, or what CloudWatch says.
func TestEndlessAnswersEnd(t *testing.T) {
	for name, endless := range map[string]func(*http.Request) bool{
		"token": func(r *http.Request) bool { return r.Method == http.MethodPut },
		"value": func(r *http.Request) bool { return r.Method == http.MethodGet },
		"AWS":   func(r *http.Request) bool { return r.Method == http.MethodPost },
	} {
		t.Run(name, func(t *testing.T) {
			var sent atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
				for chunk := []byte(strings.Repeat("a", 64<<10)); endless(r) && sent.Load() < 64<<20; {
					n, err := w.Write(chunk)
					sent.Add(int64(n))
					if err != nil {
						return
					}
				}
			}))
			defer server.Close()
			if name == "AWS" {
				a, err := New(Config{CloudWatchEndpoint: server.URL, Region: "eu-west-1",
					Getenv: env(map[string]string{"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": planted.Value})})
				if err != nil {
					t.Fatal(err)
				}
				c, err := a.CloudWatch(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				cloudwatch.NewFromConfig(c).ListMetrics(t.Context(), nil)
			} else if got, err := metadataAt(t, server.URL).Metadata(t.Context(), "meta-data/instance-id"); err == nil {
				t.Errorf("%d bytes were taken", len(got))
			}
			if n := sent.Load(); n > 24<<20 { // two attempts, and what lies in the sockets
				t.Errorf("%d MB were read", n>>20)
			}
		})
	}
}

func put(t *testing.T, a *AWS) {
	t.Helper()
	c, err := a.CloudWatch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = cloudwatch.NewFromConfig(c).PutMetricData(t.Context(), &cloudwatch.PutMetricDataInput{Namespace: aws.String("App"), MetricData: []types.MetricDatum{
		{MetricName: aws.String("m"), Value: aws.Float64(1), Timestamp: aws.Time(time.Now())},
	}})
	if err != nil {
		t.Fatal(err)
	}
}

func startMock(t *testing.T) string {
	return gotool.Metadata(t, gotool.Role("12345678901", planted.Value, planted.Value))
}

// BenchmarkMetadata is half of what the watch for termination notices costs every five seconds, the other side included.
func BenchmarkMetadata(b *testing.B) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
		fmt.Fprint(w, "InService")
	}))
	defer service.Close()
	a, err := New(Config{Getenv: env(map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": service.URL})})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Metadata(b.Context(), "meta-data/autoscaling/target-lifecycle-state"); err != nil {
			b.Fatal(err)
		}
	}
}
