package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/cloudwatch"
	"beanstalk-agent/packaging/testbed/cloudwatchfake"
	"beanstalk-agent/packaging/testbed/planted"
)

// flushWorld is a directory in which agents run one after the other.
type flushWorld struct {
	*testing.T
	dir    string
	client *api.Client
}

// start runs the real program against a CloudWatch at url until it has measured
// something and has a client to send it with; stop sends SIGTERM and waits.
func (w *flushWorld) start(url string) (stop func()) {
	w.Helper()
	health, err := freePort()
	if err != nil {
		w.Fatal(err)
	}
	conf := fmt.Sprintf("state_dir: %s/state\nhealth: {listen: '127.0.0.1:%d'}\nmetrics: {sample: 1s, interval: 10m, send: on}\n"+
		"aws: {region: eu-west-1, cloudwatch_endpoint: '%s'}\n", w.dir, health, url)
	if err := errors.Join(os.WriteFile(filepath.Join(w.dir, "agent.yaml"), []byte(conf), 0o600),
		os.WriteFile(filepath.Join(w.dir, ".env"), []byte("PLANTED="+planted.Value+"\n"), 0o600)); err != nil {
		w.Fatal(err)
	}
	log := &strings.Builder{}
	cmd := exec.Command("agent", "run", "--app", w.dir, "--socket", w.dir+"/s", "--config", w.dir+"/agent.yaml")
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY="+planted.Value, "AWS_EC2_METADATA_DISABLED=true", "NOTIFY_SOCKET=")
	cmd.Stderr, cmd.WaitDelay = io.MultiWriter(log, w.Output()), time.Second
	if err := cmd.Start(); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	await(w.T, "the agent measures and is connected", func() bool {
		var p cloudwatch.Payload
		var s api.Status
		return w.client.Get(w.Context(), "/v1/metrics", &p) == nil && len(p.Datums) > 5 &&
			w.client.Get(w.Context(), "/v1/status", &s) == nil && connected.MatchString(fmt.Sprint(s))
	})
	return func() {
		w.Helper()
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			w.Errorf("after SIGTERM: %v\n%s", err, log)
		}
	}
}

var connected = regexp.MustCompile("nothing has been sent yet|sending: ")

// spooled lists the batches on disk.
func (w *flushWorld) spooled() []string {
	files, _ := filepath.Glob(w.dir + "/state/spool/*-*-*.*")
	return files
}

func samplesOf(fake *cloudwatchfake.Server, name string) (n float64) {
	for _, p := range fake.Points() {
		if p.Name == name {
			for _, c := range p.Counts {
				n += c
			}
		}
	}
	return n
}

// Scale-in, a reboot, an upgrade: after SIGTERM the interval under way is sent;
// when it cannot be, it is on disk, and the next start delivers it, once.
func TestNothingMeasuredIsLostAtAStop(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 4 s")
	}
	dir, err := os.MkdirTemp("", "a") // short: a socket's path may have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &flushWorld{t, dir, api.NewClient(dir + "/s")}
	fake := &cloudwatchfake.Server{}
	reachable := httptest.NewServer(fake)
	t.Cleanup(reachable.Close)

	w.start(reachable.URL)()
	first := samplesOf(fake, "mem_used_percent")
	if first < 1 {
		t.Error("a stop with CloudWatch reachable: nothing was sent")
	}
	if left := w.spooled(); left != nil {
		t.Errorf("a stop with CloudWatch reachable leaves %v", left)
	}

	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	w.start("http://" + nobody.Addr().String())()
	if left := w.spooled(); len(left) != 1 || !strings.HasSuffix(left[0], ".new") {
		t.Fatalf("a stop with CloudWatch out of reach leaves %v, want one batch never sent", left)
	}
	if n := samplesOf(fake, "mem_used_percent"); n != first {
		t.Fatalf("%v samples arrived, want %v as before", n, first)
	}

	stop := w.start(reachable.URL)
	await(t, "the next start delivers", func() bool { return w.spooled() == nil && samplesOf(fake, "mem_used_percent") > first })
	second := samplesOf(fake, "mem_used_percent")
	stop()
	if n := samplesOf(fake, "possible_duplicates"); n != 0 {
		t.Errorf("%v possible duplicates, want none: nothing was on the wire", n)
	}
	if n := samplesOf(fake, "mem_used_percent"); n <= second || w.spooled() != nil {
		t.Errorf("its own stop: %v samples after %v, %v left", n, second, w.spooled())
	}
}
