package supervisor

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"syscall"

	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/runs"
)

// How many runs there may be at once, so that those of one keep no others from starting: this process has a descriptor
// or three and a thread for each. What is left at each limit is for those of the line after it.
const (
	maxOfCaller  = 200  // of one caller who is neither root nor this process's own user
	maxOfCallers = 1000 // of all of those
	maxOfCron    = 1500 // of those and of jobs: a cron file may have 10,000
	maxRuns      = 2000 // of all, root's commands too
)

// filesOfRun is the most descriptors that this process holds for a run that has begun. A start takes some more.
const (
	filesOfRun   = 4
	filesForSelf = 256 // and for starts and requests
	filesWanted  = filesForSelf + filesOfRun*maxRuns
)

// crowd counts the live runs. Its user guards it.
type crowd struct {
	all     int // that there may be
	files   int // that this process may have
	live    int
	cron    int
	callers int
	of      map[uint32]int // by caller, but for the owners
}

// newCrowd makes room for maxRuns, as far as this process may: fewer where its limit of open files cannot be raised.
func newCrowd() crowd {
	files := command.RaiseFileLimit(filesWanted)
	return crowd{all: max(1, min(maxRuns, (files-filesForSelf)/filesOfRun)), files: files, of: map[uint32]int{}}
}

// member is whose a run is, as far as that counts.
type member struct {
	caller uint32
	owner  bool // root, or this process's own user
	cron   bool
}

func memberOf(req *runs.Request) member {
	uid := req.Caller.UID
	return member{caller: uid, owner: uid == 0 || int(uid) == os.Geteuid(), cron: req.Kind == "cron"}
}

// enter counts a run, or says why it may not begin.
func (c *crowd) enter(m member) *runs.Refused {
	share := func(most int) int { return max(1, most*c.all/maxRuns) }
	switch {
	case c.live >= c.all:
		return tooMany("%d runs are live, which is as many as there may be", c.live)
	case !m.owner && c.of[m.caller] >= share(maxOfCaller):
		return tooMany("user %s has %d live runs, which is as many as a user may have",
			userName(m.caller, ""), c.of[m.caller])
	case !m.owner && c.callers >= share(maxOfCallers):
		return tooMany("users other than root have %d live runs, which is as many as they may have", c.callers)
	case (m.cron || !m.owner) && c.cron+c.callers >= share(maxOfCron):
		return tooMany("%d runs of jobs and of users are live: the rest is root's", c.cron+c.callers)
	}
	c.count(m, 1)
	return nil
}

// leave forgets a run that entered.
func (c *crowd) leave(m member) {
	c.count(m, -1)
	if c.of[m.caller] == 0 {
		delete(c.of, m.caller)
	}
}

func (c *crowd) count(m member, n int) {
	c.live += n
	switch {
	case !m.owner:
		c.callers += n
		c.of[m.caller] += n
	case m.cron:
		c.cron += n
	}
}

func tooMany(format string, args ...any) *runs.Refused {
	return &runs.Refused{Status: http.StatusTooManyRequests, Code: command.CodeRefused,
		Message: fmt.Sprintf(format, args...), Hint: "agent ps lists them; agent stop RUN ends one"}
}

// crowded reports whether a start failed for want of descriptors while runs hold most of them: that is no fault of this
// process, and a restart would end those runs.
func (s *server) crowded(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Is(err, syscall.EMFILE) && 2*filesOfRun*s.crowd.live >= s.crowd.files
}
