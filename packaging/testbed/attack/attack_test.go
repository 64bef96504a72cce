// Package attack attacks an agent on an instance in a container, as those do who are beside it there: the application
// (webapp), any other user (nobody), a user of exec.allow (ec2-user), and whoever reaches the instance's port.
//
// Each attack is a function; real programs do it (testdata); it says what the attacker got: nothing, or the test
// fails. Meanwhile agent and supervisor answer the others, stay the same processes, and stay below the memory that
// agent.service gives the agent. Who may do what is in packaging/docs/threats.md, by the names of these functions.
package attack

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"beanstalk-agent/packaging/testbed/boxed"
)

func TestMain(m *testing.M) { os.Exit(boxed.Main(m)) }

// attacks are in the order in which they are made.
var attacks = []func(*ground){
	filesOfTheAgent, lockOfTheInstallation, processesOfTheAgent, controlGroups, nothingInherited, values,
	refusedUsers, rootsVerbs, namesThatClimb, falseAgent, oddDescriptors, malformedRequests,
	lingeringDescriptors, manyConnections, floodOfRequests, greedyCalls,
	hardLinks, applicationsPlace, readers, localFiles, largeArguments, filesOfRoot, escapes, manyStarts,
	spoolAfterTheEnd, firehose, namesOfRuns, terminals, typing, heldStart, stopLoop,
	manyHosts, portTaken,
}

// ground is the instance.
type ground struct {
	*boxed.Box
	agent, supervisor string // their pids there
	limit             string // of the agent's memory, a control group of this machine

	asking sync.Mutex  // of the others, while the agent must answer
	theirs atomic.Bool // the attacker may stop what runs as the application's user, since it is its own
}

// TestAttacks boots one instance and makes every attack on it in turn.
func TestAttacks(t *testing.T) {
	limit := filepath.Join("/sys/fs/cgroup/memory", fmt.Sprintf("agent-attack-%d", os.Getpid()))
	t.Cleanup(func() { // after the instance's end
		if err := os.Remove(limit); err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
	})
	g := &ground{Box: boxed.New(t, "box-attack")}
	t.Parallel()
	g.Do("build")
	if err := os.CopyFS(filepath.Join(g.Dir, "attack"), os.DirFS("testdata")); err != nil {
		t.Fatal(err)
	}
	g.Do("up", g.App("1.0.0"))
	boxed.Wait(t, "an agent that is ready", func() bool { return g.Version("1") == "1.0.0" })
	if err := os.Mkdir(limit, 0o755); err != nil {
		t.Fatal(err)
	}
	g.limit = limit
	g.known()
	for _, attack := range attacks {
		t.Run(nameOf(attack), func(t *testing.T) {
			g.T = t
			g.endures(func() { attack(g) })
		})
		g.T = t
	}
}

func nameOf(attack func(*ground)) string {
	name := runtime.FuncForPC(reflect.ValueOf(attack).Pointer()).Name()
	return name[strings.LastIndexByte(name, '.')+1:]
}

// ceiling is MemoryMax= of agent.service, in kB. The supervisor has none, and is held to the same.
const ceiling = 96 << 10

// known notes who is attacked, and gives the agent the memory that its unit gives it, beyond which it is killed: control
// groups v2 have no memory controller in this container, but those of the machine around it have.
func (g *ground) known() {
	g.T.Helper()
	g.agent, g.supervisor = g.PID("1", "agent"), g.PID("1", "agent-runs")
	err := os.WriteFile(filepath.Join(g.limit, "memory.limit_in_bytes"), []byte(strconv.Itoa(ceiling<<10)), 0)
	if err == nil {
		err = os.WriteFile(filepath.Join(g.limit, "cgroup.procs"), []byte(g.onMachine(g.agent)), 0)
	}
	if err != nil {
		g.T.Fatalf("give the agent the memory of its unit: %v", err)
	}
}

// onMachine is the number that a process of the instance has on this machine.
func (g *ground) onMachine(pid string) string {
	g.T.Helper()
	leader := strings.Split(g.Do("root", "1"), "/")[2]
	within, _ := os.Readlink("/proc/" + leader + "/ns/pid")
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, proc := range all {
		ns, _ := os.Readlink(proc + "/ns/pid")
		status, _ := os.ReadFile(proc + "/status")
		if ns == within && strings.Contains(string(status), "\t"+pid+"\nNSpgid") {
			return filepath.Base(proc)
		}
	}
	g.T.Fatalf("no process here is %s there", pid)
	return ""
}

// endures makes an attack, and has others work meanwhile and after it: they are answered, by the same two processes.
func (g *ground) endures(attack func()) {
	g.T.Helper()
	over := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-over:
				g.answers() // once more, now that it is over
				return
			default:
				if !g.answers() {
					return
				}
			}
		}
	})
	func() {
		defer watch.Wait()
		defer close(over)
		attack()
	}()
	g.Try("exec", "1", "systemctl", "stop", "attacker-*")
	for unit, pid := range map[string]string{"agent": g.agent, "agent-runs": g.supervisor} {
		if now := g.PID("1", unit); now != pid {
			g.T.Errorf("%s is another process: %s, then %s", unit, pid, now)
		}
		var peak int
		fmt.Sscan(g.On("1", "grep -Po 'VmHWM:\\s*\\K[0-9]+' /proc/"+pid+"/status; echo 5 >/proc/"+pid+"/clear_refs"), &peak)
		if g.T.Logf("%s had %d MB at most", unit, peak>>10); peak == 0 || peak > ceiling {
			g.T.Errorf("%s had %d kB of memory, more than %d", unit, peak, ceiling)
		}
	}
}

// answers reports whether the others are answered. The limits are generous: attackers and everybody else have one
// machine.
func (g *ground) answers() bool {
	g.T.Helper()
	g.asking.Lock()
	defer g.asking.Unlock()
	if out, err := g.as("root", "timeout 60 agent status >/dev/null || test $? = 1 && timeout 60 agent ps"); err != nil {
		g.T.Errorf("root is not answered: %v\n%s", err, out)
		return false
	}
	if g.theirs.Load() {
		return true
	}
	out, err := g.as("ec2-user", "timeout 90 agent exec -- echo done")
	if err != nil || !strings.Contains(out, "done") {
		g.T.Errorf("ec2-user's command does not run: %v\n%s", err, out)
		return false
	}
	return true
}

// as runs a shell script as a user of the instance, and ends it after two minutes.
func (g *ground) as(user, script string) (string, error) {
	return g.Try("exec", "1", "timeout", "-k", "5", "120", "sudo", "-nu", user, "--", "/bin/bash", "-c", "cd /tmp; "+script)
}

// waits until a script of root's succeeds.
func (g *ground) waits(script string) {
	g.T.Helper()
	boxed.Wait(g.T, script, func() bool { return g.Holds("1", script) })
}

// gets fails the test when a script succeeds, for what no attacker may have.
func (g *ground) gets(user, what, script string) {
	g.T.Helper()
	if out, err := g.as(user, script); err == nil {
		g.T.Errorf("%s got %s:\n%.2000s", user, what, out)
	}
}

// leaves starts a script as a user, in a service of its own that ends with the attack.
func (g *ground) leaves(user, name, script string) {
	g.T.Helper()
	g.On("1", fmt.Sprintf("systemd-run --quiet --collect --unit=attacker-%s --uid=%s -p KillSignal=SIGKILL -p RuntimeMaxSec=120 -p WorkingDirectory=/tmp /bin/bash -c %s",
		name, user, quote(script)))
}

// quote makes text one word of a shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
