// Package control is the server of the agent's socket: who may ask what, and who answers.
//
// Contract: the caller is known from the kernel, never from the request; each route stands beside the permission it
// needs; both ends use the types of package api.
//
// Reason: everything that a person can type at an instance goes through here, so this is where root's power is
// handed out.
package control

import (
	"fmt"
	"net/http"
	"os"
	"os/user"
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

// mayControl reports whether c may attach to a run, read its output or end it, as an error. A run whose user root chose
// is root's: its terminal would be a way to become that user.
func mayControl(c api.Caller, run runs.Run) error {
	if c.Owner || run.Meta[runs.MetaChosenUser] == "" {
		return nil
	}
	return &api.Error{Status: http.StatusForbidden, Exit: 125, Hint: "try again with sudo",
		Message: fmt.Sprintf("run %s is root's: %s may not touch it", run.ID, c.Login)}
}

// redact leaves out of runs what c may not see: arguments may hold secrets, and are for root alone.
func redact(c api.Caller, runs ...runs.Run) []runs.Run {
	for i := range runs {
		if !c.Owner {
			runs[i].Args = nil
		}
	}
	return runs
}

// callerOf names the peer. Names are looked up at each connection, because on
// an instance users may be made long after the agent started.
func callerOf(p fdconn.Peer, self uint32) api.Caller {
	c := api.Caller{UID: p.UID, PID: p.PID, Owner: p.UID == 0 || p.UID == self}
	c.Login = strconv.FormatUint(uint64(p.UID), 10)
	c.Login = nameOf(c.Login)
	if id := loginUID(p.PID); id != "" && id != strconv.FormatUint(uint64(p.UID), 10) {
		c.Session = nameOf(id)
	}
	return c
}

// nameOf is the name of a user's number, or the number.
func nameOf(uid string) string {
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return uid
}

// loginUID is the user that began a process's session; empty when it began without a login, or the kernel does not say.
func loginUID(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/loginuid", pid))
	id := strings.TrimSpace(string(b))
	if err != nil || id == "4294967295" {
		return ""
	}
	return id
}

// admit reports whether c may use a route, as an error that says what to do.
func admit(c api.Caller, want Access, allow []string) error {
	if c.Owner {
		return nil
	}
	if want == Owner {
		return &api.Error{Status: http.StatusForbidden, Hint: "try again with sudo",
			Message: fmt.Sprintf("%s may not do this: only root may", c.Login)}
	}
	uid := strconv.FormatUint(uint64(c.UID), 10)
	for _, name := range allow {
		if name == c.Login || name == uid {
			return nil
		}
	}
	return &api.Error{Status: http.StatusForbidden,
		Message: fmt.Sprintf("%s is not allowed to run commands here", c.Login),
		Hint:    "root can add it under exec.allow in /etc/agent/agent.yaml"}
}
