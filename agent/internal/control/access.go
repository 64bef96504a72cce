// Package control is the server of the agent's socket: who may ask what, and who answers.
//
// Contract: the caller is known from the kernel, never from the request; each route stands beside the permission it
// needs; both ends use the types of package api.
//
// Reason: everything that a person can type at an instance goes through here, so this is where root's power is
// handed out.
package control

import (
	"cmp"
	"fmt"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/runs"
)

// Access is what a route asks of its caller.
type Access int

const (
	// Callers admits root, the agent's own user, and the users of exec.allow.
	Callers Access = iota
	// Owner admits root and the agent's own user.
	Owner
)

// mayControl reports whether c may end a run, as an error. A run whose user root chose is root's.
func mayControl(c api.Caller, run runs.Run) error {
	if c.Owner || run.Meta[runs.MetaChosenUser] == "" {
		return nil
	}
	return &api.Error{Status: http.StatusForbidden, Exit: 125, Hint: "try again with sudo",
		Message: fmt.Sprintf("run %s is root's: %s may not touch it", run.ID, c.Login)}
}

// maySee reports whether c may attach to a run or read its output, as an error. A terminal shows what was typed into
// it, and who types there has its user's rights: it is for who opened it and for root, unless it was shared. Other
// output is for whoever may end the run.
func maySee(c api.Caller, run runs.Run) error {
	switch {
	case run.IO != runs.IOTerminal:
		return mayControl(c, run)
	case c.Owner || run.Caller.UID == c.UID || run.Meta[runs.MetaShared] != "":
		return nil
	}
	return &api.Error{Status: http.StatusForbidden, Exit: 125,
		Message: fmt.Sprintf("the terminal of run %s is %s's: %s may not see it", run.ID,
			cmp.Or(run.Caller.Login, strconv.FormatUint(uint64(run.Caller.UID), 10)), c.Login),
		Hint: "try again with sudo; a terminal that others may attach to is opened with agent exec --share"}
}

// redact leaves out of runs what c may not see: arguments may hold secrets, and are for root alone. So is the hash of
// long ones, by which a short secret among them could be tried out.
func redact(c api.Caller, list ...runs.Run) []runs.Run {
	for i := range list {
		if !c.Owner {
			list[i].Args, list[i].AllArgs = nil, runs.AllArgs{}
		}
	}
	return list
}

// callerOf names the peer of a new connection. lives reports whether its pid is still its own.
func callerOf(p fdconn.Peer, lives func() bool) api.Caller {
	uid := number(p.UID)
	c := api.Caller{UID: p.UID, PID: p.PID, Owner: p.Owner(), Login: nameOf(uid)}
	if id := loginUID(fmt.Sprint("/proc/", p.PID)); id != "" && id != uid && lives() {
		c.Session = nameOf(id)
	}
	return c
}

func number(uid uint32) string { return strconv.FormatUint(uint64(uid), 10) }

// nameOf is the name of a user's number, or the number.
func nameOf(uid string) string {
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return uid
}

// loginUID is the user that began the session of the process whose directory below /proc is given; empty when it began
// without a login, or the kernel does not say. A process that has no login yet may set any (proc(5),
// /proc/PID/loginuid), as in a session over SSM: so it is believed only in the control group that logind made for that
// user's sessions.
func loginUID(proc string) string {
	b, err := os.ReadFile(filepath.Join(proc, "loginuid"))
	id := strings.TrimSpace(string(b))
	if err != nil || id == "4294967295" {
		return ""
	}
	groups, _ := os.ReadFile(filepath.Join(proc, "cgroup"))
	for line := range strings.Lines(string(groups)) { // number:controllers:path, of which a user chooses the end
		f := strings.SplitN(line, ":", 3)
		if len(f) == 3 && strings.HasPrefix(f[2], "/user.slice/user-"+id+".slice/") {
			return id
		}
	}
	return ""
}

// admit reports whether c may use a route, as an error that says what to do. allowed: c is a user of exec.allow.
func admit(c api.Caller, want Access, allowed bool) error {
	switch {
	case c.Owner || allowed && want == Callers:
		return nil
	case !allowed:
		return notAllowed(c.Login)
	}
	return &api.Error{Status: http.StatusForbidden, Hint: "try again with sudo",
		Message: fmt.Sprintf("%s may not do this: only root may", c.Login)}
}

func notAllowed(user string) *api.Error {
	return &api.Error{Status: http.StatusForbidden, Exit: 125, Message: user + " is not allowed here",
		Hint: api.HintNotAllowed}
}
