package cron

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/planted"
	"beanstalk-agent/packaging/testbed/versity"
	"beanstalk-agent/scheduler"
)

// hands is a supervisor in small: it starts real processes, each of a group of its own, and waits for them.
type hands struct {
	t   *testing.T
	mu  sync.Mutex
	all map[string]*hand
}

type hand struct {
	run  runs.Run
	cmd  *exec.Cmd
	done chan struct{}
}

func (s *hands) Begin(ctx context.Context, o appenv.ProfileOptions, r runs.Request) (runs.Run, func() (runs.Run, error), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ended := func() (runs.Run, error) { return s.Wait(ctx, r.ID) }
	if h := s.all[r.ID]; h != nil {
		return h.run, ended, runs.ErrExists
	}
	h := &hand{cmd: exec.Command(r.Args[0], r.Args[1:]...), done: make(chan struct{}),
		run: runs.Run{ID: r.ID, Kind: r.Kind, Name: r.Name, Slot: r.Slot, Attempt: r.Attempt, Reason: r.Reason, Meta: r.Meta,
			State: runs.StateRunning, Started: time.Now()}}
	h.cmd.Env = append(os.Environ(), append(o.Extra, "SLOT="+strconv.FormatInt(r.Slot.UnixMilli(), 10))...)
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := h.cmd.Start(); err != nil {
		return runs.Run{}, nil, err
	}
	s.all[r.ID] = h
	s.t.Cleanup(func() { syscall.Kill(-h.cmd.Process.Pid, syscall.SIGKILL) })
	go func() {
		h.cmd.Wait()
		s.mu.Lock()
		h.run.State, h.run.Ended, h.run.ExitCode = runs.StateExited, time.Now(), h.cmd.ProcessState.ExitCode()
		s.mu.Unlock()
		close(h.done)
	}()
	return h.run, ended, nil
}

func (s *hands) Get(_ context.Context, id string) (runs.Run, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.all[id]; h != nil {
		return h.run, nil
	}
	return runs.Run{}, runs.ErrUnknown
}

func (s *hands) Wait(ctx context.Context, id string) (runs.Run, error) {
	s.mu.Lock()
	h := s.all[id]
	s.mu.Unlock()
	if h == nil {
		return runs.Run{}, runs.ErrUnknown
	}
	select {
	case <-ctx.Done():
		return runs.Run{}, context.Cause(ctx)
	case <-h.done:
		return s.Get(ctx, id)
	}
}

func (s *hands) Stop(ctx context.Context, id string, _ time.Duration) (runs.Run, error) {
	s.mu.Lock()
	h := s.all[id]
	s.mu.Unlock()
	if h == nil {
		return runs.Run{}, runs.ErrUnknown
	}
	syscall.Kill(-h.cmd.Process.Pid, syscall.SIGTERM)
	return s.Wait(ctx, id)
}

func (s *hands) Interrupt(ctx context.Context, id, _ string) (runs.Run, error) {
	return s.Stop(ctx, id, 0)
}

func (s *hands) List(context.Context, runs.Filter) (list []runs.Run, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.all {
		if h.run.State == runs.StateRunning {
			list = append(list, h.run)
		}
	}
	return list, nil
}

func (s *hands) Info(context.Context) (runs.Info, error)                                { return runs.Info{}, nil }
func (s *hands) RenewLease(context.Context, string, time.Duration, runs.BootTime) error { return nil }
func (s *hands) Events(context.Context, uint64) iter.Seq2[runs.Event, error] {
	return func(func(runs.Event, error) bool) {}
}

// agentIn is the cron of one instance of an environment.
type agentIn struct {
	*Cron
	hands *hands
	log   *lockedBuffer
	stop  func() // ends its process, and leaves its runs
	again func() *agentIn
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startAgent starts the cron of an instance with that id in an environment of that name. vars are the application's.
func startAgent(t *testing.T, endpoint, environment, id, vars, file string) *agentIn {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"opt/elasticbeanstalk/deployment/cfn-metadata-cache.json": `{"EbResource":{"AWS::ElasticBeanstalk::Metadata":{"EnvironmentName":"` + environment + `"}}}`,
		"opt/elasticbeanstalk/deployment/env":                     "PATH=" + os.Getenv("PATH") + "\n" + vars,
		"etc/passwd":                                              fmt.Sprintf("webapp:x:%d:%d::/:/bin/sh\n", os.Geteuid(), os.Getegid()),
		"etc/systemd/system/web.service":                          "[Service]\nUser=webapp\n",
		"var/app/current/cron.yaml":                               file,
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(root, name), text)
	}
	imds := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
		if strings.HasSuffix(r.URL.Path, "/document") {
			io.WriteString(w, `{"instanceId":"`+id+`","region":"us-east-1","accountId":"123456789012"}`)
		}
	}))
	t.Cleanup(imds.Close)
	aws := awsAt(t, endpoint, map[string]string{"AWS_ACCESS_KEY_ID": versity.AccessKey,
		"AWS_SECRET_ACCESS_KEY": versity.SecretKey, "AWS_EC2_METADATA_SERVICE_ENDPOINT": imds.URL})
	a := &agentIn{hands: &hands{t: t, all: map[string]*hand{}}, log: &lockedBuffer{}}
	state := t.TempDir()
	a.again = func() *agentIn {
		log := planted.Log(t, a.log)
		inst := platform.NewInstance(t.Context(), platform.Options{Root: root, AppDir: filepath.Join(root, "var/app/current"), Region: "us-east-1", IMDS: aws})
		next := &agentIn{hands: a.hands, log: a.log, again: a.again}
		var err error
		next.Cron, err = New(Config{App: app.New(app.Config{}, inst), AWS: aws, Runs: a.hands, Begin: a.hands.Begin, Log: log,
			Files: []string{"cron.yaml"}, Claims: "s3://bucket/claims", StateDir: state, HoldFile: filepath.Join(state, "held")})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var parts sync.WaitGroup
		parts.Go(func() { inst.Run(ctx, log) })
		<-inst.Identified()
		parts.Go(func() { next.Run(ctx) })
		next.stop = sync.OnceFunc(func() { cancel(); parts.Wait() })
		t.Cleanup(next.stop)
		return next
	}
	return a.again()
}

// interval is a run, as it says itself.
type interval struct {
	job, slot  string
	start, end float64
	pid        string
}

// writes is a command that writes when it starts and ends, to file, and takes so long.
func writes(file, job string, seconds int) string {
	return fmt.Sprintf(`[sh, -c, "say() { echo $1 %s $SLOT $$ $(date +%%s.%%N) >>%s; }; trap 'say end; exit 1' TERM; say start; sleep %d & wait $!; say end"]`,
		job, file, seconds)
}

// intervals reads what the runs have written. One that has not ended goes on.
func intervals(t *testing.T, file string) (list []interval) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		w := strings.Fields(line)
		at, err := strconv.ParseFloat(w[4], 64)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(list, func(i interval) bool { return i.pid == w[3] && i.slot == w[2] && i.job == w[1] })
		if w[0] == "start" {
			list = append(list, interval{w[1], w[2], at, 1e18, w[3]})
		} else {
			list[i].end = at
		}
	}
	return list
}

// apart fails if two runs of a job were in progress at once, or a slot ran twice, and returns how many there were of each.
func apart(t *testing.T, list []interval) map[string]int {
	t.Helper()
	n := map[string]int{}
	for i, a := range list {
		n[a.job]++
		for _, b := range list[i+1:] {
			if a.job == b.job && a.start < b.end && b.start < a.end {
				t.Errorf("two runs of %s at once: slot %s from %.3f to %.3f and slot %s from %.3f to %.3f",
					a.job, a.slot, a.start, a.end, b.slot, b.start, b.end)
			}
			if a.job == b.job && a.slot == b.slot {
				t.Errorf("slot %s of %s ran twice", a.slot, a.job)
			}
		}
	}
	return n
}

// until waits for what ok says, for a minute.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after a minute still not: %s", what)
		}
	}
}

// Three instances, a job each four seconds that takes ten: whatever the policy, never two at once, by what the runs say
// themselves; and no slot without a word on any instance.
func TestOverlapHoldsInTheFleet(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	t.Parallel()
	store, file := versity.Start(t, "bucket"), filepath.Join(t.TempDir(), "runs")
	table := "cron:\n"
	for _, policy := range []string{"skip", "queue", "replace"} {
		table += fmt.Sprintf("- {name: %s, schedule: '*/4 * * * * *', seconds: true, overlap: %[1]s, command: %s}\n", policy, writes(file, policy, 10))
	}
	var fleet []*agentIn
	for i, endpoint := range []string{store[0], store[1], versity.Faulty(t, store[0], 0.1)} {
		fleet = append(fleet, startAgent(t, endpoint, "prod", fmt.Sprintf("i-%017d", i), "", table))
	}
	begin := time.Now()
	until(t, "three runs of each", func() bool {
		n := apart(t, intervals(t, file))
		return n["skip"] >= 3 && n["queue"] >= 3 && n["replace"] >= 3 || t.Failed()
	})
	slots := int(time.Since(begin) / (4 * time.Second))
	for _, a := range fleet {
		for _, s := range a.sched.Snapshot() {
			n := int(s.Counts.Runs + s.Counts.Elsewhere + s.Counts.Overlapped)
			if n += len(s.Running); s.Job.Name == "skip" && n < slots-1 {
				t.Errorf("%s: of %d slots %d are accounted for: %+v", a.cfg.App.Name(), slots, n, s.Counts)
			}
		}
	}
	for _, a := range fleet {
		a.stop()
	}
	apart(t, intervals(t, file))
	if said := fleet[0].log.String() + fleet[1].log.String() + fleet[2].log.String(); !strings.Contains(said, `msg="cron: overlapped" job=skip`) ||
		!strings.Contains(said, "runs it since") {
		t.Error("no log has a slot that overlaps with another instance's run")
	}
}

// A pause on one instance holds on each from its next slot on, each says by whom, and any resumes.
func TestPauseHoldsInTheFleet(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	store, file := versity.Start(t, "bucket"), filepath.Join(t.TempDir(), "runs")
	table := "cron:\n- {name: job, schedule: '*/2 * * * * *', seconds: true, command: " + writes(file, "job", 0) + "}\n"
	var fleet []*agentIn
	for i := range 3 {
		fleet = append(fleet, startAgent(t, store[i%2], "prod", fmt.Sprintf("i-%017d", i), "", table))
	}
	ran := func() int { return len(intervals(t, file)) }
	until(t, "it runs", func() bool { return ran() >= 2 })
	done, err := fleet[0].Pause(t.Context(), api.Caller{Login: "ann"}, "job", api.CronPause{Paused: true})
	if err != nil || done.Here {
		t.Fatalf("%+v, %v", done, err)
	}
	paused := float64(time.Now().UnixMilli()) / 1000
	for _, a := range fleet {
		until(t, "a slot is left out", func() bool { return strings.Contains(a.log.String(), "job is paused: its slots are left out") })
	}
	for _, r := range intervals(t, file) { // by what the runs say: none but one that was claimed before the pause
		if slot, _ := strconv.ParseFloat(r.slot, 64); slot/1000 > paused {
			t.Errorf("slot %s ran after the pause at %.3f", r.slot, paused)
		}
	}
	for _, a := range fleet {
		l, err := a.List(t.Context())
		if err != nil || len(l.Jobs) != 1 || l.Jobs[0].Paused == nil || l.Jobs[0].Next != nil ||
			!strings.Contains(l.Jobs[0].Note, "paused by ann on i-00000000000000000 since ") {
			t.Errorf("%s lists %+v, %v", a.cfg.App.Name(), l.Jobs, err)
		}
	}
	before := ran()
	if _, err := fleet[2].Pause(t.Context(), api.Caller{Login: "bob"}, "job", api.CronPause{}); err != nil {
		t.Fatal(err)
	}
	until(t, "it runs again", func() bool { return ran() > before })
	apart(t, intervals(t, file))
}

// Two environments of one group run each slot once between them, and each environment of its own.
func TestGroupRunsEachSlotOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	store, file := versity.Start(t, "bucket"), filepath.Join(t.TempDir(), "runs")
	table := "group: ${CRON_GROUP}\ncron:\n- {name: job, schedule: '*/2 * * * * *', seconds: true, command: " + writes(file, "job", 0) + "}\n"
	blue := startAgent(t, store[0], "blue", "i-00000000000000001", "CRON_GROUP=shop\n", table)
	green := startAgent(t, store[1], "green", "i-00000000000000002", "CRON_GROUP=shop\n", table)
	slots := func() map[string]bool {
		m := map[string]bool{}
		for _, i := range intervals(t, file) {
			m[i.slot] = true
		}
		return m
	}
	until(t, "ten slots have run", func() bool { return len(slots()) >= 10 })
	for _, a := range []*agentIn{blue, green} {
		h, err := a.History(t.Context(), "job")
		l, _ := a.List(t.Context())
		if err != nil || l.Group != "shop" || len(h.Runs) > 0 && h.Runs[0].Environment == "" {
			t.Errorf("%+v, %v; group %q", h, err, l.Group)
		}
		a.stop()
	}
	apart(t, intervals(t, file))
	var at []int
	for s := range slots() {
		n, _ := strconv.Atoi(s)
		at = append(at, n)
	}
	slices.Sort(at)
	for i := range at[1:] {
		if at[i+1]-at[i] != 2000 {
			t.Errorf("between %d and %d a slot did not run", at[i], at[i+1])
		}
	}
}

// One bundle makes an environment for each process type: each job runs once, where the file says.
func TestProcessTypesOfOneBundle(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	store, file := versity.Start(t, "bucket"), filepath.Join(t.TempDir(), "runs")
	table := "cron:\n"
	for job, types := range map[string]string{"plain": "", "jobs": "process_types: [worker], ", "ticks": "process_types: clock, "} {
		table += fmt.Sprintf("- {name: %s, schedule: '*/2 * * * * *', seconds: true, %scommand: %s}\n", job, types, writes(file, job, 0))
	}
	where := map[string]string{"web": "plain", "worker": "jobs", "clock": "ticks"}
	var all []*agentIn
	for process := range where {
		all = append(all, startAgent(t, store[0], "shop-"+process, "i-"+process, "PROCESS_TYPE="+process+"\n", table))
	}
	until(t, "each job runs", func() bool {
		n := apart(t, intervals(t, file))
		return n["plain"] >= 4 && n["jobs"] >= 4 && n["ticks"] >= 4 || t.Failed()
	})
	for _, a := range all {
		l, err := a.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range l.Jobs {
			here := where[strings.TrimPrefix(a.cfg.App.Name(), "i-")] == j.Name
			if here == strings.Contains(j.Note, "off here: PROCESS_TYPE is ") {
				t.Errorf("on %s %s says %q", a.cfg.App.Name(), j.Name, j.Note)
			}
		}
		for _, line := range a.Status(t.Context()) {
			if line.State == api.Bad || line.State == api.Warn {
				t.Errorf("on %s: %+v", a.cfg.App.Name(), line)
			}
		}
	}
}

// The next process of an instance renews the lease of the run that it finds, and a run on another instance refuses a
// second by hand, unless it is forced.
func TestRunOutlivesItsAgentAndRefusesASecond(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	store, file := versity.Start(t, "bucket"), filepath.Join(t.TempDir(), "runs")
	table := "cron:\n- {name: job, schedule: '*/3 * * * * *', seconds: true, command: " + writes(file, "job", 300) + "}\n"
	a := startAgent(t, store[0], "prod", "i-00000000000000001", "", table)
	until(t, "it runs", func() bool { return len(intervals(t, file)) == 1 })
	a.stop()
	s, err := a.fleet.open()
	if err != nil {
		t.Fatal(err)
	}
	before, err := s.Read(t.Context(), "job")
	if err != nil || len(before.Runs) != 1 {
		t.Fatalf("%+v, %v", before, err)
	}
	next := a.again()
	until(t, "the lease is renewed by the next process", func() bool {
		r, err := s.Read(t.Context(), "job")
		return err == nil && r.Runs[0].Until.After(before.Runs[0].Until)
	})
	other := startAgent(t, store[1], "prod", "i-00000000000000002", "", table)
	until(t, "the other instance says who runs it", func() bool {
		l, err := other.List(t.Context())
		return err == nil && len(l.Jobs) == 1 && strings.Contains(l.Jobs[0].Note, "i-00000000000000001 runs it since ")
	})
	until(t, "it has looked at a slot", func() bool { return strings.Contains(other.log.String(), "overlapped") })
	_, err = other.Trigger(t.Context(), api.Caller{}, "job", false)
	refusal, _ := errors.AsType[*api.Error](err)
	if refusal == nil || refusal.Status != http.StatusConflict || !strings.HasPrefix(refusal.Message, `i-00000000000000001 runs "job" since `) ||
		!strings.Contains(refusal.Hint, "--force job") {
		t.Errorf("a second run by hand: %v", err)
	}
	if r, err := other.Trigger(t.Context(), api.Caller{}, "job", true); err != nil || r.ID == "" {
		t.Errorf("forced: %+v, %v", r, err)
	}
	for _, st := range next.sched.Snapshot() {
		if len(st.Running) != 1 || st.Running[0].Waits != "" || st.Running[0].Reason != scheduler.Adopted ||
			!st.Running[0].Started.Equal(next.hands.all[runs.SlotID("job", before.Runs[0].Slot, 1)].run.Started) {
			t.Errorf("the next process says %+v", st.Running)
		}
	}
}

// A start that waits for S3 says so, since when, and is not called running: its run is none that agent ps shows.
func TestListSaysThatAStartWaitsForS3(t *testing.T) {
	release := make(chan bool)
	store := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(store.Close)
	t.Cleanup(func() { close(release) })
	a := startAgent(t, store.URL, "prod", "i-00000000000000001", "", "cron:\n- {name: job, schedule: '* * * * * *', seconds: true, command: \"true\"}\n")
	note := func() string {
		for _, s := range a.sched.Snapshot() {
			return note(s)
		}
		return ""
	}
	until(t, "it waits", func() bool { return strings.HasPrefix(note(), "waiting for S3, since ") })
	if got := note(); !strings.HasSuffix(got, " ago)") || !strings.Contains(got, " UTC (") {
		t.Error(got)
	}
}
