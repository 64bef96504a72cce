package cloudwatchfake

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/encoding/cbor"

	"beanstalk-agent/packaging/testbed/gotool"
	"beanstalk-agent/packaging/testbed/planted"
)

// serve starts a fake and returns an unmodified client of it, with retries off.
func serve(t *testing.T) (*Server, *cloudwatch.Client, string) {
	t.Helper()
	s := &Server{}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return s, cloudwatch.NewFromConfig(aws.Config{
		Region: "eu-west-1", BaseEndpoint: &h.URL, RequestMinCompressSizeBytes: 10240,
		Credentials: credentials.NewStaticCredentialsProvider("AKID", planted.Value, planted.Value),
		Retryer:     func() aws.Retryer { return aws.NopRetryer{} },
	}), h.URL
}

// datum is valid.
func datum() types.MetricDatum {
	return types.MetricDatum{
		MetricName: aws.String("mem_used_percent"), Unit: types.StandardUnitPercent, Timestamp: aws.Time(time.Now().Truncate(time.Minute)),
		Values: []float64{10, 20, 90}, Counts: []float64{5, 4, 1},
		Dimensions: []types.Dimension{{Name: aws.String("EnvironmentName"), Value: aws.String("shop prod")}},
	}
}

func put(t *testing.T, c *cloudwatch.Client, namespace string, ds ...types.MetricDatum) error {
	_, err := c.PutMetricData(t.Context(), &cloudwatch.PutMetricDataInput{Namespace: &namespace, MetricData: ds})
	return err
}

func code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return fmt.Sprint(err)
}

func TestAcceptsWhatTheClientSends(t *testing.T) {
	s, c, _ := serve(t)
	many := make([]types.MetricDatum, 200)
	for i := range many {
		many[i] = datum()
	}
	if err := put(t, c, "App", datum()); err != nil {
		t.Fatal(err)
	}
	if err := put(t, c, "App", many...); err != nil {
		t.Fatal(err)
	}
	r := s.Requests()
	if len(r) != 2 || r[0].Gzip || !r[1].Gzip || len(s.Points()) != 201 {
		t.Errorf("got %d points in %+v", len(s.Points()), r)
	}
	want := Point{"App", "mem_used_percent", "Percent", map[string]string{"EnvironmentName": "shop prod"}, *datum().Timestamp,
		[]float64{10, 20, 90}, []float64{5, 4, 1}, 60}
	if got := s.Points()[200]; fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) && !got.Time.Equal(want.Time) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// One bad datum refuses the whole request, as the documents have it.
func TestLimitsAreAllOrNothing(t *testing.T) {
	text := func(n int) *string { return aws.String(strings.Repeat("x", n)) }
	for _, tt := range []struct {
		name  string
		spoil func(*types.MetricDatum)
	}{
		{"no name", func(d *types.MetricDatum) { d.MetricName = aws.String(" ") }},
		{"long name", func(d *types.MetricDatum) { d.MetricName = text(256) }},
		{"name not ASCII", func(d *types.MetricDatum) { d.MetricName = aws.String("café") }},
		{"unit", func(d *types.MetricDatum) { d.Unit = "Furlongs" }},
		{"resolution", func(d *types.MetricDatum) { d.StorageResolution = aws.Int32(5) }},
		{"too old", func(d *types.MetricDatum) { d.Timestamp = aws.Time(time.Now().Add(-14*24*time.Hour - time.Minute)) }},
		{"too far ahead", func(d *types.MetricDatum) { d.Timestamp = aws.Time(time.Now().Add(2*time.Hour + time.Minute)) }},
		{"NaN", func(d *types.MetricDatum) { d.Values[1] = math.NaN() }},
		{"Inf", func(d *types.MetricDatum) { d.Values[1] = math.Inf(1) }},
		{"too large", func(d *types.MetricDatum) { d.Values[1] = math.Ldexp(1.01, 360) }},
		{"count of nothing", func(d *types.MetricDatum) { d.Counts[1] = 0 }},
		{"counts missing", func(d *types.MetricDatum) { d.Counts = d.Counts[:2] }},
		{"no value", func(d *types.MetricDatum) { d.Values, d.Counts = nil, nil }},
		{"151 values", func(d *types.MetricDatum) { d.Values, d.Counts = make([]float64, 151), nil }},
		{"dimension name", func(d *types.MetricDatum) { d.Dimensions[0].Name = aws.String(":x") }},
		{"dimension value", func(d *types.MetricDatum) { d.Dimensions[0].Value = text(1025) }},
		{"empty dimension value", func(d *types.MetricDatum) { d.Dimensions[0].Value = aws.String("") }},
		{"31 dimensions", func(d *types.MetricDatum) {
			for i := range 30 {
				d.Dimensions = append(d.Dimensions, types.Dimension{Name: aws.String(fmt.Sprint(i)), Value: text(1)})
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, c, _ := serve(t)
			bad := datum()
			tt.spoil(&bad)
			if err := put(t, c, "App", datum(), bad, datum()); err == nil || len(s.Points()) != 0 {
				t.Errorf("got %v, %d points applied", err, len(s.Points()))
			}
		})
	}
}

func TestLimitsOfTheRequest(t *testing.T) {
	s, c, _ := serve(t)
	datums := func(n, values int) []types.MetricDatum {
		ds := make([]types.MetricDatum, n)
		for i := range ds {
			ds[i] = datum()
			ds[i].Values, ds[i].Counts = make([]float64, values), nil
			for j := range ds[i].Values {
				ds[i].Values[j] = float64(i*values + j)
			}
		}
		return ds
	}
	for _, tt := range []struct {
		name, namespace string
		ds              []types.MetricDatum
		code            string
	}{
		{"1001 datums", "App", datums(1001, 1), "InvalidParameterValue"},
		{"1 MB", "App", datums(800, 150), "RequestEntityTooLarge"},
		{"AWS namespace", "AWS/EC2", datums(1, 1), "InvalidParameterValue"},
		{"colon namespace", ":App", datums(1, 1), "InvalidParameterValue"},
	} {
		if err := put(t, c, tt.namespace, tt.ds...); code(err) != tt.code {
			t.Errorf("%s: got %q (%v), want %q", tt.name, code(err), err, tt.code)
		}
	}
	if err := put(t, c, "App", datums(1000, 1)...); err != nil || len(s.Points()) != 1000 {
		t.Errorf("1000 datums: %v, %d applied", err, len(s.Points()))
	}
}

func TestMisbehaves(t *testing.T) {
	for _, tt := range []struct {
		fault   Fault
		code    string // "" for no answer that the client understands
		applied int
	}{
		{Throttle, "Throttling", 0}, {Deny, "AccessDenied", 0}, {Internal, "InternalFailure", 0},
		{Reset, "", 0}, {AnswerLost, "", 1}, {Answer500, "InternalFailure", 1}, {Truncated, "", 1},
	} {
		t.Run(string(tt.fault), func(t *testing.T) {
			s, c, _ := serve(t)
			if err := s.Misbehave(tt.fault, 1); err != nil {
				t.Fatal(err)
			}
			err := put(t, c, "App", datum())
			if err == nil || tt.code != "" && code(err) != tt.code || len(s.Points()) != tt.applied {
				t.Errorf("got %v, %d applied", err, len(s.Points()))
			}
			if err := put(t, c, "App", datum()); err != nil || len(s.Points()) != tt.applied+1 {
				t.Errorf("afterwards: %v, %d applied", err, len(s.Points()))
			}
		})
	}
	if err := (&Server{}).Misbehave("teapot", 1); err == nil {
		t.Error("a fault that does not exist was accepted")
	}
}

// The SDK ships the bytes its own encoder must make of a request with every member set. They are decoded here without
// its decoder, so that a mistake both share would show.
func TestDecodesTheSDKsOwnSnapshot(t *testing.T) {
	module := gotool.ModuleDir(t, "github.com/aws/aws-sdk-go-v2/service/cloudwatch")
	snap, err := os.ReadFile(filepath.Join(module, "request_snapshot", "PutMetricData.request.snap"))
	if err != nil {
		t.Fatal(err)
	}
	// Three parts with an empty line between: the request line, the headers, the body.
	parts := bytes.SplitN(snap, []byte("\n\n"), 3)
	if len(parts) != 3 || string(parts[0]) != "POST "+putPath {
		t.Fatalf("the snapshot begins with %.80q", snap)
	}
	v, err := cbor.Decode(parts[2])
	if err != nil {
		t.Fatal(err)
	}
	points, err := decodePut(v)
	if err != nil {
		t.Fatal(err)
	}
	if len(points) != 6 {
		t.Fatalf("got %d datums, want 2 and 2 of each of 2 entities", len(points))
	}
	for _, p := range points {
		if p.Namespace != "__Namespace__" || p.Name != "__MetricName__" || p.Unit != "Seconds" || p.Dimensions["__Name__"] != "__Value__" || p.Time.IsZero() {
			t.Errorf("got %+v", p)
		}
	}
}

// Debian's awscli is by others and speaks another protocol: what it reads back is what a person would see.
func TestCommandLineReadsBack(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 8 s: the command line is slow")
	}
	_, c, url := serve(t)
	one, other := datum(), datum()
	at := *one.Timestamp // the command line is slow: minutes may pass
	other.Dimensions, other.Values, other.Counts, other.Value = nil, nil, nil, aws.Float64(7)
	if err := put(t, c, "App", one, other); err != nil {
		t.Fatal(err)
	}
	var list struct {
		Metrics []struct {
			Namespace, MetricName string
			Dimensions            []struct{ Name, Value string }
		}
	}
	awscli(t, url, &list, "list-metrics", "--namespace", "App")
	if len(list.Metrics) != 2 || list.Metrics[0].Dimensions[0].Value != "shop prod" {
		t.Errorf("got metrics %+v", list)
	}
	var got struct {
		Datapoints []struct {
			Timestamp                                   string
			SampleCount, Average, Sum, Minimum, Maximum float64
			Unit                                        string
			ExtendedStatistics                          map[string]float64
		}
	}
	args := []string{"get-metric-statistics", "--namespace", "App", "--metric-name", "mem_used_percent", "--period", "60",
		"--start-time", at.UTC().Format(time.RFC3339), "--end-time", at.Add(time.Minute).UTC().Format(time.RFC3339),
		"--dimensions", "Name=EnvironmentName,Value=shop prod"}
	awscli(t, url, &got, append(args, "--statistics", "SampleCount", "Average", "Sum", "Minimum", "Maximum")...)
	if len(got.Datapoints) != 1 || got.Datapoints[0].SampleCount != 10 || got.Datapoints[0].Sum != 220 ||
		got.Datapoints[0].Minimum != 10 || got.Datapoints[0].Maximum != 90 || got.Datapoints[0].Average != 22 || got.Datapoints[0].Unit != "Percent" {
		t.Fatalf("got %+v", got)
	}
	awscli(t, url, &got, append(args, "--extended-statistics", "p50", "p99")...)
	if e := got.Datapoints[0].ExtendedStatistics; e["p50"] != 10 || e["p99"] != 90 {
		t.Errorf("got percentiles %v", e)
	}
}

// What the command line writes and what the SDK writes is one and the same.
func TestCommandLineWritesTheSame(t *testing.T) {
	s, c, url := serve(t)
	one := datum()
	if err := put(t, c, "App", one); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal([]map[string]any{{"MetricName": *one.MetricName, "Unit": one.Unit, "Timestamp": one.Timestamp.UTC().Format(time.RFC3339),
		"Values": one.Values, "Counts": one.Counts, "StorageResolution": 60,
		"Dimensions": []map[string]string{{"Name": *one.Dimensions[0].Name, "Value": *one.Dimensions[0].Value}}}})
	if err != nil {
		t.Fatal(err)
	}
	awscli(t, url, nil, "put-metric-data", "--namespace", "App", "--metric-data", string(b))
	got := s.Points()
	if len(got) != 2 || fmt.Sprint(got[0]) != fmt.Sprint(got[1]) {
		t.Errorf("got %v, want the same twice", got)
	}
	if r := s.Requests(); len(r) != 2 || !r[1].Applied || r[1].Datums != 1 {
		t.Errorf("got requests %+v", r)
	}
}

func awscli(t *testing.T, url string, out any, args ...string) {
	t.Helper()
	const bin = "/usr/bin/aws" // Debian's own, whatever PATH says
	if _, err := os.Stat(bin); err != nil {
		gotool.Need(t, "Debian's package awscli")
	}
	cmd := exec.CommandContext(t.Context(), bin, append([]string{"--endpoint-url", url, "--region", "eu-west-1", "--output", "json", "cloudwatch"}, args...)...)
	cmd.Env = []string{"AWS_ACCESS_KEY_ID=AKID", "AWS_SECRET_ACCESS_KEY=" + planted.Value, "HOME=" + t.TempDir(), "PATH=/usr/bin:/bin"}
	b, err := cmd.Output()
	if err != nil {
		t.Fatalf("aws %q: %v", args, err)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal(b, out); err != nil {
		t.Fatalf("aws %q: %v in %s", args, err, b)
	}
}

func FuzzPut(f *testing.F) {
	f.Add(cbor.Encode(cbor.Map{"Namespace": cbor.String("App"), "MetricData": cbor.List{cbor.Map{
		"MetricName": cbor.String("m"), "Value": cbor.Float64(1), "Timestamp": &cbor.Tag{ID: 1, Value: cbor.Float64(1e9)},
		"Dimensions": cbor.List{cbor.Map{"Name": cbor.String("n"), "Value": cbor.String("v")}}, "Counts": cbor.List{cbor.Uint(1)},
	}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := cbor.Decode(b)
		if err != nil {
			return
		}
		points, err := decodePut(v)
		if err != nil || validate(points, time.Unix(1e9, 0)) != nil {
			return
		}
		for _, p := range points { // what is accepted can be read
			datapoint([]Point{p}, []string{"Sum"}, []string{"p99"})
		}
	})
}
