// Exec-latency measures what running a command through the agent costs, beside its peers and a bare fork and
// exec: interleaved, so that a busy machine is busy for all, and told as ratios, which travel where
// milliseconds do not. exec-latency.sh starts the agent and the peers for it.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/creack/pty"
)

func main() {
	agent := flag.String("agent", "agent", "the binary; AGENT_SOCKET says where it serves")
	n := flag.Int("n", 100, "runs of each")
	mb := flag.Int("mb", 1024, "megabytes through a pipe; 0: none")
	sessions := flag.Int("sessions", 200, "sessions at once; 0: none")
	supervisor := flag.Int("supervisor", 0, "its pid, for memory and CPU")
	history := flag.Int("history", 500, "runs before the latency is measured again; 0: not again")
	var peers [][]string
	flag.Func("peer", "the words of a command that runs what follows it (repeatable)", func(s string) error {
		peers = append(peers, strings.Fields(s))
		return nil
	})
	flag.Parse()
	if err := bench(*agent, peers, *n, *mb, *sessions, *history, *supervisor); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func bench(agent string, peers [][]string, n, mb, sessions, history, pid int) error {
	if sessions > 0 && pid > 0 {
		for _, terminal := range []bool{false, true} {
			if err := memory(agent, terminal, sessions, pid); err != nil {
				return err
			}
		}
	}
	if err := latency(agent, peers, n); err != nil {
		return err
	}
	if history > 0 {
		for range history {
			if err := exec.Command(agent, "exec", "--", "true").Run(); err != nil {
				return err
			}
		}
		fmt.Printf("after %d more runs:\n", history)
		if err := latency(agent, nil, n); err != nil {
			return err
		}
	}
	if mb > 0 {
		return throughput(agent, peers, mb, pid)
	}
	return nil
}

func latency(agent string, peers [][]string, n int) error {
	ways := [][]string{{"true"}, {agent, "version"}}
	for _, p := range append(peers, []string{agent, "exec", "--"}) {
		ways = append(ways, append(slices.Clone(p), "true"))
	}
	took := make([][]time.Duration, len(ways))
	for range n {
		for i, way := range ways {
			begun := time.Now()
			if out, err := exec.Command(way[0], way[1:]...).CombinedOutput(); err != nil {
				return fmt.Errorf("%q: %w: %s", way, err, out)
			}
			took[i] = append(took[i], time.Since(begun))
		}
	}
	fmt.Printf("%-28s %9s %9s %9s %7s\n", "ms of "+strconv.Itoa(n), "median", "p95", "p99", "ratio")
	for i, way := range ways {
		slices.Sort(took[i])
		at := func(q float64) float64 { return took[i][int(q*float64(n-1))].Seconds() * 1000 }
		last := took[len(ways)-1][n/2]
		fmt.Printf("%-28s %9.2f %9.2f %9.2f %7.2f\n", name(way), at(0.5), at(0.95), at(0.99), last.Seconds()/took[i][n/2].Seconds())
	}
	fmt.Println("ratio: agent exec to this")
	return nil
}

// name is a way in a few words: its program, and what tells one use of it from another.
func name(way []string) string {
	short := slices.Clone(way)
	short[0] = filepath.Base(short[0])
	if short[0] == "ssh" && len(short) > 2 { // its many options say nothing here
		short = []string{"ssh", "localhost", short[len(short)-1]}
	}
	return strings.Join(short, " ")
}

// throughput sends zeros through a pipe, plain, through the agent and through its peers, in both directions.
func throughput(agent string, peers [][]string, mb, pid int) error {
	size := strconv.Itoa(mb << 20)
	before := cpu(pid)
	for _, c := range []struct {
		name    string
		command []string
		stdin   bool
	}{
		{"stdout", []string{"head", "-c", size, "/dev/zero"}, false},
		{"stdin", []string{"wc", "-c"}, true},
	} {
		ways := append([][]string{nil, {agent, "exec", "--"}}, peers...)
		took := make([]time.Duration, len(ways))
		for range 3 {
			for i, way := range ways {
				d, err := flow(append(slices.Clone(way), c.command...), mb, c.stdin)
				if err != nil {
					return err
				}
				took[i] += d
			}
		}
		for i, way := range ways[1:] {
			fmt.Printf("%s, 3 x %d MB through %s: %.0f %% of a plain pipe\n", c.name, mb, name(append(slices.Clone(way), c.command[0])), 100*took[0].Seconds()/took[i+1].Seconds())
		}
	}
	if pid > 0 {
		fmt.Printf("the supervisor's CPU meanwhile: %.0f ms\n", ms(cpu(pid)-before))
	}
	return nil
}

func flow(args []string, mb int, stdin bool) (time.Duration, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	if stdin {
		cmd.Stdin = r
	} else {
		cmd.Stdout = w
	}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	if stdin {
		r.Close()
		block := make([]byte, 1<<20)
		for range mb {
			if _, err := w.Write(block); err != nil {
				return 0, err
			}
		}
		w.Close()
	} else {
		w.Close()
		if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, make([]byte, 1<<20)); err != nil || n != int64(mb)<<20 {
			return 0, fmt.Errorf("%d bytes came: %v", n, err)
		}
		r.Close()
	}
	err = cmd.Wait()
	return time.Since(begun), err
}

// memory opens many sessions and tells what each costs the supervisor.
func memory(agent string, terminal bool, n, pid int) error {
	time.Sleep(2 * time.Second) // an idle supervisor gives memory back after one
	before := anon(pid)
	var clients []*exec.Cmd
	var up sync.WaitGroup
	for range n {
		cmd := exec.Command(agent, "exec", "-T", "--", "sh", "-c", "echo up; exec sleep 1000")
		out, err := open(cmd, terminal)
		if err != nil {
			return err
		}
		clients = append(clients, cmd)
		up.Go(func() { out.Read(make([]byte, 3)) })
	}
	up.Wait()
	after := anon(pid)
	kind := map[bool]string{false: "without", true: "with"}[terminal]
	fmt.Printf("%d sessions %s terminal: %.0f kB of the supervisor each (%d to %d kB)\n", n, kind, float64(after-before)/float64(n), before, after)
	for _, c := range clients {
		c.Process.Kill()
		c.Wait()
	}
	if err := stopAll(agent); err != nil { // a terminal outlives its client
		return err
	}
	// Ending so many at once keeps it busy where there are no control groups: what follows is not to pay.
	for last := time.Duration(-1); last != cpu(pid); time.Sleep(2 * time.Second) {
		last = cpu(pid)
	}
	return nil
}

func stopAll(agent string) error {
	out, err := exec.Command(agent, "ps", "--json").Output()
	if err != nil {
		return err
	}
	var runs []struct{ ID string }
	if err := json.Unmarshal(out, &runs); err != nil {
		return err
	}
	for _, r := range runs {
		_ = exec.Command(agent, "stop", r.ID).Run() // it may have ended by itself
	}
	return nil
}

// open starts a client whose output can be read, at a terminal of its own or not.
func open(cmd *exec.Cmd, terminal bool) (io.Reader, error) {
	if terminal {
		cmd.Args[2] = "-t"
		return pty.Start(cmd)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return out, cmd.Start()
}

// anon is a process's anonymous memory in kB.
func anon(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			n, _ := strconv.Atoi(strings.Fields(rest)[0])
			return n
		}
	}
	return 0
}

// cpu is a process's user and system time, in ticks of 10 ms.
func cpu(pid int) time.Duration {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := bytes.Cut(b, []byte(") "))
	f := strings.Fields(string(rest))
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }
