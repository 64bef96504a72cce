package awsconf

import (
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
	deaf, err := net.Listen("tcp", "127.0.0.1:0") // accepts into its backlog and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	roleless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
			fmt.Fprint(w, planted.Value)
			return
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	defer roleless.Close()
	for name, tt := range map[string]struct {
		vars  map[string]string
		words string
	}{
		"deaf":     {map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://" + deaf.Addr().String()}, "and no instance metadata service answers"},
		"disabled": {map[string]string{"AWS_EC2_METADATA_DISABLED": "TRUE"}, "and AWS_EC2_METADATA_DISABLED is set"},
		"refused":  {map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"}, "and no instance metadata service answers"},
		"no role":  {map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": roleless.URL}, "and the instance has no role: give its environment an instance profile"},
	} {
		t.Run(name, func(t *testing.T) {
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
	a, _ := New(Config{Getenv: env(map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": v1.URL})})
	if role, err := a.Role(t.Context()); err == nil {
		t.Errorf("got role %q without a token", role)
	}
}

// AWS's own mock in its version 2 only mode: region, identity, role and credentials come from it.
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
	id, err := a.Identity(t.Context())
	if err != nil || id.Account != "0123456789" || id.InstanceID != "i-1234567890abcdef0" {
		t.Errorf("got identity %+v, %v", id, err)
	}
	if role, err := a.Role(t.Context()); err != nil || role != "baskinc-role" {
		t.Errorf("got role %q, %v", role, err)
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
