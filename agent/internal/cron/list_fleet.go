package cron

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/claim"
)

// Limits of what one list asks S3: time, and requests, which cost money.
const (
	listLimit   = 2 * time.Second
	listReads   = 100
	listReaders = 16
)

// eachRegister reads the registers of jobs, several at a time. It returns how many it has not read, and what is wrong
// with one that cannot be believed.
func eachRegister(ctx context.Context, s *groupStore, jobs []string, each func(string, claim.Register)) (
	unread int, unusable error) {
	ctx, cancel := context.WithTimeout(ctx, listLimit)
	defer cancel()
	var readers sync.WaitGroup
	var next, read atomic.Int64
	var wrong atomic.Pointer[error]
	some := jobs[:min(len(jobs), listReads)]
	for range min(listReaders, len(some)) {
		readers.Go(func() {
			for i := next.Add(1); i <= int64(len(some)); i = next.Add(1) {
				r, err := s.Read(ctx, some[i-1])
				if errors.Is(err, claim.ErrMisconfigured) {
					wrong.Store(&err)
				}
				if err == nil {
					read.Add(1)
					each(some[i-1], r)
				}
			}
		})
	}
	readers.Wait()
	if err := wrong.Load(); err != nil {
		unusable = *err
	}
	return len(jobs) - int(read.Load()), unusable
}

// fillLast fills in what the registers say: which instance ran each job's newest slot and how it ended, which runs it
// now, and who has paused it. The rest is as of eachRegister.
func (c *fleet) fillLast(ctx context.Context, jobs []*api.CronJob) (unread int, unusable error) {
	s, err := c.open()
	if err != nil || len(jobs) == 0 {
		return 0, nil
	}
	byName := map[string]*api.CronJob{}
	var names []string
	for _, j := range jobs {
		byName[j.Name], names = j, append(names, j.Name)
	}
	return eachRegister(ctx, s, names, func(name string, r claim.Register) { fill(byName[name], r, s) })
}

// paused says of each job that is paused on all instances by whom, and since when.
func (c *fleet) paused(ctx context.Context, jobs []string) map[string]string {
	notes := map[string]string{}
	s, err := c.open()
	if err != nil {
		return notes
	}
	var mu sync.Mutex
	eachRegister(ctx, s, jobs, func(name string, r claim.Register) {
		mu.Lock()
		defer mu.Unlock()
		if r.Paused != nil {
			notes[name] = pausedNote(r.Paused)
		}
	})
	return notes
}

func pausedNote(p *claim.Pause) string {
	return "paused by " + printable(p.By) + " since " + clock(p.Since)
}

func fill(j *api.CronJob, r claim.Register, s *groupStore) {
	past := slices.IndexFunc(r.Runs, func(run claim.Run) bool { return !run.Slot.After(time.Now()) })
	if past >= 0 {
		run := r.Runs[past]
		j.Host, j.Last, j.Result = run.Owner, &run.Slot, cmp.Or(run.Outcome, "started, not ended")
	}
	var notes []string
	if p := r.Paused; p != nil {
		j.Paused, j.Next = &api.CronPauser{By: p.By, Since: p.Since}, nil
		notes = append(notes, pausedNote(p))
	}
	for _, run := range r.Live(s.Now()) {
		j.Running = append(j.Running, api.CronHolder{Host: run.Owner, Environment: run.Environment, Since: run.Claimed})
		if run.Owner != s.Owner() {
			notes = append(notes, where(run)+" runs it since "+clock(run.Claimed))
		}
	}
	if j.Note != "" {
		notes = append(notes, j.Note)
	}
	j.Note = strings.Join(notes, "; ")
}
