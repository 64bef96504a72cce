package cloudwatch

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"reflect"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"beanstalk-agent/collectors"
	"beanstalk-agent/packaging/testbed/cloudwatchfake"
	"beanstalk-agent/packaging/testbed/planted"
)

// Set in the child that TestKill9 kills: the fake's URL and the spool.
const childURL, childSpool = "CLOUDWATCH_TEST_URL", "CLOUDWATCH_TEST_SPOOL"

// killConfig publishes every second over a real socket.
func killConfig(url, dir string) Config {
	c := config()
	c.Send, c.SpoolDir, c.Interval = On, dir, time.Second
	c.Connect = func(context.Context) (aws.Config, error) {
		return aws.Config{
			Region: "eu-west-1", BaseEndpoint: &url, RequestMinCompressSizeBytes: 10240,
			Credentials: credentials.NewStaticCredentialsProvider("AKID", planted.Value, planted.Value),
			Retryer:     func() aws.Retryer { return aws.NopRetryer{} },
		}, nil
	}
	return c
}

func TestMain(m *testing.M) {
	if url := os.Getenv(childURL); url != "" {
		child(url, os.Getenv(childSpool))
		return
	}
	os.Exit(m.Run())
}

// child publishes values that no other process of it publishes, until it is killed.
func child(url, dir string) {
	p, err := New(killConfig(url, dir))
	if err != nil {
		panic(err)
	}
	go p.Run(context.Background())
	for t := range time.Tick(20 * time.Millisecond) {
		p.Add(collectors.Batch{At: t, Samples: []collectors.Sample{sample("time", float64(t.UnixNano()))}})
	}
}

// What was on disk when the process was killed arrives, whatever it was doing; and what may arrive twice is known from
// the files alone. The far side applies each request and loses its answer, which is the worst moment there is.
func TestKill9(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 4 s")
	}
	fake := &cloudwatchfake.Server{}
	server := httptest.NewServer(fake)
	defer server.Close()
	dir := t.TempDir()
	kept := map[string]Datum{}
	for round := range 4 {
		fake.Misbehave([]cloudwatchfake.Fault{cloudwatchfake.AnswerLost, cloudwatchfake.Hang}[round%2], -1)
		seen, before := len(fake.Requests()), files(dir)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childURL+"="+server.URL, childSpool+"="+dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool { return len(fake.Requests()) > seen && files(dir) > before+1 })
		cmd.Process.Signal(syscall.SIGKILL)
		cmd.Wait()
		for _, d := range onDisk(t, dir) {
			kept[fmt.Sprint(d)] = d
		}
	}
	if len(kept) < 4 {
		t.Fatalf("only %d datums were on disk when four processes were killed", len(kept))
	}
	fake.Misbehave(cloudwatchfake.None, 0)

	p := newPublisher(t, killConfig(server.URL, dir))
	p.pace = 20 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	waitFor(t, func() bool { s := p.Status(); return s.State == Sending && s.Spooled == 0 })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	extra := 0
	for _, d := range kept {
		n := 0
		for _, got := range fake.Points() {
			if got.Name == d.Name && reflect.DeepEqual(got.Values, d.Values) {
				n++
			}
		}
		if n == 0 {
			t.Errorf("%v was on disk and never arrived", d)
		}
		extra += max(0, n-1)
	}
	s := p.Status()
	if extra > int(s.PossibleDuplicates) || extra == 0 || s.Dropped != 0 {
		t.Errorf("%d datums arrived twice, status %+v", extra, s)
	}
}

func files(dir string) int {
	fs, _ := os.ReadDir(dir)
	return len(fs)
}

func onDisk(t *testing.T, dir string) (out []Datum) {
	s := openTestSpool(t, dir, 1<<20)
	for _, e := range s.entries {
		rec, err := s.load(e)
		if err != nil {
			t.Fatal(err)
		}
		_, _, ds, err := decodeRecord(rec)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, ds...)
	}
	return out
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(40 * time.Second); !ok(); <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited 40 s")
		}
	}
}
