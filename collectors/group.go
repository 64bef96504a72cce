package collectors

import (
	"io/fs"
	"regexp"
	"time"
)

// GroupConfig names a group of processes and how to find it. At least one of Cgroup, Unit, Port, UnixPath and Match is
// required; they are tried in this order, and the first that finds a process wins.
//
// A Group's samples, each with the label "group":
//
//	group_processes       Count    0 when the group is gone
//	group_exits           Count    processes that ended since the last tick
//	group_memory_pss      Bytes    cost of the group: shared pages counted once
//	group_memory_pss_age  Seconds  age of the oldest reading group_memory_pss rests on
//	group_memory_anon     Bytes    the cgroup's anonymous memory, where it is accounted
//	group_memory_rss      Bytes    resident memory added up: too much, see below
//	group_memory_largest  Bytes    PSS of the largest process
//	group_memory_growth   Bytes    PSS gained by the present processes since each was first read
//	group_cpu             Percent  of one CPU: 200 is two CPUs busy
//
// Adding up resident memory counts a page that forked workers share once for each: half too much for a usual Django
// under gunicorn, four times with preloading. PSS divides such a page among them, but reading it is dear, so it is read
// now and then and scaled by resident memory in between, which group_memory_pss_age shows: 0 means that all was read in
// this tick, and a process that was not read yet counts with its own age. Where the group's cgroup accounts memory,
// anonymous memory, nearly all of it, is exact at every tick and only the rest is as old as that.
type GroupConfig struct {
	Name string // required: becomes the label "group"

	Cgroup   string         // a path below the cgroup root: system.slice/web.service
	Unit     string         // a systemd unit, in whatever slice: web.service
	Port     uint16         // listeners on this TCP port, and their children
	UnixPath string         // listeners on this UNIX socket, and their children
	Match    *regexp.Regexp // processes whose command line matches, and their children

	// Counts reports whether what a user has may be found by Port, UnixPath or Match: any user can
	// listen on a port that is free, and choose a command line. Optional, everything. The children of what was found
	// count whoever's they are.
	Counts func(uid uint32) bool

	// PSSEvery is how old a process's PSS may become, if the time that reading it may take allows. Optional, 1 minute.
	PSSEvery time.Duration

	Proc fs.FS // optional: what /proc is; Linux only
	Sys  fs.FS // optional: what /sys/fs/cgroup is; Linux only
}

// groupFigures are the figures of one look at a group.
type groupFigures struct {
	processes, exits int
	rss              float64
	pss              float64
	age              time.Duration
	largest, growth  float64
	anon             float64

	hasPSS, hasAnon bool
}

func (f *groupFigures) samples(out []Sample, label []Label) []Sample {
	out = append(out,
		Sample{"group_processes", Count, float64(f.processes), label},
		Sample{"group_exits", Count, float64(f.exits), label})
	if f.processes == 0 {
		return out
	}
	out = append(out, Sample{"group_memory_rss", Bytes, f.rss, label})
	if f.hasAnon {
		out = append(out, Sample{"group_memory_anon", Bytes, f.anon, label})
	}
	if f.hasPSS {
		out = append(out,
			Sample{"group_memory_pss", Bytes, f.pss, label},
			Sample{"group_memory_pss_age", Seconds, f.age.Seconds(), label},
			Sample{"group_memory_largest", Bytes, f.largest, label},
			Sample{"group_memory_growth", Bytes, f.growth, label})
	}
	return out
}

// GroupSnapshot is a group's processes one by one, as of the last Collect.
type GroupSnapshot struct {
	Name      string
	Found     string // how: `cgroup "system.slice/web.service"`; empty when it is not found
	At        time.Time
	Anon      uint64 // bytes, the cgroup's; 0 where it is not accounted
	Processes []Process
}

// Process is one process of a group. Memory is in bytes.
type Process struct {
	PID, Parent int
	Started     time.Time
	Threads     int
	CPU         time.Duration
	RSS         uint64
	PSS         uint64    // as of the last reading, scaled by RSS since
	Private     uint64    // pages no other process maps, as of the last reading
	ReadAt      time.Time // of PSS and Private; zero: not read yet, or not allowed to
}

func (c *GroupConfig) complete() {
	if c.PSSEvery == 0 {
		c.PSSEvery = time.Minute
	}
}
