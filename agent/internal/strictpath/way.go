package strictpath

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Way is everything that the kernel goes through from the root directory to what a path leads to.
type Way []Part

// Part is one directory or link of a Way, or what it leads to.
type Part struct {
	Path string // without links, but perhaps one itself
	Info fs.FileInfo
	End  bool // of one of the paths that were followed, each from the end of the one before

	// Whose it is. On a file system that a user mounted (FUSE) all is that user's: its owners are what he says.
	UID, GID uint32
}

// maxParts bounds the open directories, and the time: links can lead through thousands.
const maxParts = 200

// ErrChanging is of a way that changes while it is followed.
var ErrChanging = errors.New("keeps changing while it is read")

// Follow goes the way of a path as the kernel does, from root, and the others from there. Each directory is opened from
// the one before, so that whoever changes the way meanwhile cannot make one of two.
func Follow(root string, paths ...string) (Way, error) {
	if !strings.HasPrefix(paths[0], root) {
		root = "/"
	}
	f := follower{root: root}
	defer func() { f.back(0) }()
	top, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	if err := f.enter(dir{root, top}); err != nil {
		return nil, err
	}
	for _, path := range paths {
		if err := f.follow(path); err != nil {
			return nil, err
		}
		last := &f.way[len(f.way)-1]
		if here := len(f.dirs) - 1; last.Info.Mode()&(fs.ModeDir|fs.ModeSymlink) != 0 { // perhaps not where it stands
			info, err := f.dirs[here].lstat(".")
			if err != nil {
				return nil, err
			}
			f.way = append(f.way, Part{Path: f.dirs[here].path, Info: info, End: true})
		} else {
			last.End = true
		}
	}
	return f.way, f.owners()
}

// owners says whose each part is.
func (f *follower) owners() error {
	var users map[uint64]uint32
	for i, p := range f.way {
		st, ok := p.Info.Sys().(*syscall.Stat_t)
		if !ok {
			return &fs.PathError{Op: "stat", Path: p.Path, Err: errors.ErrUnsupported}
		}
		dev := uint64(st.Dev)
		if users == nil && unix.Major(dev) == 0 { // of no disk
			users = mounters()
		}
		f.way[i].UID, f.way[i].GID = st.Uid, st.Gid
		if user, ok := users[dev]; ok && user != 0 {
			f.way[i].UID = user
		}
	}
	return nil
}

// mounters returns who mounted each FUSE file system, by its device.
func mounters() map[uint64]uint32 {
	text, _ := os.ReadFile("/proc/self/mountinfo") // of Linux alone
	return parseMounters(string(text))
}

// parseMounters reads lines of proc_pid_mountinfo(5): "36 35 0:42 / /mnt rw - fuse.x y rw,user_id=1000,group_id=1000".
func parseMounters(text string) map[uint64]uint32 {
	users := map[uint64]uint32{}
	for line := range strings.Lines(text) {
		place, kind, _ := strings.Cut(line, " - ")
		fields := strings.Fields(place)
		_, after, ok := strings.Cut(kind, "user_id=")
		if !ok || len(fields) < 3 || !strings.HasPrefix(kind, "fuse") {
			continue
		}
		number, _, _ := strings.Cut(after, ",")
		major, minor, _ := strings.Cut(fields[2], ":")
		a, err1 := strconv.ParseUint(major, 10, 32)
		b, err2 := strconv.ParseUint(minor, 10, 32)
		uid, err3 := strconv.ParseUint(strings.TrimSpace(number), 10, 32)
		if errors.Join(err1, err2, err3) == nil {
			users[unix.Mkdev(uint32(a), uint32(b))] = uint32(uid)
		}
	}
	return users
}

// follower is where it stands.
type follower struct {
	root string
	way  Way
	dirs []dir // from the root directory to this one
}

// dir is a directory that is open; or, by its path alone, one that this user may pass through and not read. Then the
// way may be changed while it is followed, by whoever it names as able to.
type dir struct {
	path string
	open *os.Root
}

func (d dir) lstat(name string) (fs.FileInfo, error) {
	if d.open == nil {
		return os.Lstat(filepath.Join(d.path, name))
	}
	return d.open.Lstat(name)
}

func (d dir) readlink(name string) (string, error) {
	if d.open == nil {
		return os.Readlink(filepath.Join(d.path, name))
	}
	return d.open.Readlink(name)
}

func (d dir) sub(name string) (sub dir, err error) {
	sub.path = filepath.Join(d.path, name)
	if d.open == nil {
		sub.open, err = os.OpenRoot(sub.path + "/.")
	} else {
		sub.open, err = d.open.OpenRoot(name + "/.") // which waits for no FIFO that has taken its place
	}
	if errors.Is(err, fs.ErrPermission) {
		return dir{path: sub.path}, nil
	}
	return sub, err
}

// enter goes into a directory.
func (f *follower) enter(d dir) error {
	f.dirs = append(f.dirs, d)
	info, err := d.lstat(".")
	f.way = append(f.way, Part{Path: d.path, Info: info})
	return err
}

// back leaves directories until so many are open.
func (f *follower) back(open int) {
	for _, d := range f.dirs[open:] {
		if d.open != nil {
			d.open.Close()
		}
	}
	f.dirs = f.dirs[:open]
}

func (f *follower) follow(path string) error {
	split := func(path string) []string { return strings.Split(strings.TrimPrefix(path, f.root), "/") }
	for rest := split(path); len(rest) > 0; {
		here := len(f.dirs) - 1
		name, d := rest[0], f.dirs[here]
		switch rest = rest[1:]; name {
		case "", ".":
			continue
		case "..":
			f.back(max(1, here))
			continue
		}
		next := filepath.Join(d.path, name)
		if len(f.way) > maxParts {
			return &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
		}
		info, err := d.lstat(name)
		if err != nil {
			return err
		}
		f.way = append(f.way, Part{Path: next, Info: info})
		switch {
		case info.Mode().Type() == fs.ModeSymlink:
			target, err := d.readlink(name)
			if err != nil {
				return err
			}
			if filepath.IsAbs(target) {
				f.back(1)
			}
			rest = append(split(target), rest...)
		case info.IsDir():
			sub, err := d.sub(name)
			if err != nil {
				return err
			}
			if err := f.enter(sub); err != nil {
				return err
			}
			if !os.SameFile(f.way[len(f.way)-1].Info, info) {
				return ErrChanging
			}
		case len(rest) > 0:
			return &fs.PathError{Op: "open", Path: next, Err: syscall.ENOTDIR}
		}
	}
	return nil
}
