package claim

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// reports counts what processes report.
type reports struct {
	t     *testing.T
	mu    sync.Mutex
	count map[string]int
}

func (r *reports) tell(lost, missed []Run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, run := range lost {
		r.count["lost with "+run.Owner]++
	}
	for _, run := range missed {
		r.count["missed, "+run.Outcome]++
	}
}

// look is an agent's: it reports what there is, and has that noted.
func (r *reports) look(s *Store) (again time.Duration) {
	lost, missed, again, err := s.NoteLost(r.t.Context(), "job")
	if r.tell(lost, missed); err == nil && len(lost)+len(missed) > 0 {
		err = s.Told(r.t.Context(), "job")
	}
	if err != nil {
		r.t.Error(err)
	}
	return again
}

// deaf is a network on which a write takes effect, and nothing is heard for so long.
func deaf(f *fakeS3, d time.Duration) {
	var until time.Time
	f.before = func(w http.ResponseWriter, r *http.Request) bool { return time.Now().Before(until) && abort(w, r) }
	f.after = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && until.IsZero() {
			until = time.Now().Add(d)
		}
		return time.Now().Before(until) && abort(w, r)
	}
}

// What is to be reported of another's run is reported once: also where the answer to the write of it is lost and the
// network is away for longer than the writer tries, and where that is killed before its notice and two look at once.
func TestWhatIsToBeReportedIs(t *testing.T) {
	lose := func(*testing.T, *Store) { time.Sleep(lease + time.Minute) }
	interrupt := func(t *testing.T, s *Store) {
		if err := s.Finish(t.Context(), "job", minute(0), Result{Outcome: Interrupted + ": shutdown"}); err != nil {
			t.Fatal(err)
		}
	}
	next := func(ctx context.Context, s *Store) error {
		q := alone(minute(1), Skip)
		q.Rerun = true
		_, err := s.Claim(ctx, q)
		return err
	}
	for name, c := range map[string]struct {
		ends  func(*testing.T, *Store)
		write func(context.Context, *Store) error // its answer is lost with the process, or on its way
		want  string
	}{
		"a look": {lose, func(ctx context.Context, s *Store) error {
			_, _, _, err := s.NoteLost(ctx, "job")
			return err
		}, "lost with i-0"},
		"a claim": {lose, next, "lost with i-0"},
		"a takeover": {lose, func(ctx context.Context, s *Store) error {
			_, err := s.TakeOver(ctx, alone(minute(0), Skip))
			return err
		}, "lost with i-0"},
		"a missed slot": {interrupt, func(ctx context.Context, s *Store) error {
			_, err := s.NoteMissed(ctx, "job", minute(0))
			return err
		}, "missed, interrupted: shutdown"},
		"a claim after an interrupted run": {interrupt, next, "missed, interrupted: shutdown"},
	} {
		for _, how := range []string{"deaf", "killed", "deaf, and killed"} {
			synctest.Test(t, func(t *testing.T) {
				f, ss := fleet(t, 4)
				r := reports{t: t, count: map[string]int{}}
				claimed(t, ss[0], alone(minute(0), Skip), Won)
				c.ends(t, ss[0])
				if how != "killed" {
					deaf(f, 2*time.Minute)
				}
				ctx, cancel := contextOf(t, 20*time.Second)
				defer cancel()
				if err := c.write(ctx, ss[1]); (err == nil) != (how == "killed") {
					t.Fatal(name, how, err)
				}
				time.Sleep(2 * time.Minute)
				if how == "deaf" {
					r.look(ss[1])
				}
				again := time.Duration(0)
				each(ss[2:], func(s *Store) {
					d := r.look(s)
					r.mu.Lock()
					again = max(again, d)
					r.mu.Unlock()
				})
				if how != "deaf" && (len(r.count) > 0 || again == 0 || again > lease) {
					t.Errorf("%s, %s: reported %v, the next look in %s", name, how, r.count, again)
				}
				for range 2 {
					time.Sleep(again)
					each(ss[2:], func(s *Store) { r.look(s) })
					time.Sleep(lease + time.Minute)
				}
				each(ss[1:], func(s *Store) { r.look(s) })
				if r.count[c.want] != 1 { // beside the loss of the claim's own run
					t.Errorf("%s, %s: reported %v, want %q once", name, how, r.count, c.want)
				}
			})
		}
	}
}

// One that has reported, and cannot have that noted, is reported once more: better than not at all. What ends well after
// all, or goes on, is not.
func TestWhatMayNotHaveBeenReportedIs(t *testing.T) {
	for name, c := range map[string]struct {
		then func(*testing.T, *Store)
		want int
	}{
		"nothing more is heard": {func(*testing.T, *Store) {}, 2},
		"it has ended": {func(t *testing.T, owner *Store) {
			if err := owner.Finish(t.Context(), "job", minute(0), Result{Outcome: "exit 0"}); err != nil {
				t.Error(err)
			}
		}, 1},
		"it goes on": {func(t *testing.T, owner *Store) {
			if _, err := owner.Renew(t.Context(), "job", minute(0), 20*time.Minute); err != nil {
				t.Error(err)
			}
		}, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			_, ss := fleet(t, 3)
			r := reports{t: t, count: map[string]int{}}
			claimed(t, ss[0], alone(minute(0), Skip), Won)
			time.Sleep(lease + time.Minute)
			lost, missed, _, err := ss[1].NoteLost(t.Context(), "job")
			if err != nil {
				t.Fatal(err)
			}
			r.tell(lost, missed)
			c.then(t, ss[0])
			time.Sleep(lease + time.Second)
			each(ss[1:], func(s *Store) { r.look(s) })
			if r.count["lost with i-0"] != c.want {
				t.Errorf("%s: reported %v", name, r.count)
			}
		})
	}
}

// Of a run of which there is nothing to report, whoever wrote that there is, nobody looks again or writes.
func TestNothingIsUntoldOfARunThatEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ss := fleet(t, 2)
		f.objects = map[string][]byte{registerPath: []byte(`{"version":2,"job":"job","runs":[{"slot":"1999-12-31T02:00:00Z","owner":"i-0",
			"nonce":"n","claimed":"1999-12-31T02:00:00Z","outcome":"exit 0","untold":{"by":"x","since":"1999-12-31T02:00:00Z"}}]}`)}
		for _, s := range ss {
			if lost, missed, again, err := s.NoteLost(t.Context(), "job"); len(lost)+len(missed) > 0 || again != 0 || err != nil {
				t.Errorf("%v, %v, again in %s, %v", lost, missed, again, err)
			}
		}
		if f.puts != 0 {
			t.Errorf("%d writes", f.puts)
		}
	})
}
