package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/packaging/testbed/gotool"
	"beanstalk-agent/packaging/testbed/planted"
)

// A host is one instance: a whole agent in processes of its own, with its own
// host name, socket, state and application.
type host struct {
	t     *testing.T
	name  string
	dir   string
	agent string // the program
	env   []string
	eb    string // the environment of Elastic Beanstalk's that it is of, or ""
	cmd   *exec.Cmd
}

// A ground is where hosts live, and the ledger that all their jobs write to.
type ground struct {
	t      *testing.T
	dir    string
	ledger string
	hosts  []*host
	agent  func(i int) string // the program of host i; nil: the present one
	eb     string             // of the next host

	identified bool // hosts of a fleet have instance ids
}

// signs is what a job of the ground does first: it names the newest output of the job's, which lies in the host's
// directory and names the run, and so the slot: what is written is not what the agent thinks, but what ran.
func (g *ground) signs(job string) string {
	return "ls -dt --time=birth $(dirname $PWD)/state/runs/" + job + "-*/output | head -n1 >>" + g.ledger
}

func newGround(t *testing.T) *ground {
	t.Helper()
	if os.Geteuid() != 0 {
		gotool.Need(t, "root, for host names of their own")
	}
	dir, err := os.MkdirTemp("", "f") // short: a socket's path may have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	g := &ground{t: t, dir: dir, ledger: filepath.Join(dir, "ledger")}
	t.Cleanup(func() {
		for _, h := range g.hosts {
			h.end()
			hear(t, filepath.Join(h.dir, "log"))
		}
		os.RemoveAll(dir)
	})
	exe, err := os.Executable()
	if err == nil {
		err = os.Symlink(exe, filepath.Join(dir, "agent"))
	}
	if err == nil {
		err = os.WriteFile(g.ledger, nil, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// add makes a host and starts its agent.
func (g *ground) add(config, cron string, env ...string) *host {
	g.t.Helper()
	h := &host{t: g.t, name: fmt.Sprintf("i-%02d", len(g.hosts)), env: env, eb: g.eb}
	h.dir, h.agent = filepath.Join(g.dir, h.name), filepath.Join(g.dir, "agent")
	if g.agent != nil {
		h.agent = g.agent(len(g.hosts))
	}
	g.hosts = append(g.hosts, h)
	config += fmt.Sprintf("state_dir: %s/state\nhealth: {listen: '127.0.0.1:0'}\nmetrics: {send: off}\n", h.dir)
	if err := os.MkdirAll(filepath.Join(h.dir, "app"), 0o755); err != nil {
		g.t.Fatal(err)
	}
	h.write("agent.yaml", config)
	h.write("clock", "0s")
	h.write("app/cron.yaml", cron)
	h.write("app/.env", "PLANTED="+planted.Value+"\n")
	if h.eb != "" {
		h.beanstalk(h.eb)
	}
	h.start()
	return h
}

// write puts a file into the host's directory, whole or not at all.
func (h *host) write(name, text string) {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	err := os.WriteFile(path+".new", []byte(text), 0o644)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) start() {
	h.t.Helper()
	log, err := os.OpenFile(filepath.Join(h.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close()
	script, args := `echo "$0" >/proc/sys/kernel/hostname && exec "$@"`, []string{"--uts"}
	if h.eb != "" { // its directory opt is the host's /opt
		script, args = "mount --bind "+filepath.Join(h.dir, "opt")+" /opt && "+script, append(args, "--mount")
	}
	h.cmd = exec.Command("unshare", append(args, "sh", "-c", script, h.name,
		h.agent, "--config", filepath.Join(h.dir, "agent.yaml"), "--socket", filepath.Join(h.dir, "s"), "run", "--app", filepath.Join(h.dir, "app"))...)
	h.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "AWS_EC2_METADATA_DISABLED=true", testClock + "=" + filepath.Join(h.dir, "clock")}, h.env...)
	h.cmd.Stdout, h.cmd.Stderr = log, log
	if err := h.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
}

// killed kills the agent, and leaves its supervisor and what it runs.
func (h *host) killed() {
	h.cmd.Process.Kill()
	h.cmd.Wait()
}

// killSupervisor kills what runs the jobs, and leaves the agent.
func (h *host) killSupervisor() {
	for _, pid := range h.supervisors() {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

func (h *host) supervisors() (pids []int) {
	for _, path := range processes(h.t, filepath.Join(h.dir, "s-supervisor.sock")) {
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (h *host) client() *api.Client { return api.NewClient(filepath.Join(h.dir, "s")) }

// answers waits until the agent can be asked.
func (h *host) answers() {
	h.t.Helper()
	await(h.t, h.name+" answers", func() bool {
		ctx, cancel := context.WithTimeout(h.t.Context(), time.Second)
		defer cancel()
		return h.client().Get(ctx, "/v1/status", nil) == nil
	})
}

// end stops the agent as systemd would, and with it, in local mode, its supervisor and runs.
func (h *host) end() {
	if h.cmd.ProcessState != nil {
		h.start() // the one who can end the supervisor
	}
	h.cmd.Process.Signal(syscall.SIGCONT)
	for i := 0; i < 100 && h.client().Get(context.Background(), "/v1/status", nil) != nil; i++ {
		<-time.After(50 * time.Millisecond)
	}
	h.cmd.Process.Signal(syscall.SIGTERM)
	giveUp := time.AfterFunc(15*time.Second, func() { h.cmd.Process.Kill() })
	defer giveUp.Stop()
	h.cmd.Wait()
}

// slot is one due time of one job.
type slot struct {
	job string
	due int64 // Unix
}

// account is what is known of every slot: how often it ran and who says why it did not.
type account struct {
	mu    sync.Mutex
	ran   map[slot][]string // by which hosts
	again map[slot][]string // its retry
	named map[slot]string
}

var (
	runID    = regexp.MustCompile(`/(i-[0-9]+)/state/runs/([a-z]+)-([0-9]{8}t[0-9]{6}z)-([12])/`)
	standsIn = regexp.MustCompile(`([0-9]+) slots, the last of ([^:]+:[^:]+:[^:]+?):`)
	logField = regexp.MustCompile(`([a-z]+)=("(?:[^"\\]|\\.)*"|\S*)`)
)

// slotOf is the slot of a match of runID.
func slotOf(m []string) slot {
	at, _ := time.Parse("20060102t150405z", m[3]) // as the expression has it
	return slot{m[2], at.Unix()}
}

// read takes stock of the ledger and of what the hosts have said. every is how
// far apart each job's slots are.
func (g *ground) read(every map[string]time.Duration) *account {
	g.t.Helper()
	a := &account{ran: map[slot][]string{}, again: map[slot][]string{}, named: map[slot]string{}}
	text, err := os.ReadFile(g.ledger)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, m := range runID.FindAllStringSubmatch(string(text), -1) {
		ran := a.ran
		if m[4] != "1" {
			ran = a.again
		}
		s := slotOf(m)
		ran[s] = append(ran[s], m[1])
	}
	for _, h := range g.hosts {
		f, err := os.Open(filepath.Join(h.dir, "log"))
		if err != nil {
			g.t.Fatal(err)
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			a.hear(h.name, lines.Text(), every)
		}
		f.Close()
	}
	return a
}

// hear takes a line of an agent's log for what it says about slots.
func (a *account) hear(host, line string, every map[string]time.Duration) {
	field := map[string]string{}
	for _, m := range logField.FindAllStringSubmatch(line, -1) {
		if v, err := strconv.Unquote(m[2]); err == nil {
			m[2] = v
		}
		field[m[1]] = m[2]
	}
	last, count, job := field["due"], field["count"], field["job"]
	own := 0 // 1 where the last has a run that speaks for itself
	switch msg := field["msg"]; {
	case msg == "run started", msg == "run ended", msg == "run stands for earlier slots, too":
		if m := runID.FindStringSubmatch("/" + host + "/state/runs/" + field["run"] + "/"); m != nil && msg == "run ended" {
			a.name(slotOf(m), host+": began and ended before its mark, "+field["how"])
		}
		m := standsIn.FindStringSubmatch(field["why"])
		if m == nil {
			return
		}
		job, count, last, own = field["name"], m[1], m[2], 1
		field["msg"] = "a later run stands for it"
	case strings.HasPrefix(msg, "claimed before"), strings.HasPrefix(msg, "slot skipped"), msg == "a run was lost with its instance":
		count = "1"
	case msg != "cron: missed" && msg != "cron: overlapped" && msg != "cron: dropped" && msg != "job not started" && msg != "slots left to other instances":
		return
	}
	due, err := time.Parse(time.RFC3339, last)
	if err != nil {
		return
	}
	n, _ := strconv.Atoi(count)
	for i := own; i < n; i++ {
		a.name(slot{job, due.Unix() - int64(i)*int64(every[job]/time.Second)}, host+": "+field["msg"])
	}
}

func (a *account) name(s slot, why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.named[s] = why
}

// A balance says what became of slots.
type balance struct {
	slots, ran      int
	named           map[string]int // why they did not run, or not of their own
	doubles, silent []string       // that ran twice, and of which nobody says anything
}

func (b balance) String() string {
	return fmt.Sprintf("%d slots, %d ran once, named %v, twice %v, silent %v", b.slots, b.ran, b.named, b.doubles, b.silent)
}

// judge says what became of the slots of every job from one time to another.
func (a *account) judge(every map[string]time.Duration, from, to time.Time) balance {
	b := balance{named: map[string]int{}}
	for job, period := range every {
		for due := from.Truncate(period); due.Before(to); due = due.Add(period) {
			if due.Before(from) {
				continue
			}
			b.slots++
			s := slot{job, due.Unix()}
			switch name := fmt.Sprintf("%s %s", job, due.UTC().Format(time.TimeOnly)); {
			case len(a.ran[s]) > 1, len(a.again[s]) > 1:
				b.doubles = append(b.doubles, fmt.Sprintf("%s on %v, again on %v", name, a.ran[s], a.again[s]))
			case len(a.ran[s]) == 1:
				b.ran++
			case a.named[s] != "":
				_, why, _ := strings.Cut(a.named[s], ": ")
				b.named[why]++
			default:
				b.silent = append(b.silent, name)
			}
		}
	}
	return b
}
