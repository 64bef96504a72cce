package cloudwatch

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"beanstalk-agent/collectors"
	"beanstalk-agent/packaging/testbed/planted"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// config is valid and sends nothing.
func config() Config {
	return Config{
		Namespace: "BeanstalkAgent", Send: Off, Dimensions: [][]string{{"EnvironmentName"}},
		Dimension: func(name string) string {
			return map[string]string{"EnvironmentName": "shop-prod", "InstanceId": "i-0abc"}[name]
		},
	}
}

func newPublisher(t testing.TB, c Config) *Publisher {
	t.Helper()
	if c.Logger == nil {
		c.Logger = planted.Log(t)
	}
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func sample(name string, v float64, labels ...string) collectors.Sample {
	s := collectors.Sample{Name: name, Unit: collectors.Percent, Value: v}
	for i := 0; i < len(labels); i += 2 {
		s.Labels = append(s.Labels, collectors.Label{Key: labels[i], Value: labels[i+1]})
	}
	return s
}

func TestNewReturnsAllFaultsAtOnce(t *testing.T) {
	_, err := New(Config{Namespace: "AWS/EC2", Interval: time.Millisecond, Send: "maybe", Dimensions: [][]string{{":x"}, {"naïve"}}})
	for _, want := range []string{"AWS/", "1ms", `"maybe"`, "Connect and SpoolDir", "dimension set", `":x"`, "ASCII"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %s: %v", want, err)
		}
	}
}

// The shape that scripts rely on: DESIGN's contract of `agent metrics --once --json`.
func TestPreviewShape(t *testing.T) {
	p := newPublisher(t, config())
	for i, v := range []float64{40, 60, 40, 100} {
		p.Add(collectors.Batch{At: noon.Add(time.Duration(i) * 5 * time.Second), Samples: []collectors.Sample{
			sample("mem_used_percent", v), sample("disk_used_percent", 7, "path", "/"),
		}})
	}
	got, err := json.Marshal(p.Preview())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"namespace":"BeanstalkAgent","datums":[` +
		`{"name":"mem_used_percent","unit":"Percent","dimensions":{"EnvironmentName":"shop-prod"},"value":60,"values":[40,60,100],"counts":[2,1,1]},` +
		`{"name":"disk_used_percent","unit":"Percent","dimensions":{"EnvironmentName":"shop-prod","path":"/"},"value":7,"values":[7],"counts":[4]}]}`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestDimensionSets(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"as configured", func(c *Config) {}, "EnvironmentName"},
		{"per instance", func(c *Config) { c.Instance = true }, "EnvironmentName EnvironmentName+InstanceId"},
		{"as the CloudWatch agent", func(c *Config) { c.Namespace = CWAgentNamespace }, "EnvironmentName InstanceId"},
		{"twice is once", func(c *Config) { c.Dimensions = [][]string{{"EnvironmentName"}, {"EnvironmentName"}} }, "EnvironmentName"},
		{"unknown is left out whole", func(c *Config) {
			c.Dimensions = [][]string{{"EnvironmentName", "AutoScalingGroupName"}, {"InstanceId"}}
		}, "InstanceId"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := config()
			tt.change(&c)
			p := newPublisher(t, c)
			p.Add(collectors.Batch{At: noon, Samples: []collectors.Sample{sample("m", 1)}})
			var got []string
			for _, d := range p.Preview().Datums {
				got = append(got, strings.Join(sortedKeys(d.Dimensions), "+"))
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			unknown := p.Status().Unknown
			if left := strings.HasPrefix(tt.name, "unknown"); left != slices.Equal(unknown, []string{"AutoScalingGroupName"}) {
				t.Errorf("unknown: got %q", unknown) // what is left out must be shown
			}
		})
	}
}

// Config.Dimension may resolve the application's environment, which takes seconds: only who asked for it may wait.
func TestSlowDimensionBlocksNeitherAddNorStatus(t *testing.T) {
	for name, ask := range map[string]func(context.Context, *Publisher){
		"a preview": func(_ context.Context, p *Publisher) { p.Preview() },
		"a publish": func(ctx context.Context, p *Publisher) { p.Run(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			asked, release := make(chan struct{}, 1), make(chan struct{})
			c := config()
			c.Interval = time.Second
			c.Dimension = func(string) string {
				select {
				case asked <- struct{}{}:
				default:
				}
				<-release
				return "shop-prod"
			}
			p := newPublisher(t, c)
			add := func() { p.Add(collectors.Batch{At: time.Now(), Samples: []collectors.Sample{sample("m", 1)}}) }
			add()
			ctx, cancel := context.WithCancel(t.Context())
			var others sync.WaitGroup
			t.Cleanup(func() { close(release); cancel(); others.Wait() })
			others.Go(func() { ask(ctx, p) })
			<-asked
			done := make(chan struct{})
			others.Go(func() { add(); p.Status(); p.Cost(1); close(done) })
			select {
			case <-done:
			case <-time.After(10 * time.Second):
				t.Error("Add and Status wait for Dimension")
			}
		})
	}
}

// A datum that CloudWatch would refuse fails its whole request: it is dropped before, and counted.
func TestBadSamplesAreDropped(t *testing.T) {
	p := newPublisher(t, config())
	p.Add(collectors.Batch{At: noon, Samples: []collectors.Sample{
		sample("good", 1),
		sample("nan", math.NaN()), sample("inf", math.Inf(-1)), sample("huge", math.Ldexp(1, 361)), sample("edge", math.Ldexp(1, 360)),
		sample("", 1), sample(strings.Repeat("x", 256), 1), sample("label", 1, "path", " "), sample("label", 1, ":path", "/"),
		{Name: "unit", Unit: "Furlongs", Value: 1},
		sample("process", 1, "name", "café\n"), sample("process", 1, "name", "cafe"),
	}})
	got := map[string]string{}
	for _, d := range p.Preview().Datums {
		got[d.Name+d.Dimensions["name"]] = d.bad()
	}
	if len(got) != 4 || got[`processcaf\u00e9\n`] != "" {
		t.Errorf("got %q", got)
	}
	for name, why := range got {
		if why != "" {
			t.Errorf("%s would be refused: %s", name, why)
		}
	}
	if s := p.Status(); s.Dropped != 8 {
		t.Errorf("dropped %d by %v, want 8", s.Dropped, s.DroppedBy)
	}
}

func TestMoreThan150ValuesAreSeveralDatums(t *testing.T) {
	p := newPublisher(t, config())
	for i := range 400 {
		p.Add(collectors.Batch{At: noon, Samples: []collectors.Sample{sample("m", float64(i%301))}})
	}
	var sizes []int
	var n float64
	for _, d := range p.Preview().Datums {
		sizes = append(sizes, len(d.Values))
		for _, c := range d.Counts {
			n += c
		}
	}
	if len(sizes) != 3 || sizes[0] != 150 || sizes[2] != 1 || n != 400 {
		t.Errorf("got datums of %v values, %v samples", sizes, n)
	}
}

func TestCost(t *testing.T) {
	c := config()
	c.Instance = true
	p := newPublisher(t, c)
	for i := range 20 {
		p.Add(collectors.Batch{At: noon, Samples: []collectors.Sample{sample("m", 1, "i", string(rune('a'+i)))}})
	}
	got := p.Cost(10)
	want := Cost{Series: 20, Sets: 1, OwnSets: 1, Instances: 10, Metrics: 220, Requests: 438000, Dollars: 220*0.30 + 4.38, ForMetrics: 220 * 0.30}
	if math.Abs(got.Dollars-want.Dollars) > 1e-9 {
		t.Errorf("got %v dollars, want %v", got.Dollars, want.Dollars)
	}
	if got.Dollars = want.Dollars; got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if d := metricPrice(10_001); math.Abs(d-3000.10) > 1e-9 {
		t.Errorf("10,001 metrics cost %v", d)
	}
}
