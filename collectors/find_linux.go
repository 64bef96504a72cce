package collectors

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"beanstalk-agent/collectors/procread"
	"beanstalk-agent/collectors/procstat"
)

// finder looks for a group's processes. A walk of all of /proc costs 25 ms with a hundred processes. For a port it is
// done only when there is a listening socket that the last search did not fail to match; for a pattern, ever more
// rarely; and the more there was to look at, the later the next one.
type finder struct {
	cfg       *GroupConfig
	hierarchy hierarchy
	socket    *listenSocket
	buf       []byte
	line      []byte
	pace      pace // of walks
	steps     int  // of the walk at hand: processes, descriptors and kB of command lines

	owned    []uint32      // listeners that led to the group; nil: something else did
	nextLook time.Time     // when to compare them with those there are now
	vain     []uint32      // listeners whose owner was not found
	ignored  *uint32       // a user of whom something was found that does not count; nil: nobody
	lastUnit string        // the cgroup where the unit was, outside system.slice
	nextUnit time.Time     // when to search the slices again
	next     time.Time     // when to walk for the pattern again
	wait     time.Duration // until then, doubled each time
}

// where names the ways the group is looked for.
func (f *finder) where() string {
	var ways []string
	if f.cfg.Cgroup != "" {
		ways = append(ways, fmt.Sprintf("cgroup %q", f.cfg.Cgroup))
	}
	if f.cfg.Unit != "" {
		ways = append(ways, fmt.Sprintf("unit %q", f.cfg.Unit))
	}
	if f.cfg.Port != 0 {
		ways = append(ways, fmt.Sprintf("port %d", f.cfg.Port))
	}
	if f.cfg.UnixPath != "" {
		ways = append(ways, fmt.Sprintf("socket %q", f.cfg.UnixPath))
	}
	if f.cfg.Match != nil {
		ways = append(ways, fmt.Sprintf("pattern %q", f.cfg.Match))
	}
	where := strings.Join(ways, ", ")
	if f.ignored != nil && *f.ignored != unknownUID {
		where += fmt.Sprintf("; what user %d has there does not count", *f.ignored)
	}
	return where
}

// find returns nil when there is no such group now.
func (f *finder) find(ctx context.Context, now time.Time) (*source, error) {
	f.owned = nil
	if s := f.byCgroup(now); s != nil {
		return s, nil
	}
	s, err := f.byListener(now)
	if s != nil || err != nil || f.cfg.Match == nil {
		return s, err
	}
	return f.byPattern(ctx, now)
}

func (f *finder) byCgroup(now time.Time) *source {
	if f.cfg.Cgroup != "" {
		if s := f.hierarchy.cgroup(f.cfg.Cgroup); s != nil {
			return s
		}
	}
	if f.cfg.Unit == "" {
		return nil
	}
	if s := f.hierarchy.cgroup("system.slice/" + f.cfg.Unit); s != nil {
		return s
	}
	if s := f.hierarchy.cgroup(f.lastUnit); s != nil || now.Before(f.nextUnit) {
		return s
	}
	f.nextUnit = now.Add(time.Minute)
	f.lastUnit = f.unit()
	return f.hierarchy.cgroup(f.lastUnit)
}

// maxSlices bounds what is looked at in a tree of cgroups: whoever a part of it is delegated to makes more.
const maxSlices = 20_000

// unit searches the slices for the unit's cgroup: Slice= may have put it
// anywhere, and a template's instances have a slice of their own.
func (f *finder) unit() (found string) {
	for _, tree := range f.hierarchy.trees() {
		left := maxSlices
		fs.WalkDir(f.hierarchy.sys, tree, func(p string, d fs.DirEntry, err error) error {
			if left--; left < 0 {
				return fs.SkipAll
			}
			if err != nil || !d.IsDir() || p == tree {
				return nil
			}
			name := d.Name()
			if name == f.cfg.Unit {
				found = strings.TrimPrefix(strings.TrimPrefix(p, tree), "/")
				return fs.SkipAll
			}
			if strings.HasSuffix(name, ".slice") || strings.HasPrefix(name, "user@") {
				return nil
			}
			return fs.SkipDir
		})
		if found != "" {
			return found
		}
	}
	return ""
}

// byListener finds the processes that hold the listening socket: the master,
// and the workers that inherited it from there.
func (f *finder) byListener(now time.Time) (*source, error) {
	if f.cfg.Port == 0 && f.cfg.UnixPath == "" {
		return nil, nil
	}
	switch err := f.socket.look(now); {
	case err == errPause, err == errMany:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("find listener: %w", err)
	}
	inodes := f.socket.found.inodes
	if len(inodes) == 0 || slices.Equal(inodes, f.vain) || !f.pace.open(now) {
		return nil, nil
	}
	defer f.walked(now)
	holders, err := f.holders()
	if err != nil {
		return nil, err
	}
	roots := f.topmost(holders)
	if len(roots) == 0 {
		f.vain = slices.Clone(inodes)
		return nil, nil
	}
	f.vain, f.owned = nil, slices.Clone(inodes)
	f.nextLook = now.Add(time.Minute)
	return f.from(roots), nil
}

// moved reports whether the port has other listeners than those that led to the group: a new server may have taken over
// while the old one lives on. It looks once a minute.
func (f *finder) moved(now time.Time) bool {
	if f.owned == nil || now.Before(f.nextLook) || !f.pace.open(now) {
		return false
	}
	f.nextLook = now.Add(time.Minute)
	err := f.socket.look(now)
	return err == nil && len(f.socket.found.inodes) > 0 && !slices.Equal(f.socket.found.inodes, f.owned)
}

// holders returns the processes with a descriptor of one of the listeners. PID
// 1 holds those it activates, and we may have been handed one: neither counts.
func (f *finder) holders() (pids []int, err error) {
	want := map[string]bool{}
	for _, inode := range f.socket.found.inodes {
		want[fmt.Sprintf("socket:[%d]", inode)] = true
	}
	err = f.eachPID(func(pid int, dir string) {
		if pid == 1 || pid == os.Getpid() || f.stranger(dir) != nil {
			return
		}
		if f.holds(dir+"/fd", want) {
			pids = append(pids, pid)
		}
	})
	return pids, err
}

// A process can have half a million descriptors. They are listed by number: a listener comes before its connections.
const (
	maxDescriptors  = 1 << 16 // of one process are looked at: some 100 ms
	maxWalk         = 1 << 19 // steps of a walk: then processes are only counted
	descriptorsRead = 1 << 10 // at once
)

// holds reports whether one of the targets is among the descriptors in dir.
func (f *finder) holds(dir string, targets map[string]bool) bool {
	open, err := f.cfg.Proc.Open(dir)
	if err != nil {
		return false // gone, or not ours to see
	}
	defer open.Close()
	list, ok := open.(fs.ReadDirFile)
	for n := 0; ok && n < maxDescriptors && f.steps < maxWalk; {
		fds, err := list.ReadDir(descriptorsRead)
		for _, fd := range fds {
			target, err := fs.ReadLink(f.cfg.Proc, dir+"/"+fd.Name())
			if err == nil && targets[target] {
				return true
			}
		}
		f.steps += len(fds)
		if n += len(fds); err != nil {
			return false
		}
	}
	return false
}

// byPattern matches command lines, their arguments separated by blanks. Those of users who do not count are read only
// when none that counts matches, to say so.
func (f *finder) byPattern(ctx context.Context, now time.Time) (*source, error) {
	if now.Before(f.next) || !f.pace.open(now) {
		return nil, nil
	}
	defer f.walked(now)
	var pids []int
	strangers := map[int]*uint32{}
	err := f.eachPID(func(pid int, dir string) {
		if uid := f.stranger(dir); uid != nil {
			strangers[pid] = uid
		} else if f.matches(ctx, pid, procread.Owner(f.cfg.Proc, pid)) {
			pids = append(pids, pid)
		}
	})
	roots := f.topmost(pids)
	if len(roots) == 0 {
		for pid, uid := range strangers {
			if f.matches(ctx, pid, procread.Others) {
				f.ignored = uid
			}
		}
		f.wait = min(max(2*f.wait, time.Minute), 10*time.Minute)
		f.next = now.Add(f.wait)
		return nil, err
	}
	f.wait = 0
	return f.from(roots), err
}

// counts reports whether what a user has may be the group's.
func (f *finder) counts(uid uint32) bool {
	if f.cfg.Counts == nil || f.cfg.Counts(uid) {
		return true
	}
	whose := uid // uid itself would be on the heap at every call
	f.ignored = &whose
	return false
}

// stranger returns one of a process's users, real, effective, saved and of files, who does not count; nil: each does.
// Whoever runs a setuid program chooses its arguments.
func (f *finder) stranger(dir string) (uid *uint32) {
	if f.cfg.Counts == nil {
		return nil
	}
	b, _ := readOnce(f.cfg.Proc, dir+"/status", &f.buf) // without a line: it is gone
	_, after, _ := bytes.Cut(b, []byte("\nUid:\t"))
	line, _ := cutLine(after)
	for range 4 {
		var word []byte
		word, line = cutWord(line)
		n, ok := number(word)
		if !ok || n > unknownUID {
			n = unknownUID
		}
		if u := uint32(n); !f.cfg.Counts(u) {
			return &u
		}
	}
	return nil
}

func (f *finder) eachPID(visit func(pid int, dir string)) error {
	entries, err := fs.ReadDir(f.cfg.Proc, ".")
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			f.steps++
			visit(pid, e.Name())
		}
	}
	return nil
}

// walked ends a walk.
func (f *finder) walked(now time.Time) {
	f.pace.after(now, f.steps)
	f.steps = 0
}

// topmost leaves out the processes whose parent is among them.
func (f *finder) topmost(pids []int) (roots []int) {
	among := map[int]bool{}
	for _, pid := range pids {
		among[pid] = true
	}
	for _, pid := range pids {
		b, err := readOnce(f.cfg.Proc, strconv.Itoa(pid)+"/stat", &f.buf)
		if err != nil {
			continue
		}
		if st, err := procstat.Parse(b); err == nil && !among[st.Parent] {
			roots = append(roots, pid)
		}
	}
	return roots
}

// from makes a source of the processes found: the cgroup they all belong to, when nothing else is in it, or else
// themselves and their children. A login session has a shell beside them, and supervisord's service other programs.
func (f *finder) from(roots []int) *source {
	cgroup := f.cgroupOf(strconv.Itoa(roots[0]))
	if s := f.hierarchy.cgroup(cgroup); s != nil {
		if f.whole(s, roots) {
			return s
		}
		s.close()
	}
	return &source{roots: roots, found: fmt.Sprintf("process %d and its children", roots[0])}
}

// whole reports whether s holds all roots, and else only their descendants.
func (f *finder) whole(s *source, roots []int) bool {
	var pids []int
	for i := range s.procs {
		b, err := s.readProcs(i, time.Time{}, &f.buf)
		if err == nil {
			pids, err = parsePIDs(b, pids)
		}
		if unlessGone(err) != nil {
			return false
		}
	}
	f.steps += len(pids)
	top := f.topmost(pids)
	slices.Sort(top)
	return slices.Equal(top, slices.Sorted(slices.Values(roots)))
}

func (f *finder) cgroupOf(pid string) string {
	b, err := readOnce(f.cfg.Proc, path.Join(pid, "cgroup"), &f.buf)
	if err != nil {
		return ""
	}
	return parseProcCgroup(b)
}
