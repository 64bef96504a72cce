package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/packaging/testbed/gotool"
	"beanstalk-agent/packaging/testbed/versity"
)

// A kill is what befalls a slot.
type kill struct {
	step string // after which
	by   func(*stage)
	then string // what the job does once it has signed
	late bool   // what was on its way arrives when all are back
	want []string
}

// A slot's way is: claimed in the store, asked of the supervisor, recorded there,
// forked, answered, noted as settled by the agent, ended, recorded again. Here the
// agent, its supervisor or both are killed at each step of it, once, on the first
// slot; the store and the supervisor's socket are reached through proxies that stand
// still meanwhile. No slot runs twice, retries: 1 or not, and each that did not run,
// or not to its end, is named.
func TestKilledAtEachStepOfASlot(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 20 s")
	}
	t.Parallel()
	if os.Geteuid() != 0 {
		gotool.Need(t, "root, for host names of their own")
	}
	store := versity.Start(t, fleetBucket)[0]
	metadata := gotool.Metadata(t, map[string]any{}) // an instance knows its own claims again
	agent, super, both := (*stage).killAgent, (*stage).killSupervisor, func(s *stage) { s.killAgent(); s.killSupervisor() }
	none := func(*stage) {} // beside the supervisor, which is killed at once where its books are watched
	// If the next is due before all are back a later run stands for it, or none does: the
	// metadata service may not say in time who claims.
	const ran, lost, stood, not = "ran", "lost", "a later run stands for it", "not started"
	var wg sync.WaitGroup
	some := make(chan struct{}, 6) // at a time: they mostly wait, and are more than there are processors
	for name, c := range map[string]kill{
		"agent, before its claim is made":      {step: "claim sent", by: agent, want: []string{ran, stood, not}},
		"agent, and its claim arrives late":    {step: "claim sent", by: agent, late: true, want: []string{ran, stood, not}},
		"agent, before it knows of its claim":  {step: "claimed", by: agent, want: []string{ran, stood, not}},
		"agent, before its start is asked for": {step: "start sent", by: agent, want: []string{ran, stood, not}},
		"agent, and its start arrives late":    {step: "start sent", by: agent, late: true, want: []string{ran, stood, not}},
		"agent, before it knows of the start":  {step: "started", by: agent, want: []string{ran}},
		"agent, before it notes the start":     {step: "started", by: (*stage).killForgetful, late: true, want: []string{ran}},
		"agent, while the job runs":            {step: "signed", by: agent, then: "sleep 2", want: []string{ran}},
		"agent, and the job ends meanwhile":    {step: "signed", by: (*stage).killUntilTheEnd, then: "sleep 0.5", want: []string{ran}},
		"supervisor, before it hears of it":    {step: "start sent", by: super, want: []string{ran}},
		"supervisor, as it makes the record":   {step: "in the books", by: none, want: []string{ran, lost}},
		"supervisor, as it has recorded it":    {step: "recorded", by: none, want: []string{ran, lost}},
		"supervisor, before it answers":        {step: "started", by: super, want: []string{ran, lost}},
		"supervisor, by the job, as it begins": {then: "[ -e ../killed ] || { : >../killed; kill -9 $PPID; }; sleep 1", want: []string{ran}},
		"both, before the start is asked for":  {step: "start sent", by: both, want: []string{ran, stood, not}},
		"both, as it is recorded":              {step: "recorded", by: agent, want: []string{ran, lost, stood, not}},
		"both, before it answers":              {step: "started", by: both, want: []string{ran, lost, stood, not}},
	} {
		wg.Go(func() {
			some <- struct{}{}
			t.Run(name, func(t *testing.T) { c.play(t, store, metadata) })
			<-some
		})
	}
	wg.Wait()
}

// play lets a host live until some slots after the kill, and judges.
func (k kill) play(t *testing.T, store, metadata string) {
	s := newStage(t, store, k.step, k.late)
	every := map[string]time.Duration{"job": time.Second}
	config := fmt.Sprintf("aws: {region: us-east-1, s3_endpoint: '%s'}\ncron: {claims: 's3://%s/%s'}\n", s.store, fleetBucket, filepath.Base(s.ground.dir))
	cron := fmt.Sprintf("cron:\n- {name: job, schedule: '@every 1s', retries: 1, backoff: 1s, command: '%s; %s'}\n", s.ground.signs("job"), cmp.Or(k.then, ":"))
	s.host = s.ground.add(config, cron, "AWS_ACCESS_KEY_ID="+versity.AccessKey, "AWS_SECRET_ACCESS_KEY="+versity.SecretKey,
		"AWS_EC2_METADATA_DISABLED=", "AWS_EC2_METADATA_SERVICE_ENDPOINT="+metadata)
	s.play(k.by)
	first := s.first()
	if first.job == "" {
		t.Fatal("no claim was seen")
	}
	var until int64
	await(t, "a later slot runs", func() bool {
		for later := range s.ground.read(every).ran {
			until = max(until, later.due)
		}
		return until > first.due+2
	})
	s.judge(every, first, until, k.want)
}

// A stage is a ground with one host whose store and supervisor are reached through
// proxies.
type stage struct {
	t      *testing.T
	ground *ground
	host   *host
	dir    string // the host's
	store  string // its address for the agent

	step    string        // at which all stands still, once
	late    bool          // whether what stood still then goes on
	reached chan struct{} // closed at the step
	resume  chan struct{} // closed to go on
	once    sync.Once
	gone    sync.Once

	mu   sync.Mutex
	slot slot        // the first that was claimed
	real *os.Process // the supervisor
}

func newStage(t *testing.T, store, step string, late bool) *stage {
	g := newGround(t)
	s := &stage{t: t, ground: g, dir: filepath.Join(g.dir, "i-00"), step: step, late: late, reached: make(chan struct{}), resume: make(chan struct{})}
	if err := os.MkdirAll(filepath.Join(s.dir, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.claim(w, r, store) }))
	t.Cleanup(proxy.Close)
	s.store = proxy.URL
	kept := make(chan struct{})
	go func() { defer close(kept); s.keepSupervisor() }()
	l, err := fdconn.Listen(filepath.Join(s.dir, "s-supervisor.sock"), nil) // the agent's own gives up
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.ask(conn)
		}
	}()
	t.Cleanup(func() { // first of all, and not in order: there is nobody left to end
		s.host.killed()
		s.killSupervisor()
		<-kept
		hear(t, filepath.Join(s.dir, "log"))
		hear(t, filepath.Join(s.dir, "supervisor.log"))
		g.hosts = nil
	})
	if step == "in the books" || step == "recorded" {
		go s.watchBooks()
	}
	return s
}

// at stands still at the step, the first time, and reports whether to go on.
func (s *stage) at(step string) bool {
	on := true
	if step == s.step {
		s.once.Do(func() {
			close(s.reached)
			<-s.resume
			on = s.late
		})
	}
	return on
}

var slotField = regexp.MustCompile(`"slot":\s*"([^"]+)"`)

// claim passes a request on to the store.
func (s *stage) claim(w http.ResponseWriter, r *http.Request, store string) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if !strings.Contains(r.URL.Path, "/"+filepath.Base(s.ground.dir)+"/") { // a port that was another store's a moment ago may be ours now
		s.t.Logf("not of this host: %s %s", r.Method, r.URL.Path)
		panic(http.ErrAbortHandler)
	}
	put := r.Method == http.MethodPut
	if m := slotField.FindSubmatch(body); m != nil {
		s.mu.Lock()
		if at, err := time.Parse(time.RFC3339, string(m[1])); err == nil && s.slot.job == "" {
			s.slot = slot{"job", at.Unix()}
		}
		s.mu.Unlock()
	}
	if put && !s.at("claim sent") {
		panic(http.ErrAbortHandler)
	}
	out, err := http.NewRequest(r.Method, store+r.URL.RequestURI(), bytes.NewReader(body)) // without r's context: what has been sent arrives
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	out.Header, out.Host = r.Header.Clone(), r.Host // the host is part of the signature
	resp, err := http.DefaultTransport.RoundTrip(out)
	if err != nil || put && !s.at("claimed") {
		panic(http.ErrAbortHandler)
	}
	defer resp.Body.Close()
	for k, v := range resp.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(resp.StatusCode)
	io.Copy(w, resp.Body)
}

// ask passes a connection on to the supervisor. A start is one request, answered at once and at its end.
func (s *stage) ask(agent net.Conn) {
	defer agent.Close()
	head := make([]byte, 64<<10)
	n, err := agent.Read(head)
	if err != nil {
		return
	}
	start := bytes.HasPrefix(head[:n], []byte("POST /v1/runs?"))
	if start && !s.at("start sent") {
		return
	}
	real, err := net.Dial("unix", filepath.Join(s.dir, "real.sock"))
	if err != nil {
		return // as if nobody listened: it is asked again
	}
	defer real.Close()
	real.Write(head[:n])
	if !start {
		go func() { io.Copy(real, agent); real.Close() }()
		io.Copy(agent, real)
		return
	}
	go io.Copy(real, agent)
	n, _ = real.Read(head)
	if s.at("started") {
		agent.Write(head[:n])
		io.Copy(agent, real)
	}
}

// watchBooks reaches the step as soon as the first run's record is so far.
func (s *stage) watchBooks() {
	pattern := map[string]string{"in the books": "job-*", "recorded": "job-*/meta.json"}[s.step]
	for {
		select {
		case <-s.t.Context().Done():
			return
		default:
		}
		if found, _ := filepath.Glob(filepath.Join(s.dir, "state/runs", pattern)); len(found) > 0 {
			s.killSupervisor()
			s.at(s.step)
			return
		}
	}
}

// play waits for the step, kills, and lets the rest go on.
func (s *stage) play(kill func(*stage)) {
	s.t.Helper()
	switch s.step {
	case "": // the job does it
		await(s.t, "the supervisor is killed", func() bool { _, err := os.Stat(filepath.Join(s.dir, "killed")); return err == nil })
		return
	case "signed":
		await(s.t, "the job runs", func() bool { return len(s.ground.read(nil).ran) > 0 })
	default:
		select {
		case <-s.reached:
		case <-time.After(time.Minute):
			s.t.Fatal("in vain: " + s.step)
		}
	}
	kill(s)
	s.goOn()
}

func (s *stage) goOn() { s.gone.Do(func() { close(s.resume) }) }

func (s *stage) killAgent() {
	s.host.killed()
	s.host.start()
	if s.late {
		s.host.answers()
	}
}

// killForgetful kills the agent when it knows of the start, cannot have noted it, and
// the run is over.
func (s *stage) killForgetful() {
	inTheWay := filepath.Join(s.dir, "state/cron.json.new") // of what it writes before it renames
	await(s.t, "the agent writes nothing there", func() bool { return os.Mkdir(inTheWay, 0o700) == nil })
	s.goOn()
	s.awaitEnd()
	await(s.t, "the agent cannot note it", func() bool {
		b, err := os.ReadFile(filepath.Join(s.dir, "log"))
		return err == nil && bytes.Contains(b, []byte("what has run cannot be saved"))
	})
	s.host.killed()
	if err := os.Remove(inTheWay); err != nil {
		s.t.Fatal(err)
	}
	s.host.start()
}

// killUntilTheEnd kills the agent and brings it back when the job has ended.
func (s *stage) killUntilTheEnd() {
	s.host.killed()
	s.awaitEnd()
	s.host.start()
}

func (s *stage) awaitEnd() {
	s.t.Helper()
	await(s.t, "the run ends", func() bool {
		found, _ := filepath.Glob(filepath.Join(s.dir, "state/runs/job-*/status.json"))
		return len(found) > 0
	})
}

// keepSupervisor starts a supervisor and, as systemd does, the next when it has ended:
// one that comes while the last thing of its predecessor is about to go may give up.
func (s *stage) keepSupervisor() {
	for s.t.Context().Err() == nil {
		c := exec.Command(filepath.Join(s.ground.dir, "agent"), "supervise", "--socket", filepath.Join(s.dir, "real.sock"), "--state", filepath.Join(s.dir, "state"), "--allow-user", "*", "--allow-root")
		c.Env = []string{}
		log, err := os.OpenFile(filepath.Join(s.dir, "supervisor.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			s.t.Error(err)
			return
		}
		c.Stderr = log
		err = c.Start()
		log.Close()
		if err != nil {
			s.t.Error(err)
			return
		}
		s.mu.Lock()
		s.real = c.Process
		s.mu.Unlock()
		c.Wait()
		<-time.After(100 * time.Millisecond)
	}
}

func (s *stage) killSupervisor() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.real != nil {
		s.real.Kill()
	}
}

func (s *stage) first() slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slot
}

// judge looks at all slots from the first to one that ran later.
func (s *stage) judge(every map[string]time.Duration, first slot, until int64, want []string) {
	s.t.Helper()
	var b balance
	defer func() {
		if s.t.Failed() {
			s.t.Log(b)
		}
	}()
	await(s.t, "every slot is accounted for", func() bool {
		b = s.ground.read(every).judge(every, time.Unix(first.due, 0), time.Unix(until+1, 0))
		return len(b.silent) == 0 || len(b.doubles) > 0
	})
	a := s.ground.read(every)
	what := a.named[first]
	if len(a.ran[first]) > 0 {
		what = "ran"
	}
	s.t.Logf("the slot: %s (%s); all: %s", what, a.named[first], b)
	if len(b.doubles) > 0 || len(a.again[first]) > 0 {
		s.t.Errorf("ran twice: %v, %v", b.doubles, a.again)
	}
	for _, w := range want {
		if strings.Contains(what, w) {
			return
		}
	}
	s.t.Errorf("the slot: %q, want %q", what, want)
}
