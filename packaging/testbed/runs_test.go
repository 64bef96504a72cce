package testbed

import (
	"encoding/json"
	"fmt"
	"testing"
)

// run is a line of agent ps --json.
type run struct {
	ID, Name, State string
	Code            int `json:"exit_code"`
	Signal          int
	StoppedBy       string `json:"stopped_by"`
}

// runs lists what agent ps says, as root. The socket is named, because a faulty
// configuration is a client's fault, too.
func (b *box) runs(t *testing.T, instance, flags string) []run {
	t.Helper()
	var all []run
	text := b.On(instance, "agent --socket /run/agent/agent.sock ps --json "+flags)
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		t.Fatalf("agent ps --json: %v\n%s", err, text)
	}
	return all
}

// runOf finds a run by its id, ended ones included.
func (b *box) runOf(instance, id string) run {
	b.T.Helper()
	all := b.runs(b.T, instance, "--all -n 1000")
	for _, r := range all {
		if r.ID == id {
			return r
		}
	}
	b.T.Fatalf("agent ps does not list %s: %+v", id, all)
	return run{}
}

// waitLive waits for a run that is running on instance 1, and returns its id.
func (b *box) waitLive(t *testing.T, what string, is func(run) bool) (id string) {
	t.Helper()
	wait(t, what, func() bool {
		for _, r := range b.runs(t, "1", "") {
			if is(r) {
				id = r.ID
			}
		}
		return id != ""
	})
	return id
}

// work is one run of each kind on instance 1. Each would outlast the test.
type work struct {
	command, job, terminal string // ids

	keys, screen string // of the terminal that ec2-user sits at, on the instance
	typed        int
}

// startWork starts a detached command and the cron job "long", and has ec2-user sit
// at a terminal whose keys and screen are files.
func (b *box) startWork(t *testing.T) *work {
	t.Helper()
	b.works++
	w := &work{keys: fmt.Sprintf("/tmp/keys-%d", b.works), screen: fmt.Sprintf("/tmp/screen-%d", b.works)}
	w.command = b.On("1", "sudo -u ec2-user agent exec -d -- sleep 3000 2>/dev/null")
	b.On("1", "rm -f /var/tmp/enough; systemd-run --quiet --collect agent cron run long")
	w.job = b.waitLive(t, "the cron job", func(r run) bool { return r.Name == "long" })
	b.On("1", fmt.Sprintf(`mkfifo -m 666 %s && systemd-run --quiet --collect --uid=ec2-user -E TERM=xterm \
		/bin/bash -c 'exec script -qfc "agent exec -t -- tr a-z A-Z" %s <>%s >/dev/null'`, w.keys, w.screen, w.keys))
	w.terminal = b.waitLive(t, "the session", func(r run) bool { return r.Name == "tr" })
	b.goesOn(t, w)
	return w
}

// goesOn checks that what was started before something still runs after it, and
// that who sits at the terminal notices nothing: what is typed is answered there.
func (b *box) goesOn(t *testing.T, w *work) {
	t.Helper()
	for _, id := range []string{w.command, w.job, w.terminal} {
		if r := b.runOf("1", id); r.State != "running" {
			t.Fatalf("does not run on: %+v", r)
		}
	}
	w.typed++
	b.On("1", fmt.Sprintf("echo line-%d >%s", w.typed, w.keys))
	wait(t, "an answer at the terminal", func() bool {
		return b.Holds("1", fmt.Sprintf("grep -q LINE-%d %s", w.typed, w.screen))
	})
}

// endWork stops the command and the terminal, and lets the job come to its end, which
// the agent of now must know of all three.
func (b *box) endWork(t *testing.T, w *work) {
	t.Helper()
	b.On("1", "agent stop "+w.command+" && agent stop "+w.terminal+" && touch /var/tmp/enough")
	wait(t, "the job's end", func() bool { return b.runOf("1", w.job).State == "exited" })
	if r := b.runOf("1", w.job); r.Code != 0 || r.Signal != 0 {
		t.Errorf("the job ended as %+v", r)
	}
	for _, id := range []string{w.command, w.terminal} {
		if r := b.runOf("1", id); r.State != "exited" || r.StoppedBy != "stop" {
			t.Errorf("stopped, it is %+v", r)
		}
	}
}
