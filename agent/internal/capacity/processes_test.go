package capacity

import (
	"testing"
	"time"
)

// group is a family of processes: each is {pid, parent, PSS in MiB}.
func group(ps ...[3]int) (out []Process) {
	for _, p := range ps {
		out = append(out, Process{PID: p[0], Parent: p[1], Worker: Worker{PSS: uint64(p[2]) * mib}})
	}
	return out
}

func TestWorkersAreSeparatedFromTheRest(t *testing.T) {
	for _, tt := range []struct {
		name    string
		ps      []Process
		workers []int // PSS in MiB
		rest    uint64
	}{
		{"one process", group([3]int{10, 1, 90}), []int{90}, 0},
		{"master and workers", group([3]int{10, 1, 20}, [3]int{11, 10, 80}, [3]int{12, 10, 70}), []int{80, 70}, 20},
		{"below a shell", group([3]int{9, 1, 1}, [3]int{10, 9, 20}, [3]int{11, 10, 80}, [3]int{12, 10, 70}), []int{80, 70}, 21},
		{"in any order", group([3]int{12, 10, 70}, [3]int{10, 9, 20}, [3]int{9, 1, 1}, [3]int{11, 10, 80}), []int{70, 80}, 21},
		{"one worker below a shell", group([3]int{9, 1, 1}, [3]int{10, 9, 20}, [3]int{11, 10, 80}), []int{80}, 21},
		{"a shell and its program", group([3]int{9, 1, 1}, [3]int{10, 9, 80}), []int{80}, 1},
		{"a worker runs something", group([3]int{10, 1, 20}, [3]int{11, 10, 80}, [3]int{12, 10, 70}, [3]int{13, 11, 30}), []int{80, 70}, 50},
		{"the only worker runs something", group([3]int{10, 1, 20}, [3]int{11, 10, 80}, [3]int{13, 11, 30}), []int{80}, 50},
		{"no parent in the group", group([3]int{10, 1, 50}, [3]int{20, 1, 60}), []int{50, 60}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ws, rest := Split(tt.ps)
			ok := len(ws) == len(tt.workers) && rest.PSS == tt.rest*mib
			for i := 0; ok && i < len(ws); i++ {
				ok = ws[i].PSS == uint64(tt.workers[i])*mib
			}
			if !ok {
				t.Errorf("got workers %v, rest %d MiB, want %v and %d", ws, rest.PSS/mib, tt.workers, tt.rest)
			}
		})
	}
}

// The advice rests on the rush of ten minutes ago, not on the moment somebody asks.
func TestRecentLoadIsRememberedAQuarterOfAnHour(t *testing.T) {
	var r Recent
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	if l := r.Load(at); l != (Load{}) {
		t.Errorf("empty: got %+v", l)
	}
	for i := range 12 {
		r.Add(at.Add(time.Duration(i)*5*time.Second), Load{CPU: float64(100 + i), Backlog: 7, BacklogKnown: true})
	}
	for end := at.Add(14 * time.Minute); at.Before(end); {
		at = at.Add(5 * time.Second)
		r.Add(at, Load{CPU: 1, BacklogKnown: true})
	}
	if l := r.Load(at); l != (Load{CPU: 111, Backlog: 7, BacklogKnown: true}) {
		t.Errorf("14 minutes later: got %+v", l)
	}
	at = at.Add(time.Minute)
	r.Add(at, Load{})
	if l := r.Load(at); l != (Load{CPU: 1, BacklogKnown: true}) {
		t.Errorf("15 minutes later: got %+v", l)
	}
	if l := r.Load(at.Add(-time.Hour)); l != (Load{}) {
		t.Errorf("the clock was stepped back: got %+v", l)
	}
}

func TestAQueueForAMomentIsNoQueue(t *testing.T) {
	var r Recent
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for i := range 100 {
		r.Add(at.Add(time.Duration(i)*time.Second), Load{Backlog: max(0, i-95), BacklogKnown: true})
	}
	if l := r.Load(at.Add(100 * time.Second)); l.Backlog != 0 {
		t.Errorf("4 looks of 100: got %+v", l)
	}
	r.Add(at.Add(100*time.Second), Load{Backlog: 1, BacklogKnown: true})
	r.Add(at.Add(101*time.Second), Load{Backlog: 1, BacklogKnown: true})
	if l := r.Load(at.Add(102 * time.Second)); l.Backlog != 4 {
		t.Errorf("6 looks of 102: got %+v", l)
	}
	if n := testing.AllocsPerRun(10, func() { r.Add(at, Load{}); r.Load(at) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestAGeneratedProcfileIsThePlatforms(t *testing.T) {
	for text, want := range map[string]SetBy{
		"web: gunicorn --bind 127.0.0.1:8000 --workers=1 --threads=15 application:application\n": PythonOptions,
		"web: gunicorn --workers 4 app.wsgi\nworker: celery worker\n":                            Procfile,
		"web: bundle exec puma -C config/puma.rb\n":                                              Procfile,
		"": Procfile,
	} {
		if got := SetByOf([]byte(text)); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}
