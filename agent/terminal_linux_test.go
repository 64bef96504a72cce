package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/packaging/testbed/gotool"
)

// person is somebody at a terminal with a shell, who types.
type person struct {
	t    *testing.T
	tty  *os.File
	mu   sync.Mutex
	text bytes.Buffer
}

// sitDown starts an interactive shell, in the resident's directory, on a terminal of its own.
func sitDown(t *testing.T, r *resident, agent string) *person {
	t.Helper()
	cmd := r.command(agent, "bash", "--norc", "--noprofile", "-i")
	cmd.Env = append(cmd.Env, "PS1=READY$ ", "HISTFILE=", "TERM=dumb", "LC_ALL=C.UTF-8")
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 30, Cols: 200})
	if err != nil {
		t.Fatal(err)
	}
	p := &person{t: t, tty: tty}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, err := tty.Read(buf)
			p.mu.Lock()
			p.text.Write(buf[:n])
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		tty.Close()
		<-done
		if t.Failed() {
			t.Logf("the terminal showed:\n%q", p.shown())
		}
	})
	p.waitFor("READY$ ")
	return p
}

func (p *person) shown() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

func (p *person) types(text string) { p.tty.WriteString(text) }

// waitFor waits until the terminal shows text, and forgets what came before its end.
func (p *person) waitFor(text string) (before string) {
	p.t.Helper()
	await(p.t, fmt.Sprintf("the terminal shows %q", text), func() bool { return strings.Contains(p.shown(), text) })
	p.mu.Lock()
	defer p.mu.Unlock()
	before, _, _ = strings.Cut(p.text.String(), text)
	p.text.Next(len(before) + len(text))
	return before
}

// does types a command line and waits until the shell has come back. What the line prints is returned, with its status.
func (p *person) does(line string) string {
	p.t.Helper()
	p.types(line + "; echo status-$?-$((40+2))\r")
	p.waitFor("echo status-$?-$((40+2))\r\n")
	said := p.waitFor("-42\r\n")
	p.waitFor("READY$ ")
	return said
}

// other is a user of Debian's who owns nothing. Not nobody: a test of package command stops each process of his.
const other, otherUID, otherGID = "games", 5, 60

// othersApplication is a resident whose application runs as another user, in a directory that this user can enter.
func othersApplication(t *testing.T) *resident {
	t.Helper()
	if os.Geteuid() != 0 {
		gotool.Need(t, "root, for a command of another user")
	}
	r := newResident(t, "app: {user: "+other+"}\nmetrics: {send: off}\nhealth: {listen: '127.0.0.1:0'}\n")
	for _, dir := range []string{r.dir, filepath.Join(r.dir, "app")} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// forms are the ways to type a command at a terminal. Each gives the command none of the caller's.
var forms = map[string]string{
	"no terminal":            "agent exec -T -- %s",
	"in a pipeline":          "agent exec -- %s | true",
	"with input":             "agent exec -- %s </dev/null",
	"errors on the terminal": "agent exec -- %s </dev/null 2>/dev/tty | true",
	"one more descriptor":    "agent exec -T -- %s 3<>/dev/tty",
	"a terminal":             "agent exec -t -- %s",
	"in the background":      "agent exec -T -- %s & wait",
	"below sudo":             "sudo -nE env PATH=$PATH agent exec -T -- %s",

	"direct":                      "agent exec --direct -- %s",
	"direct, no terminal":         "agent exec --direct -T -- %s",
	"direct, in a pipeline":       "agent exec --direct -- %s | true",
	"direct, with input":          "agent exec --direct -- %s </dev/null",
	"direct, errors only":         "agent exec --direct -- %s </dev/null 2>/dev/tty | true",
	"direct, one more descriptor": "agent exec --direct -T -- %s 3<>/dev/tty",
	"direct, in the background":   "agent exec --direct -T -- %s & wait",
	"direct, below sudo":          "sudo -nE env PATH=$PATH agent exec --direct -- %s",
}

// Whatever the command does with what it was given, the terminal of whoever typed it is neither typed into nor read,
// changed or written to, not by the command and not by a process to which it passes its descriptors.
func TestNoTerminalIsSharedWithACommand(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 5 s")
	}
	t.Parallel()
	r := othersApplication(t)
	agent, err := exec.LookPath("agent")
	if err != nil {
		t.Fatal(err)
	}
	stop := r.start(agent)
	defer stop(syscall.SIGTERM)
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			if got := attackTerminal(t, r, agent, form); len(got) > 0 {
				t.Errorf("got through: %q", got)
			}
		})
	}
	t.Run("shared", func(t *testing.T) { // or this test would show nothing
		const form = "setpriv --reuid=" + other + " --regid=" + other + " --clear-groups %s"
		if got := attackTerminal(t, r, agent, form); len(got) == 0 {
			t.Error("a terminal that is shared was not attacked")
		}
	})
}

// attackTerminal returns what the command, or the process that it hands its descriptors to, did to the terminal.
func attackTerminal(t *testing.T, r *resident, agent, form string) (got []string) {
	dir, err := os.MkdirTemp("", "n")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, name := range []string{"attack.py", "stay.py"} {
		text, err := os.ReadFile("testdata/terminal/" + name)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chown(dir, otherUID, otherGID), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	there := func(name string) bool { _, err := os.Stat(filepath.Join(dir, name)); return err == nil }
	stay := exec.Command("/usr/bin/python3", dir+"/stay.py", dir)
	stay.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: otherUID, Gid: otherGID}}
	stay.Stderr = t.Output()
	if err := stay.Start(); err != nil {
		t.Fatal(err)
	}
	defer stay.Wait()
	defer stay.Process.Kill()
	await(t, "the other process listens", func() bool { return there("stay") })

	p := sitDown(t, r, agent)
	p.does("stty -a >" + dir + "/before")
	p.does(fmt.Sprintf(form, "/usr/bin/python3 "+dir+"/attack.py "+dir))
	if err := os.WriteFile(dir+"/over", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	await(t, "the other process has tried", func() bool { return there("done") })
	stolen := func() string { b, _ := os.ReadFile(dir + "/stolen"); return string(b) }
	for i := 0; i < 6 && stolen() == ""; i++ {
		word := fmt.Sprintf("secret-%d", i)
		p.types("echo " + word + "-$((40+2))\r")
		await(t, word+" is read", func() bool { return strings.Contains(p.shown(), word+"-42\r\n") || stolen() != "" })
	}
	if strings.Contains(p.shown(), "FALSE") {
		got = append(got, "a false prompt")
	}
	if there("rooted") {
		got = append(got, "a line that root's shell obeyed")
	}
	if stolen() != "" {
		return append(got, "what was typed: "+stolen()) // and no more can be typed
	}
	p.does("stty -a >" + dir + "/after")
	before, _ := os.ReadFile(dir + "/before")
	after, _ := os.ReadFile(dir + "/after")
	if string(before) != string(after) {
		got = append(got, fmt.Sprintf("the settings are %s, were %s", after, before))
	}
	report, err := os.ReadFile(dir + "/report")
	t.Logf("the command had %s", report)
	if err != nil {
		t.Errorf("it did not come to its end: %v", err)
	}
	return got
}

// With no terminal inside, a command that is typed at a terminal behaves as one of a pipeline would.
func TestTypedAtATerminalWithoutOneInside(t *testing.T) {
	t.Parallel()
	r := othersApplication(t)
	agent, err := exec.LookPath("agent")
	if err != nil {
		t.Fatal(err)
	}
	stop := r.start(agent)
	defer stop(syscall.SIGTERM)
	p := sitDown(t, r, agent)

	if said := p.does(`agent exec -T -- sh -c 'for i in 0 1 2; do test -t $i && echo terminal; done; exit 3'`); said != "status-3" {
		t.Errorf("the command found %q", said)
	}
	if said := p.does(`agent exec -T -- sh -c 'for i in 1 2 3; do echo out; echo err >&2; done'`); said != strings.Repeat("out\r\nerr\r\n", 3)+"status-0" {
		t.Errorf("the order of output and errors is %q", said)
	}
	if said := p.does(`agent exec -T -- sh -c 'seq 1 60000; exit 5'`); !strings.HasSuffix(said, "\r\n59999\r\n60000\r\nstatus-5") {
		t.Errorf("the end of the output is missing: %.100q…", said)
	}
	if said := p.does(`agent exec -T -- sh -c 'trap "" HUP TERM; (sleep 2; echo late) & echo first; exit 4'`); said != "first\r\nstatus-4" {
		t.Errorf("with a process left behind: %q", said)
	}
	if said := p.does(`agent exec -- yes | head -n 1; echo ${PIPESTATUS[0]}`); !strings.HasPrefix(said, "y\r\n141\r\n") {
		t.Errorf("yes | head: %q", said)
	}

	// What a command does not read is left to the shell, but for one line.
	p.types("agent exec -T -- sh -c 'echo up; sleep 0.5'\r")
	p.waitFor("up\r\n")
	p.types("echo lost\recho kept-$((40+2))\r")
	p.waitFor("kept-42\r\n")
	p.waitFor("READY$ ")

	p.types("agent exec -T -- cat\r")
	p.waitFor("cat\r\n")
	p.types("one\r")
	p.waitFor("one\r\none\r\n")
	p.types("\x04") // Ctrl-D
	p.waitFor("READY$ ")
	p.types("agent exec -T -- cat; echo status-$?\r")
	p.waitFor("status-$?\r\n")
	p.types("two\r")
	p.waitFor("two\r\ntwo\r\n")
	p.types("\x03") // Ctrl-C
	p.waitFor("status-130")
	p.waitFor("READY$ ")

	// What was started below nohup outlives its terminal, as any command.
	p.does("(trap '' HUP; agent exec -T -- sleep 72010 </dev/null >/dev/null 2>&1 &)")
	await(t, "the command runs", func() bool { return state("sleep 72010") == "S" })
	exec.Command("pkill", "-HUP", "-fx", "agent exec -T -- sleep 72010").Run()
	exec.Command("pkill", "-USR1", "-fx", "agent exec -T -- sleep 72010").Run() // comes after it, and ends a sleep
	await(t, "the command has ended", func() bool { return state("sleep 72010") == "" })
	if said := p.does("agent ps --all --json | grep -c '\"signal\": 10'"); !strings.HasPrefix(said, "1\r\n") {
		t.Errorf("runs that USR1 ended: %q", said)
	}

	// In the background it does not read what is typed, and is not stopped; in the foreground it reads again.
	p.types("agent exec -T -- cat &\r")
	p.waitFor("READY$ ")
	for i := range 4 {
		word := fmt.Sprintf("mine-%d", i)
		p.types("echo " + word + "-$((40+2))\r")
		p.waitFor(word + "-42\r\n")
	}
	p.types("jobs\r")
	p.waitFor("Running")
	p.waitFor("READY$ ")
	p.types("fg\r")
	p.waitFor("fg\r\n")
	p.types("three\r")
	p.waitFor("three\r\nthree\r\n")

	// Ctrl-Z stops the command and the client.
	p.types("\x1a")
	p.waitFor("Stopped")
	p.waitFor("READY$ ")
	p.types("fg\r")
	p.waitFor("fg\r\n")
	p.types("four\r")
	p.waitFor("four\r\nfour\r\n")
	p.types("\x04")
	p.waitFor("READY$ ")

	// Another program of the pipeline has the keyboard: one that asks for a password, a pager.
	got := filepath.Join(r.dir, "got")
	if err := errors.Join(os.WriteFile(got, nil, 0o600), os.Chown(got, otherUID, otherGID)); err != nil {
		t.Fatal(err)
	}
	p.types(`agent exec -- sh -c 'echo up; cat >` + got + `' | (read x; echo asks; read -r -s secret </dev/tty; echo "secret is <$secret>"; read -r -n 1 key </dev/tty; echo "key is <$key>")` + "\r")
	p.waitFor("asks\r\n")
	await(t, "echo is off", func() bool { return !echoes(t, p.tty) })
	p.types("pass word\r")
	p.waitFor("secret is <pass word>")
	await(t, "keys are read", func() bool { return !lines(t, p.tty) })
	p.types("q")
	p.waitFor("key is <q>")
	p.types("last\r\x04")
	p.waitFor("READY$ ")
	if text, err := os.ReadFile(got); string(text) != "last\n" {
		t.Errorf("the command got %q, %v", text, err)
	}
}

// Without any agent, another user's command behaves as under sudo with use_pty.
func TestDirectOnATerminalOfItsOwn(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 4 s")
	}
	t.Parallel()
	r := othersApplication(t)
	agent, err := exec.LookPath("agent")
	if err != nil {
		t.Fatal(err)
	}
	p := sitDown(t, r, agent)
	settings := p.does("stty -a")
	if said := p.does(`agent exec --direct -- sh -c 'id -un; tty <&2 | cut -c 1-9; stty size; exit 3'`); said != other+"\r\n/dev/pts/\r\n30 200\r\nstatus-3" {
		t.Errorf("the command said %q", said)
	}
	if said := p.does(`agent exec --direct -- sh -c 'trap "" HUP; (while echo noise; do sleep 0.01; done) & sleep 0.1; exit 4'`); !strings.HasSuffix(said, "status-4") {
		t.Errorf("a process left behind: %q", said)
	}
	p.types("agent exec --direct -- sh -c 'trap \"stty size; exit 5\" WINCH; echo up; while :; do sleep 0.01; done'; echo status-$?-\r")
	p.waitFor("up\r\n")
	pty.Setsize(p.tty, &pty.Winsize{Rows: 31, Cols: 201})
	p.waitFor("31 201\r\nstatus-5-")
	pty.Setsize(p.tty, &pty.Winsize{Rows: 30, Cols: 200})
	p.waitFor("READY$ ")

	// Ctrl-Z stops the command and the client; fg continues both.
	p.types("agent exec --direct -- sleep 72000\r")
	await(t, "the command runs", func() bool { return state("sleep 72000") == "S" })
	p.types("\x1a")
	p.waitFor("Stopped")
	await(t, "the command is stopped", func() bool { return state("sleep 72000") == "T" })
	if said := p.does("stty -a"); said != settings {
		t.Errorf("settings while it is stopped: %s, were %s", said, settings)
	}
	p.types("fg\r")
	await(t, "the command runs again", func() bool { return state("sleep 72000") == "S" })
	p.types("\x03")
	await(t, "the command has ended", func() bool { return state("sleep 72000") == "" })
	p.waitFor("READY$ ")

	// A shell inside keeps the key for its own jobs.
	p.types("agent exec --direct -e PS1=IN$ -- bash --norc --noprofile -i\r")
	p.waitFor("IN$")
	p.types("sleep 72001\r")
	await(t, "the inner command runs", func() bool { return state("sleep 72001") == "S" })
	p.types("\x1a")
	p.waitFor("Stopped")
	p.types("kill %1; fg >/dev/null; exit 6\r")
	p.waitFor("READY$ ")

	// A signal to the client is the command's. Whoever kills the client hangs up.
	client := func(args string) string { return "agent exec --direct -- " + args }
	for signal, want := range map[string]string{"TERM": "status-143-", "INT": "status-130-", "HUP": "status-129-"} {
		p.types(client("sleep 72002") + "; echo status-$?-\r")
		await(t, "the command runs", func() bool { return state("sleep 72002") == "S" })
		exec.Command("pkill", "-"+signal, "-fx", client("sleep 72002")).Run()
		p.waitFor(want)
		p.waitFor("READY$ ")
	}
	if said := p.does("stty -a"); said != settings {
		t.Errorf("settings afterwards: %s, were %s", said, settings)
	}
	p.types(client("sleep 72003") + "\r")
	await(t, "the command runs", func() bool { return state("sleep 72003") == "S" })
	exec.Command("pkill", "-KILL", "-fx", client("sleep 72003")).Run()
	await(t, "the command has ended", func() bool { return state("sleep 72003") == "" })
}

// state is that of the process with this command line; none has "".
func state(line string) string {
	pid, _ := exec.Command("pgrep", "-fx", "--", line).Output()
	if len(pid) == 0 {
		return ""
	}
	text, _ := exec.Command("ps", "-o", "state=", "-p", strings.TrimSpace(string(pid))).Output()
	return strings.TrimSpace(string(text))
}

func echoes(t *testing.T, tty *os.File) bool { return localMode(t, tty)&unix.ECHO != 0 }
func lines(t *testing.T, tty *os.File) bool  { return localMode(t, tty)&unix.ICANON != 0 }

func localMode(t *testing.T, tty *os.File) (mode uint32) {
	err := fdconn.Use(tty, func(fd int) error {
		state, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil {
			mode = state.Lflag
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return mode
}
