package cloudwatch

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/smithy-go/encoding/cbor"

	"beanstalk-agent/collectors"
	"beanstalk-agent/packaging/testbed/cloudwatchfake"
	"beanstalk-agent/packaging/testbed/golden"
	"beanstalk-agent/packaging/testbed/gotool"
	"beanstalk-agent/packaging/testbed/planted"
)

// The bytes of one publish, decoded without the SDK and written as text: what a change of aggregation, naming or encoding
// does on the wire is seen in review.
func TestGoldenRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.config.Instance = true
		p, stop := w.start()
		for tick := range 3 {
			v := float64(tick)
			p.Add(collectors.Batch{At: time.Now(), Samples: []collectors.Sample{
				sample("mem_used_percent", 61.25+v), sample("disk_used_percent", 40, "path", "/"), sample("disk_used_percent", 80, "path", "/var/caf\u00e9"),
				{Name: "group_memory_pss", Unit: collectors.Bytes, Value: 512 << 20, Labels: []collectors.Label{{Key: "group", Value: "web"}}},
				{Name: "listen_backlog", Unit: collectors.Count, Value: v / 2}, {Name: "oom_kills", Value: 0},
			}})
			time.Sleep(5 * time.Second)
		}
		time.Sleep(time.Minute)
		stop()
		r := w.fake.Requests()[0]
		v, err := cbor.Decode(r.Body)
		if r.Gzip || err != nil {
			t.Fatalf("gzip %v, %v", r.Gzip, err)
		}
		golden.Compare(t, "testdata/request.golden", text(v, 0)+"\n")
	})
}

// text prints a CBOR value, maps in the order of their keys.
func text(v cbor.Value, depth int) string {
	in := strings.Repeat("  ", depth)
	var b strings.Builder
	switch v := v.(type) {
	case cbor.Map:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			fmt.Fprintf(&b, "\n%s%s:%s", in, k, text(v[k], depth+1))
		}
	case cbor.List:
		for _, e := range v {
			fmt.Fprintf(&b, "\n%s-%s", in, text(e, depth+1))
		}
	case *cbor.Tag:
		return fmt.Sprintf(" tag %d%s", v.ID, text(v.Value, depth))
	default:
		return fmt.Sprintf(" %T %v", v, v)
	}
	return b.String()
}

// What was published over a real socket is what another program reads back.
func TestCommandLineReadsWhatWasPublished(t *testing.T) {
	const bin = "/usr/bin/aws"
	if _, err := os.Stat(bin); err != nil {
		gotool.Need(t, "Debian's package awscli")
	}
	fake := &cloudwatchfake.Server{}
	server := httptest.NewServer(fake)
	defer server.Close()
	p := newPublisher(t, killConfig(server.URL, t.TempDir()))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	at := time.Now()
	for _, v := range []float64{1, 1, 2, 40} {
		p.Add(collectors.Batch{At: at, Samples: []collectors.Sample{sample("mem_used_percent", v, "path", "/")}})
	}
	waitFor(t, func() bool { return p.Status().Sent > 0 })
	cancel()
	<-done
	cmd := exec.Command(bin, "--endpoint-url", server.URL, "--region", "eu-west-1", "--output", "json", "cloudwatch", "get-metric-statistics",
		"--namespace", "BeanstalkAgent", "--metric-name", "mem_used_percent", "--dimensions", "Name=EnvironmentName,Value=shop-prod", "Name=path,Value=/",
		"--start-time", at.Add(-time.Minute).UTC().Format(time.RFC3339), "--end-time", at.Add(time.Minute).UTC().Format(time.RFC3339),
		"--period", "3600", "--statistics", "SampleCount", "Sum", "Maximum")
	cmd.Env = []string{"AWS_ACCESS_KEY_ID=AKID", "AWS_SECRET_ACCESS_KEY=" + planted.Value, "HOME=" + t.TempDir(), "PATH=/usr/bin:/bin"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Datapoints []struct {
			SampleCount, Sum, Maximum float64
			Unit                      string
		}
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Datapoints) != 1 || got.Datapoints[0].SampleCount != 4 || got.Datapoints[0].Sum != 44 || got.Datapoints[0].Maximum != 40 || got.Datapoints[0].Unit != "Percent" {
		t.Errorf("got %s", out)
	}
}
