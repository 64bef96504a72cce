package collectors

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"
)

// hierarchy is the tree of cgroups, of either version.
type hierarchy struct {
	sys     fs.FS // what /sys/fs/cgroup is
	looked  bool
	unified bool // version 2 alone
}

func (h *hierarchy) isUnified() bool {
	if !h.looked {
		_, err := fs.Stat(h.sys, "cgroup.controllers")
		h.looked, h.unified = true, err == nil
	}
	return h.unified
}

// trees are the directories that hold the processes of a cgroup: on version 1
// systemd's own first, then any that may be there without it.
func (h *hierarchy) trees() []string {
	if h.isUnified() {
		return []string{"."}
	}
	return []string{"systemd", "unified", "pids", "memory", "cpu,cpuacct", "cpuacct"}
}

// source is where a group's processes are listed: a cgroup's files, or the processes to walk down from.
type source struct {
	found string // in words
	roots []int

	procs  []kernelFile // cgroup.procs, of the cgroup and those below it
	cut    bool         // there are more of them
	stale  bool         // version 1: a cgroup.procs read again soon must not be believed
	listed time.Time    // when they were read last
	memory kernelFile   // memory.stat; no name: not accounted
	anonIs string       // which line of it is the anonymous memory
	cpu    kernelFile   // cpu.stat or cpuacct.usage; no name: not accounted
	cpuIs  string       // which line of it; "": the file is one number of ns
}

// cgroup returns the source for a cgroup, or nil when there is none of that name.
func (h *hierarchy) cgroup(name string) *source {
	name = path.Clean(strings.Trim(name, "/"))
	if name == "." || !fs.ValidPath(name) {
		return nil // the root cgroup holds every process
	}
	for _, tree := range h.trees() {
		procs, cut := h.procs(path.Join(tree, name))
		if len(procs) == 0 {
			continue
		}
		s := &source{found: fmt.Sprintf("cgroup %q", name), procs: procs, cut: cut, stale: !h.isUnified()}
		h.accounting(s, name)
		return s
	}
	return nil
}

// maxCgroups bounds the cgroups below a group's: whoever it is delegated to makes them, and each has an open file.
const maxCgroups = 64

// procs lists the cgroup.procs files at and below dir, and reports whether there are more.
func (h *hierarchy) procs(dir string) (files []kernelFile, cut bool) {
	own := path.Join(dir, "cgroup.procs")
	if _, err := fs.Stat(h.sys, own); err != nil {
		return nil, false
	}
	files = append(files, kernelFile{fsys: h.sys, name: own}) // whatever sorts before it
	fs.WalkDir(h.sys, dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "cgroup.procs" && p != own {
			if cut = len(files) == maxCgroups; cut {
				return fs.SkipAll
			}
			files = append(files, kernelFile{fsys: h.sys, name: p})
		}
		return nil
	})
	return files, cut
}

// accounting finds the files that tell the cgroup's memory and CPU time. On
// version 1 they are there only if the unit's accounting is on.
func (h *hierarchy) accounting(s *source, name string) {
	file := func(p string) kernelFile {
		if _, err := fs.Stat(h.sys, p); err != nil {
			return kernelFile{}
		}
		return kernelFile{fsys: h.sys, name: p}
	}
	if h.isUnified() {
		s.memory, s.anonIs = file(name+"/memory.stat"), "anon"
		s.cpu, s.cpuIs = file(name+"/cpu.stat"), "usage_usec"
		return
	}
	s.memory, s.anonIs = file("memory/"+name+"/memory.stat"), "total_rss"
	for _, tree := range []string{"cpuacct", "cpu,cpuacct"} {
		if s.cpu = file(tree + "/" + name + "/cpuacct.usage"); s.cpu.name != "" {
			return
		}
	}
}

// anon is the anonymous memory of the cgroup and those below it, in bytes.
func (s *source) anon(buf *[]byte) (n uint64, ok bool, err error) {
	if s.memory.name == "" {
		return 0, false, nil
	}
	b, err := s.memory.read(buf)
	if err != nil {
		return 0, false, unlessGone(err)
	}
	return parseKeyed(b, s.anonIs)
}

// cpuUsed is the CPU time the cgroup and those below it have used, processes that are gone included.
func (s *source) cpuUsed(buf *[]byte) (used time.Duration, ok bool, err error) {
	if s.cpu.name == "" {
		return 0, false, nil
	}
	b, err := s.cpu.read(buf)
	if err != nil {
		return 0, false, unlessGone(err)
	}
	if s.cpuIs == "" {
		line, _ := cutLine(b)
		n, ok := number(line)
		if !ok || n > 1<<62 {
			return 0, false, lineError("cpuacct.usage", 1, line, "a number of ns")
		}
		return time.Duration(n), true, nil
	}
	n, ok, err := parseKeyed(b, s.cpuIs)
	return time.Duration(min(n, 1<<52)) * time.Microsecond, ok, err
}

// pidlistKept is how soon a list of processes read again may be the old one. Version 1 makes the list at the first
// reading of an open file and keeps it until it has not been read for a second (kernel/cgroup/cgroup-v1.c,
// CGROUP_PIDLIST_DESTROY_DELAY); the rest is for a kernel that is late.
const pidlistKept = 3 * time.Second

// readProcs reads one list of processes, at this time.
func (s *source) readProcs(i int, now time.Time, buf *[]byte) ([]byte, error) {
	f := &s.procs[i]
	if s.stale && now.Sub(s.listed) < pidlistKept {
		f.close() // a file opened anew gets a new list
	}
	b, err := f.read(buf)
	if err != nil { // removed, and perhaps made anew: once more, by its name
		b, err = f.read(buf)
	}
	return b, err
}

func (s *source) close() {
	for i := range s.procs {
		s.procs[i].close()
	}
	s.memory.close()
	s.cpu.close()
}
