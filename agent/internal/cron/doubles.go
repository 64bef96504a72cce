package cron

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/scheduler"
)

// doubles notices other environments that run the same jobs: of one bundle each environment runs each job, and so does
// a clone. They are found by their registers in the bucket, of which a job's has a hash of what it runs.
type doubles struct {
	open   func() (*groupStore, error)
	jobs   func() []scheduler.Job // those that are on here
	own    func() string          // this environment's name
	notify func(who string, jobs []string)
	log    *slog.Logger

	mu      sync.Mutex
	found   map[string][]string // jobs, by who runs them too
	partial bool                // not all was looked at
	failed  bool                // the last look was in vain
}

// Limits of looking: a list and some reads an hour, which MonthlyCost counts. The first look comes when an instance
// that has just started has other things behind it, and not at each of many restarts.
const (
	looksEach   = time.Hour
	firstLookIn = 30 * time.Second
	doubleReads = 50
	doubleAge   = 24 * time.Hour // and between two notices
	maxDoubles  = 10             // that are named

	doubleWindow = 10 * time.Second
)

// watch looks each hour until ctx is done, at another time than other hosts.
func (d *doubles) watch(ctx context.Context, host string) {
	h := fnv.New32a()
	h.Write([]byte(host))
	wait, idle := firstLookIn+time.Duration(h.Sum32()%30)*time.Second, firstLookIn
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = looksEach
		switch s, err := d.open(); {
		case errors.Is(err, errNoStore):
		case err != nil || len(d.jobs()) == 0: // right after a boot, or before the first deployment: nobody is asked
			wait = idle
			idle = min(2*idle, looksEach)
		default:
			d.look(ctx, s)
		}
	}
}

// look reads who else runs this instance's jobs.
func (d *doubles) look(ctx context.Context, s *groupStore) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	all, whole, err := s.Others(ctx)
	if err != nil {
		d.noteFailed(ctx, err)
		return
	}
	jobs, own := map[string]scheduler.Job{}, d.own()
	for _, j := range d.jobs() {
		jobs[j.Name] = j
	}
	list := candidates(all, jobs, own, s.Now())
	if len(list) > doubleReads {
		list, whole = list[:doubleReads], false
	}
	found := map[string][]string{}
	for _, o := range list {
		r, err := s.ReadOther(ctx, o)
		if err != nil { // an object that is no register says nothing
			continue
		}
		for _, who := range runners(jobs[o.Job], o, r, own, s.Now()) {
			if found[who] != nil || len(found) < maxDoubles {
				found[who] = append(found[who], o.Job)
			}
		}
	}
	d.note(found, whole)
	for who, jobs := range found {
		d.report(ctx, s, who, jobs)
	}
}

// report sends a notice of who runs the same jobs, once a day from all instances that share the registers: the one that
// wins the day as a slot sends it.
func (d *doubles) report(ctx context.Context, s *groupStore, who string, jobs []string) {
	o, err := s.Claim(ctx, claim.Request{Job: claim.LockPrefix + "doubles/" + who, Window: doubleWindow,
		Slot: s.Now().Truncate(doubleAge), Overlap: claim.Allow})
	switch {
	case err != nil && ctx.Err() == nil: // the next look tries again
		d.log.Info("who runs the same jobs is not sent as a notice yet", "who", who, "err", err)
	case o.State == claim.Won:
		d.notify(who, jobs)
	}
}

// candidates are the registers that others wrote lately for these jobs, the latest first.
func candidates(all []claim.Other, jobs map[string]scheduler.Job, own string, now time.Time) []claim.Other {
	list := slices.DeleteFunc(all, func(o claim.Other) bool {
		_, ok := jobs[o.Job]
		return !ok || now.Sub(o.Modified) > doubleAge || o.Environment == own
	})
	slices.SortStableFunc(list, func(a, b claim.Other) int { return b.Modified.Compare(a.Modified) })
	return list
}

// runners names who runs the job according to the register of o.
func runners(job scheduler.Job, o claim.Other, r claim.Register, own string, now time.Time) (who []string) {
	hash := commandHash(job)
	for _, run := range r.Runs {
		environment := cmp.Or(run.Environment, o.Environment)
		if run.Manual || run.Command != hash || environment == own || !isCurrent(job, run, now) {
			continue
		}
		name := printable(environment)
		if o.Group != "" {
			name = strings.TrimSpace(name + " in group " + printable(o.Group))
		}
		if !slices.Contains(who, name) {
			who = append(who, name)
		}
	}
	return who
}

// isCurrent reports whether the job's next runs may be expected there. Whoever has let two slots pass has stopped, as
// the blue environment after a swap.
func isCurrent(job scheduler.Job, r claim.Run, now time.Time) bool {
	if now.Sub(r.Claimed).Abs() > doubleAge || r.Claimed.Sub(r.Slot).Abs() > doubleAge {
		return false
	}
	next := job.Schedule.Next(r.Slot.In(job.Location))
	if !next.IsZero() {
		next = job.Schedule.Next(next)
	}
	return next.IsZero() || now.Sub(next) < 10*time.Minute
}

// noteFailed logs, once, that the look for doubles fails.
func (d *doubles) noteFailed(ctx context.Context, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.failed && ctx.Err() == nil {
		d.failed = true
		d.log.Info("whether other environments run the same jobs is not known", "err", err)
	}
}

// note keeps what was found, and logs what is new.
func (d *doubles) note(found map[string][]string, whole bool) {
	d.mu.Lock()
	before := d.found
	d.found, d.partial, d.failed = found, !whole, false
	d.mu.Unlock()
	for who, jobs := range found {
		if before[who] == nil {
			d.log.Warn(who+" runs these jobs too", "jobs", firstNames(jobs), "all_looked_at", whole, "hint", doubleHint)
		}
	}
	for who := range before {
		if found[who] == nil {
			d.log.Info(who + " does not run the same jobs any more")
		}
	}
}

const doubleHint = "group: NAME in both cron files has each slot run once between them; " +
	"environments: or process_types: has only one of them run a job"

// lines say who runs the same jobs.
func (d *doubles) lines() (lines []api.Line) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, who := range slices.Sorted(maps.Keys(d.found)) {
		text := who + " runs these jobs too: " + firstNames(d.found[who])
		lines = append(lines, api.NewLine("cron", api.Warn, doubleHint, "%s", text))
	}
	if d.partial {
		lines = append(lines, api.NewLine("cron", api.Warn, "cron.claims: s3://BUCKET/PREFIX of its own in agent.yaml",
			"others may run these jobs too: the bucket has more registers than are looked at"))
	}
	return lines
}

// firstNames is the names of a few jobs in one text.
func firstNames(jobs []string) string {
	const most = 5
	jobs = slices.Sorted(slices.Values(jobs))
	if n := len(jobs) - most; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(jobs[:most], ", "), n)
	}
	return strings.Join(jobs, ", ")
}
