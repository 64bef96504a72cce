package testbed

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/creack/pty"

	"beanstalk-agent/packaging/testbed/gotool"
)

// A shell that somebody left open held a reboot up for three minutes, and then it failed: systemd stops all processes
// before it kills them, nsenter stops itself when its child does, and nobody reaps the child any more.
func TestRebootAndStopEndALogin(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a container")
	}
	if os.Geteuid() != 0 {
		gotool.Need(t, "root")
	}
	if _, err := exec.LookPath("systemd-nspawn"); err != nil {
		gotool.Need(t, "systemd-nspawn")
	}
	t.Parallel()
	name := fmt.Sprintf("login-%d", os.Getpid())
	nspawn := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("./nspawn", args...).CombinedOutput(); err != nil {
			t.Fatalf("nspawn %v: %v\n%s", args, err, out)
		}
	}
	t.Cleanup(func() { nspawn("stop", name) })
	nspawn("start", name)
	for _, verb := range []string{"reboot", "stop"} {
		login := exec.Command("./nspawn", "exec", name, "bash", "-i")
		terminal, err := pty.Start(login)
		if err != nil {
			t.Fatal(err)
		}
		defer terminal.Close()
		fmt.Fprintln(terminal, "trap '' TERM; sleep infinity & echo is$((6*7))in")
		for lines := bufio.NewScanner(terminal); ; {
			if !lines.Scan() {
				t.Fatalf("no login: %v", lines.Err())
			}
			if strings.Contains(lines.Text(), "is42in") {
				break
			}
		}
		nspawn(verb, name)
		if err := login.Wait(); err == nil || terminal.Close() != nil {
			t.Errorf("%s: the login ended by itself", verb)
		}
	}
}
