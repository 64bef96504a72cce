package capacity

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"beanstalk-agent/packaging/testbed/golden"
)

const mib = 1 << 20

// worker is a warm one with private MiB of its own and shared in its PSS.
func worker(private, shared uint64) Worker {
	return Worker{Private: private * mib, PSS: (private + shared) * mib, Age: time.Hour, CPU: time.Minute}
}

func workers(n int, w Worker) (ws []Worker) {
	for range n {
		ws = append(ws, w)
	}
	return ws
}

// instance is 8 GB with 400 MiB in use beside the application.
func instance(ws []Worker) Measured {
	m := Measured{Total: 8000 * mib, CPUs: 2, Workers: ws, Load: Load{BacklogKnown: true}}
	used := uint64(400 * mib)
	for _, w := range ws {
		used += w.PSS
	}
	m.Available = m.Total - used
	return m
}

// The sum a team did by hand: 8 GB × 60 % ÷ 300 MB is 16. It left out what else
// is on the instance; with that at nothing we get the same.
func TestTheSumDoneByHand(t *testing.T) {
	m := instance(workers(1, worker(300, 0)))
	m.Available = m.Total - 300*mib
	if a := Advise(m); a.Fit != 16 || a.Headroom != 15 {
		t.Errorf("got fit %d, headroom %d, want 16 and 15", a.Fit, a.Headroom)
	}
}

func TestAdvice(t *testing.T) {
	crowded := instance(workers(20, worker(300, 0)))
	queue := instance(workers(4, worker(300, 0)))
	queue.Backlog = 9
	busy := queue
	busy.CPU = 190
	warmish := queue
	warmish.CPU = 100
	tiny := instance(workers(1, worker(300, 0)))
	tiny.Total, tiny.Available = 1000*mib, 300*mib
	preload := instance(append(workers(8, worker(40, 30)), Worker{}))
	preload.Workers = preload.Workers[:8]
	uneven := instance(append(workers(3, worker(100, 0)), worker(400, 0)))
	unknown := instance(workers(4, worker(300, 0)))
	unknown.BacklogKnown = false
	half := queue
	half.Target = 0.3
	for _, tt := range []struct {
		name    string
		m       Measured
		verdict Verdict
		bites   Bound
		fit     int
		advised int
	}{
		{"room, and nobody waits", instance(workers(4, worker(300, 0))), Keep, Memory, 14, 4},
		{"room, and clients wait", queue, Raise, Memory, 14, 14},
		{"room, clients wait, and the CPUs are full", busy, Keep, CPU, 14, 4},
		{"room, clients wait, and the CPUs are half used", warmish, Raise, CPU, 14, 6},
		{"another target", half, Raise, Memory, 6, 6},
		{"too many", crowded, Lower, Memory, 14, 14},
		{"not even one", tiny, TooBig, Memory, 0, 1},
		{"the base is shared and paid once", preload, Keep, Memory, 104, 8},
		{"the worst worker counts", uneven, Keep, Memory, 11, 4},
		{"the backlog is not known", unknown, Keep, Memory, 14, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := Advise(tt.m)
			if a.Verdict != tt.verdict || a.Bites != tt.bites || a.Fit != tt.fit || a.Advised != tt.advised {
				t.Errorf("got %q, bound by %s, fit %d, advised %d; want %q, %s, %d, %d",
					a.Verdict, a.Bites, a.Fit, a.Advised, tt.verdict, tt.bites, tt.fit, tt.advised)
			}
			if len(a.Why) == 0 {
				t.Error("no reason given")
			}
			if changes := a.Advised != a.Workers; changes != (len(a.Settings) > 0) {
				t.Errorf("got settings %v for %d instead of %d workers", a.Settings, a.Advised, a.Workers)
			}
			if tt.verdict != TooBig && a.Fit >= a.Advised && a.Used > a.Target {
				t.Errorf("with the advice %.2f of the memory is in use, want at most %.2f", a.Used, a.Target)
			}
		})
	}
}

func TestNotWarmYet(t *testing.T) {
	young, idle, unread := worker(300, 0), worker(300, 0), worker(300, 0)
	young.Age = time.Minute
	idle.CPU = 0
	unread.PSS = 0
	for _, tt := range []struct {
		name string
		ws   []Worker
		want string
	}{
		{"no workers", nil, "no worker is running"},
		{"young", workers(2, young), "younger than 10 minutes"},
		{"idle", workers(2, idle), "send them requests"},
		{"unmeasured", workers(2, unread), "could not be measured"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := Advise(instance(tt.ws))
			if a.Verdict != NotWarm || !strings.Contains(strings.Join(a.Why, "\n"), tt.want) || a.Settings != nil {
				t.Errorf("got %+v, want not warm yet: %s", a, tt.want)
			}
		})
	}
	if a := Advise(Measured{Workers: workers(1, worker(1, 1))}); a.Verdict != NotWarm {
		t.Errorf("unknown memory: got %q", a.Verdict)
	}
}

// A worker recycled a moment ago must not make the others look smaller, nor the
// whole count as cold.
func TestRecycledWorkerDoesNotSpoilTheSum(t *testing.T) {
	ws := workers(4, worker(300, 0))
	ws[2] = Worker{Private: 50 * mib, PSS: 50 * mib, Age: time.Second}
	if a := Advise(instance(ws)); a.PrivateWorst != 300*mib || a.PrivateMedian != 300*mib || a.Verdict != Keep {
		t.Errorf("got %+v", a)
	}
}

// Reading many large workers takes minutes; the memory of those not read yet must not
// count as other processes' meanwhile.
func TestAWorkerNotMeasuredYetIsOneLikeTheOthers(t *testing.T) {
	all := instance(workers(8, worker(300, 40)))
	want := Advise(all)
	half := all
	half.Workers = append(workers(4, worker(300, 40)), workers(4, Worker{Age: time.Hour, CPU: time.Minute})...)
	if got := Advise(half); got.Others != want.Others || got.Shared != want.Shared || got.Headroom != want.Headroom {
		t.Errorf("half of them read: got %+v, want %+v", got, want)
	}
}

func TestSettingsDependOnTheProcfile(t *testing.T) {
	m := instance(workers(20, worker(300, 0)))
	m.SetBy = Procfile
	a := Advise(m)
	if len(a.Settings) != 2 || a.Settings[0].Where != "Procfile" || a.Settings[1].Name != "WEB_CONCURRENCY" {
		t.Errorf("got %v", a.Settings)
	}
}

func TestText(t *testing.T) {
	m := instance(append(workers(3, worker(180, 40)), worker(260, 40)))
	m.Backlog, m.CPU = 3, 70
	cold := instance(workers(2, Worker{Age: time.Minute}))
	crowded := instance(workers(20, worker(300, 0)))
	crowded.SetBy = Procfile
	got := text(Advise(m)) + "----\n" + text(Advise(crowded)) + "----\n" + text(Advise(cold))
	golden.Compare(t, "testdata/advice.txt", got)
}

func text(a Advice) string {
	var b strings.Builder
	a.Print(func(format string, values ...any) { fmt.Fprintf(&b, format, values...) })
	return b.String()
}

// Whatever is measured, the advice is a number of workers that can be set.
func FuzzAdvise(f *testing.F) {
	f.Add(uint64(8000*mib), uint64(7000*mib), uint64(300*mib), uint64(320*mib), 4, 50.0, 0.6)
	f.Add(uint64(0), uint64(1), uint64(2), uint64(1), 0, -1.0, 9.0)
	f.Fuzz(func(t *testing.T, total, available, private, pss uint64, n int, cpu, target float64) {
		w := Worker{Private: private, PSS: pss, Age: time.Hour, CPU: time.Hour}
		a := Advise(Measured{Total: total, Available: available, Workers: workers(n%100, w), Load: Load{CPU: cpu}, Target: target})
		if a.Verdict == NotWarm {
			return
		}
		if a.Advised < 1 || a.Fit < 0 || text(a) == "" {
			t.Errorf("got %+v", a)
		}
	})
}
