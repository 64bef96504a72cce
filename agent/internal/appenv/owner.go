package appenv

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// OwnerError says why a path's owner names no user.
type OwnerError struct{ Problem, Hint string }

func (e OwnerError) Error() string { return e.Problem }

// Hint says what to do about err, "" when that is not known.
func Hint(err error) string {
	e, _ := errors.AsType[OwnerError](err)
	return e.Hint
}

// Writer says whose word a file of the application's directory is. The zero value is a caller's own word.
type Writer struct {
	byOwner bool // a command in it runs as uid and as nobody else
	uid     uint32
	refused OwnerError // the zero value: it is that user's, and nobody else can replace it
}

// strict reports whether owners matter: off Beanstalk they name the user of a root agent's commands. On Beanstalk the
// unit or the platform does, and /var/app is root's.
func (r *Resolver) strict() bool { return os.Geteuid() == 0 && !r.cfg.Beanstalk }

// owner returns the owner of the application's directory. Like sshd for its files (StrictModes), it refuses a path of
// which anybody but root and that user owns a part, or may write one: he could put a directory of another user in its
// place, root's too, and his commands would run as that user. It reads nothing that such a user could change meanwhile:
// each part is looked at after those that lead to it.
func (r *Resolver) owner() (uid, gid uint32, err error) {
	parts, err := r.pathParts(r.cfg.AppDir)
	if err != nil {
		return 0, 0, fmt.Errorf("the application's directory: %w", err)
	}
	dir := parts[len(parts)-1]
	uid, gid, ok := ownerOf(dir.info)
	switch {
	case !ok:
		return 0, 0, fmt.Errorf("the owner of %q is not known on this system", dir.path)
	case !dir.info.IsDir():
		return 0, 0, fmt.Errorf("the application's directory: %q is not a directory", dir.path)
	}
	problem := r.intruder(parts, uid)
	if problem == "" {
		return uid, gid, nil
	}
	return 0, 0, OwnerError{
		Problem: fmt.Sprintf("commands would run as %s, the owner of %q, but %s", r.userName(uid), dir.path, problem),
		Hint: fmt.Sprintf("set app.user in /etc/agent/agent.yaml; or chown and chmod, so that only root and that user "+
			"own and write each part of the path: namei -l %s", r.cfg.AppDir)}
}

// Writer says whose word the file is that was opened as name below the application's directory.
func (r *Resolver) Writer(name string, opened fs.FileInfo) Writer {
	w, err := r.writer(name, opened)
	if e, ok := errors.AsType[OwnerError](err); ok {
		w.refused = e
	} else if err != nil {
		w.refused = OwnerError{Problem: err.Error()}
	}
	return w
}

func (r *Resolver) writer(name string, opened fs.FileInfo) (Writer, error) {
	if !r.strict() {
		return Writer{}, nil
	}
	path := filepath.Join(r.cfg.AppDir, name)
	uid, _, err := r.owner()
	if err == nil {
		err = r.only(path, opened, uid)
	}
	switch {
	case r.cfg.User == "":
		return Writer{byOwner: true, uid: uid}, err
	case err != nil && r.readable(path, opened, r.cfg.User): // root named the user, who is handed nothing new
		return Writer{}, nil
	}
	return Writer{}, err
}

// Err is why no command of the file runs.
func (w Writer) Err() error {
	if w.refused == (OwnerError{}) {
		return nil
	}
	return w.refused
}

// speaksFor reports with an error that a command which a file names may not run as user uid.
func (r *Resolver) speaksFor(w Writer, uid uint32) error {
	if w.byOwner && w.uid != uid && w.Err() == nil {
		return OwnerError{Problem: fmt.Sprintf("commands run as %s now, but a file of the application's directory was "+
			"%s's when it was read", r.userName(uid), r.userName(w.uid)), Hint: "agent reload"}
	}
	return w.Err()
}

// only reports with an error that a file, which was opened by its path, can be replaced by another user than root and
// uid.
func (r *Resolver) only(path string, opened fs.FileInfo, uid uint32) error {
	parts, err := r.pathParts(path)
	if err == nil && !os.SameFile(parts[len(parts)-1].info, opened) {
		err = errChanging
	}
	if err != nil {
		return err
	}
	problem := r.intruder(parts, uid)
	if problem == "" {
		return nil
	}
	return OwnerError{
		Problem: fmt.Sprintf("only root and %s may be able to change %q, but %s", r.userName(uid), path, problem),
		Hint:    "chown and chmod what is not so: namei -l " + path}
}

// part is one directory or link of a path, or what it leads to.
type part struct {
	path string
	info fs.FileInfo
}

// pathParts follows path as the kernel does, from the configured root, and returns everything on the way.
func (r *Resolver) pathParts(path string) ([]part, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	var all []part
	add := func(path string) error {
		info, err := os.Lstat(path)
		all = append(all, part{path, info})
		return err
	}
	root := r.path("/")
	inside := func(path string) []string { return strings.Split(strings.TrimPrefix(path, root), "/") }
	if !strings.HasPrefix(path, root) {
		root = "/"
	}
	at, links := root, 0
	if err := add(at); err != nil {
		return nil, err
	}
	for rest := inside(path); len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." || name == ".." {
			if name == ".." {
				at = filepath.Dir(at)
			}
			continue
		}
		next := filepath.Join(at, name)
		if err := add(next); err != nil {
			return nil, err
		}
		if all[len(all)-1].info.Mode().Type() != fs.ModeSymlink {
			at = next
			continue
		}
		target, err := os.Readlink(next)
		if links++; err == nil && links > 40 {
			err = &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
		}
		if err != nil {
			return nil, err
		}
		if filepath.IsAbs(target) {
			at = root
		}
		rest = append(inside(target), rest...)
	}
	info, err := os.Lstat(at) // again: a path may end in ".."
	return append(all, part{at, info}), err
}

// intruder says which part of a path another user than root and uid owns or may write; "" for none.
func (r *Resolver) intruder(parts []part, uid uint32) string {
	end := parts[len(parts)-1].path
	for _, p := range parts {
		owner, gid, ok := ownerOf(p.info)
		mode := p.info.Mode()
		switch {
		case !ok:
			return fmt.Sprintf("the owner of %q is not known", p.path)
		case owner != 0 && owner != uid:
			return fmt.Sprintf("%q belongs to %s", p.path, r.userName(owner))
		case mode.Type() == fs.ModeSymlink, // its directory says who may replace it
			mode&fs.ModeSticky != 0 && p.path != end: // only its owner may replace what is there
		case mode&0o002 != 0:
			return fmt.Sprintf("everybody may write %q", p.path)
		case mode&0o020 != 0 && hasACL(p.path):
			return fmt.Sprintf("an access list says who may write %q", p.path)
		case mode&0o020 != 0 && !r.ownGroup(gid, uid):
			return fmt.Sprintf("group %d may write %q", gid, p.path)
		}
	}
	return ""
}

// ownGroup reports whether group gid is known and has no member but root and user uid, as where each user has a group
// of his own and a umask of 002.
func (r *Resolver) ownGroup(gid, uid uint32) bool {
	number := strconv.FormatUint(uint64(gid), 10)
	names := []string{""}
	own := true
	err := r.eachRecord("/etc/passwd", 7, func(f []string) bool {
		if f[2] == "0" || f[2] == strconv.FormatUint(uint64(uid), 10) {
			names = append(names, f[0])
		} else if f[3] == number {
			own = false
		}
		return own
	})
	known := false
	err = errors.Join(err, r.eachRecord("/etc/group", 4, func(f []string) bool {
		if f[2] == number {
			known = true
			for member := range strings.SplitSeq(f[3], ",") {
				own = own && slices.Contains(names, member)
			}
		}
		return own
	}))
	return err == nil && known && own
}

// readable reports whether a user could read a file, which was opened by its path, himself.
func (r *Resolver) readable(path string, opened fs.FileInfo, user string) bool {
	u, err := r.lookupUser(user)
	parts, perr := r.pathParts(path)
	if err != nil || perr != nil || !os.SameFile(parts[len(parts)-1].info, opened) {
		return false
	}
	may := func(info fs.FileInfo, bit fs.FileMode) bool {
		owner, gid, ok := ownerOf(info)
		switch {
		case !ok:
			return false
		case owner == u.UID:
			bit <<= 6
		case slices.Contains(u.Groups, gid):
			bit <<= 3
		}
		return u.UID == 0 || info.Mode()&bit != 0
	}
	for _, p := range parts {
		if p.info.IsDir() && !may(p.info, 0o001) {
			return false
		}
	}
	return may(opened, 0o004)
}

// userName is a user's name, else his number.
func (r *Resolver) userName(uid uint32) string {
	u, err := r.userByID(uid, 0)
	if err != nil {
		return strconv.FormatUint(uint64(uid), 10)
	}
	return u.Name
}
