package procstat

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

const fields = " S 7 42 41 0 -1 4194560 900 0 0 0 30 12 0 0 20 0 4 0 9900 123456 2048 18446744073709551615 1 1 0 0 0\n"

// A command may hold anything; the fields begin after the last parenthesis.
func TestOddCommands(t *testing.T) {
	want := Stat{State: 'S', Parent: 7, Group: 42, Session: 41, Threads: 4, CPU: 420 * time.Millisecond, Started: 9900, RSS: 2048}
	for _, comm := range []string{"python3", "", "a b", ") S 1 1", "((", "x\ny", "tmux: server", "a) R 99"} {
		s, err := Parse([]byte("42 (" + comm + ")" + fields))
		if err != nil || s != want {
			t.Errorf("command %q: got %+v, %v, want %+v", comm, s, err, want)
		}
	}
	if want.SinceBoot() != 99*time.Second {
		t.Errorf("started: got %v, want 99s", want.SinceBoot())
	}
}

func TestFaults(t *testing.T) {
	for text, want := range map[string]string{
		"42 python3 S":         "no command in parentheses",
		"42 (x) S 7 1":         `field 4 after the command: got ""`,
		"42 (x)":               "field 1",
		"42 (x) S -7 1 1":      `field 2 after the command: got "-7"`,
		"42 (x) S 7 one":       `field 3 after the command: got "one"`,
		"42 (x) sleeping 7":    `"sleeping"`,
		"42 (x) S 99999999999": "field 2",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want an error with %q", text, err, want)
		}
	}
}

// do_task_stat writes -1 for the group and the session of a process that is taken away.
func TestProcessThatIsTakenAway(t *testing.T) {
	s, err := Parse([]byte("42 (x)" + strings.Replace(fields, "S 7 42 41", "X 0 -1 -1", 1)))
	if err != nil || s.Group != -1 || s.Session != -1 {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestDead(t *testing.T) {
	for _, tt := range []struct {
		state   byte
		threads int
		want    bool
	}{{'S', 1, false}, {'Z', 1, true}, {'X', 0, true}, {'Z', 2, false}} {
		if got := (&Stat{State: tt.state, Threads: tt.threads}).Dead(); got != tt.want {
			t.Errorf("state %c, %d threads: dead is %v", tt.state, tt.threads, got)
		}
	}
}

// ps(1) is the judge of a living process whose name is as odd as one can be.
func TestAgreesWithPS(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no /proc")
	}
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	odd := filepath.Join(t.TempDir(), "a) S\n1 (")
	if err := os.Symlink(sleep, odd); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(odd, "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	pid := strconv.Itoa(cmd.Process.Pid)
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte("a) S\n1 (")) {
		t.Fatalf("got %q, want the name in it", text)
	}
	s, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	ps, err := exec.Command("ps", "-o", "ppid=,pgid=,sid=,nlwp=", "-p", pid).Output()
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(s.Parent, s.Group, s.Session, s.Threads)
	if want := strings.Join(strings.Fields(string(ps)), " "); got != want {
		t.Errorf("got %s, ps says %s", got, want)
	}
	if s.Started == 0 { // not the memory: newer kernels count a small process's in batches, and say 0 at first
		t.Errorf("got %+v, want a start", s)
	}
}

func TestAllocatesNothing(t *testing.T) {
	text := []byte("42 (a b)" + fields)
	if n := testing.AllocsPerRun(100, func() { Parse(text) }); n > 0 {
		t.Errorf("got %v allocations", n)
	}
}

func BenchmarkParse(b *testing.B) {
	text := []byte("42 (a b)" + fields)
	b.ReportAllocs()
	for b.Loop() {
		Parse(text)
	}
}

// What is parsed does not depend on the command; nothing is negative that is used as an amount.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("../testdata/*/proc/[0-9]*/stat")
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, []byte("a) R 1 (b"))
	}
	f.Add([]byte("1 (a) b) S 1 2"), []byte("x\ny"))
	f.Add([]byte("42 (x)"+fields), []byte(") Z 1 1 1"))
	f.Fuzz(func(t *testing.T, b, comm []byte) {
		s, err := Parse(b)
		if err != nil {
			return
		}
		if s.CPU < 0 || s.SinceBoot() < 0 || s.Parent < 0 || s.Threads < 0 || s.Group < -1 || s.Session < -1 {
			t.Errorf("got %+v", s)
		}
		rest := b[bytes.LastIndexByte(b, ')'):]
		again, err := Parse(append(append([]byte("1 ("), comm...), rest...))
		if err != nil || again != s {
			t.Errorf("command %q: got %+v, %v, want %+v", comm, again, err, s)
		}
	})
}
