package command

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"beanstalk-agent/packaging/testbed/gotool"
)

// Whoever possesses a session keyring reads its keys. A command has one of its own: neither that of the process that
// starts it, where root's login may keep a ticket, nor that of another run.
func TestCommandHasItsOwnSessionKeyring(t *testing.T) {
	needRoot(t)
	refused := make(chan error)
	go func() {
		runtime.LockOSThread() // which ends with this goroutine, and its keyring with it
		_, err := unix.KeyctlJoinSessionKeyring("")
		refused <- err
	}()
	if err := <-refused; errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
		gotool.Need(t, "keyrings, which this container refuses")
	}
	seen := map[string]bool{}
	for range 2 {
		out, _, err := run(t, as("awk '/keyring +_ses/ {print $1}' /proc/keys"))
		if err != nil {
			t.Fatal(err)
		}
		rings := strings.Fields(out)
		if len(rings) == 0 {
			t.Error("a command has no session keyring")
		}
		for _, r := range rings {
			if seen[r] {
				t.Errorf("two commands see the keyring %s", r)
			}
			seen[r] = true
		}
	}
}
