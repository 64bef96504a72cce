package supervisor

import (
	"fmt"
	"maps"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/runs"
)

// validID reports whether id may name a run: [a-z0-9][a-z0-9._-]*, at most 64. It is a file's name, too.
// By hand, since a compiled pattern costs every start of the binary 50 kB.
func validID(id string) bool {
	for i, r := range []byte(id) {
		word := r >= 'a' && r <= 'z' || r >= '0' && r <= '9'
		if !word && (i == 0 || r != '.' && r != '_' && r != '-') {
			return false
		}
	}
	return id != "" && len(id) <= 64
}

const maxKey = 64 // bytes of a key of a run's Meta

func longKey(k string) bool { return len(k) > maxKey }

// check refuses a request that is not whole, or that this supervisor's own rules do not allow, and
// returns whom to run as. The agent has judged before; this is the second lock, behind the privilege line.
func (c *Config) check(req *runs.Request) (*command.Credential, *runs.Refused) {
	switch {
	case len(req.Args) == 0 || req.Args[0] == "":
		return nil, misuse("no command given")
	case req.ID != "" && !validID(req.ID):
		return nil, misuse("run id %q: expected at most 64 of a-z 0-9 . _ -", req.ID)
	case req.Kind != "" && req.Kind != "exec" && req.Kind != "cron":
		return nil, misuse("kind %q: expected exec or cron", req.Kind)
	case req.IO != runs.IOPipes && req.IO != runs.IOTerminal && req.IO != runs.IOSpool:
		return nil, misuse("io %q: expected pipes, terminal or spool", req.IO)
	case req.Dir != "" && !strings.HasPrefix(req.Dir, "/"):
		return nil, misuse("directory %q: expected an absolute path", req.Dir)
	case req.OOMScoreAdj < -1000 || req.OOMScoreAdj > 1000:
		return nil, misuse("oom_score_adj %d: expected -1000 to 1000", req.OOMScoreAdj)
	case req.MemoryMax < 0 || req.MaxOutput < 0 || req.Timeout < 0 || req.Grace < 0 || req.Idle < 0:
		return nil, misuse("a limit is negative")
	case req.Lease < 0 || req.Lease > runs.MaxLease || req.LeaseFrom < 0:
		return nil, misuse("lease of %s: expected at most %s", req.Lease, runs.MaxLease)
	case len(req.Meta) > runs.MaxMeta || slices.ContainsFunc(slices.Collect(maps.Keys(req.Meta)), longKey):
		return nil, misuse("meta: expected at most %d keys of at most %d bytes", runs.MaxMeta, maxKey)
	}
	if err := runs.CheckGrace(req.Caller.UID, req.Grace); err != nil {
		return nil, misuse("%v", err)
	}
	return c.credential(req)
}

func (c *Config) credential(req *runs.Request) (*command.Credential, *runs.Refused) {
	own := uint32(os.Geteuid())
	if own != 0 {
		if req.UID != own {
			return nil, denied("this agent is not root: it cannot run commands as user %d", req.UID)
		}
		return nil, nil // as this process, with its groups
	}
	if !c.allows(req.UID) {
		refusal := denied("runs as user %s are not allowed here", userName(req.UID, req.User))
		refusal.Hint = fmt.Sprintf("root can add --allow-user %d to agent-runs.service", req.UID)
		if req.UID == 0 {
			refusal.Hint = "root can add --allow-root to agent-runs.service"
		}
		return nil, refusal
	}
	groups, err := groupsOf(req.UID)
	if err != nil {
		return nil, denied("look up groups of user %d: %v", req.UID, err)
	}
	for _, g := range append([]uint32{req.GID}, req.Groups...) {
		if !slices.Contains(groups, g) && !c.AllowRoot && !c.allowsGroup(g) {
			refusal := denied("user %s is not in group %d", userName(req.UID, req.User), g)
			refusal.Hint = fmt.Sprintf(
				"if the web unit's Group= or SupplementaryGroups= says so: add --allow-group %d to agent-runs.service",
				g)
			return nil, refusal
		}
	}
	if req.Groups != nil {
		groups = req.Groups
	}
	return &command.Credential{UID: req.UID, GID: req.GID, Groups: groups}, nil
}

func (c *Config) allows(uid uint32) bool {
	if uid == 0 {
		return c.AllowRoot
	}
	return slices.ContainsFunc(c.AllowUsers, func(name string) bool {
		if name == "*" {
			return true
		}
		if u, err := user.Lookup(name); err == nil {
			name = u.Uid
		}
		return name == strconv.FormatUint(uint64(uid), 10)
	})
}

// allowsGroup reports whether runs may have a group that their user is not in, as a web unit can give one.
func (c *Config) allowsGroup(gid uint32) bool {
	return slices.ContainsFunc(c.AllowGroups, func(name string) bool {
		if g, err := user.LookupGroup(name); err == nil {
			name = g.Gid
		}
		return name == strconv.FormatUint(uint64(gid), 10)
	})
}

// groupsOf returns the groups of a user, its primary one included. A uid without a name has none to look
// up: only its own number as a group is accepted.
func groupsOf(uid uint32) ([]uint32, error) {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if _, unknown := err.(user.UnknownUserIdError); unknown {
		return []uint32{uid}, nil
	} else if err != nil {
		return nil, err
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, err
	}
	var groups []uint32
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			groups = append(groups, uint32(n))
		}
	}
	return groups, nil
}

func userName(uid uint32, name string) string {
	if name == "" {
		return strconv.FormatUint(uint64(uid), 10)
	}
	return fmt.Sprintf("%s (%d)", name, uid)
}
