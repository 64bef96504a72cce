package appenv

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"

	"beanstalk-agent/agent/internal/strictpath"
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
	byOwner bool // a command in it runs as uid, and as no other user
	uid     uint32
	err     error // nil: it is that user's, and no other can replace it
}

// strict reports whether owners matter: off Beanstalk they name the user of a root agent's commands. On Beanstalk the
// unit or the platform does, and /var/app is root's.
func (r *Resolver) strict() bool { return os.Geteuid() == 0 && !r.cfg.Beanstalk }

// owner returns the owner of the application's directory. Like sshd for its files (StrictModes), it refuses a path of
// which anybody but root and that user owns a part, or may write one: he could put a directory of another user in its
// place, root's too, and his commands would run as that user.
func (r *Resolver) owner() (uid, gid uint32, err error) {
	way, err := strictpath.Follow(r.path("/"), r.cfg.AppDir)
	if err != nil {
		return 0, 0, fmt.Errorf("the application's directory: %w", err)
	}
	return r.ownerOf(way)
}

// ownerOf is owner of a way that leads to, or through, the application's directory.
func (r *Resolver) ownerOf(way strictpath.Way) (uid, gid uint32, err error) {
	dir := way[slices.IndexFunc(way, func(p strictpath.Part) bool { return p.End })]
	if !dir.Info.IsDir() {
		return 0, 0, fmt.Errorf("the application's directory: %q is not a directory", dir.Path)
	}
	uid = dir.UID
	problem := r.intruder(way, uid)
	if problem == "" {
		return uid, dir.GID, nil
	}
	return 0, 0, OwnerError{
		Problem: fmt.Sprintf("commands would run as %s, the owner of %q, but %s", r.userName(uid), dir.Path, problem),
		Hint: fmt.Sprintf("set app.user in /etc/agent/agent.yaml; or chown and chmod, so that only root and that user "+
			"own and write each part of the path: namei -l %s", way[len(way)-1].Path)}
}

// Writer says whose word the file is that was opened as name below the application's directory.
func (r *Resolver) Writer(name string, opened fs.FileInfo) (w Writer) {
	if !r.strict() {
		return w
	}
	w.byOwner = r.cfg.User == ""
	way, err := r.followTo(opened, r.cfg.AppDir, name)
	if err != nil {
		w.err = err
		return w
	}
	w.uid, _, w.err = r.ownerOf(way)
	if !w.byOwner && r.readable(way, r.cfg.User) { // root named the user, who is handed nothing new
		w.err = nil
	}
	return w
}

// Err is why no command of the file runs.
func (w Writer) Err() error { return w.err }

// speaksFor reports with an error that a command which a file names may not run as user uid.
func (r *Resolver) speaksFor(w Writer, uid uint32) error {
	if w.byOwner && w.uid != uid && w.err == nil {
		return OwnerError{Problem: fmt.Sprintf("commands run as %s now, but a file of the application's directory was "+
			"%s's when it was read", r.userName(uid), r.userName(w.uid)), Hint: "agent reload"}
	}
	return w.err
}

// followTo goes the way of the last path, from the ends of the others. It is an error if another file was opened by it.
func (r *Resolver) followTo(opened fs.FileInfo, paths ...string) (strictpath.Way, error) {
	way, err := strictpath.Follow(r.path("/"), paths...)
	if err == nil && !os.SameFile(way[len(way)-1].Info, opened) {
		err = strictpath.ErrChanging
	}
	return way, err
}

// onlyRoots returns the way to what was opened, and an error if another user than root can replace it.
func (r *Resolver) onlyRoots(opened fs.FileInfo, path string) (strictpath.Way, error) {
	way, err := r.followTo(opened, path)
	if err != nil {
		return nil, err
	}
	problem := r.intruder(way, 0)
	if problem == "" {
		return way, nil
	}
	return way, OwnerError{Problem: fmt.Sprintf("only root may be able to change %q, but %s", path, problem),
		Hint: "chown and chmod what is not so: namei -l " + path}
}

// intruder says which part of a way another user than root and uid owns or may write; "" for none.
func (r *Resolver) intruder(way strictpath.Way, uid uint32) string {
	in := way.Intruder(uid, strictpath.Users{Name: r.userName, OwnGroup: r.ownGroup}, false)
	if in == nil {
		return ""
	}
	return in.Problem
}

// ownGroup reports whether group gid is known and has no member but root and user uid.
func (r *Resolver) ownGroup(gid, uid uint32) bool {
	passwd, err1 := r.texts.read(r.path("/etc/passwd"))
	group, err2 := r.texts.read(r.path("/etc/group"))
	return errors.Join(err1, err2) == nil && strictpath.OwnGroup(passwd, group, gid, uid)
}

// readable reports whether a user could read the file at the end of a way himself.
func (r *Resolver) readable(way strictpath.Way, user string) bool {
	u, err := r.LookupUser(user)
	return err == nil && u.may(way, 0o004)
}

// Executes reports whether a user finds a program there. Root would find more, and so show what is there.
func (r *Resolver) Executes(u User, path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 || os.Geteuid() != 0 {
		return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
	}
	way, err := r.followTo(info, path)
	return err == nil && u.may(way, 0o001)
}

// may reports whether the modes let a user come to the end of a way and do there what bit says.
func (u User) may(way strictpath.Way, bit fs.FileMode) bool {
	for i, p := range way {
		need := bit
		if i < len(way)-1 {
			need = 0o001
		}
		switch {
		case p.Info.Mode().Type() == fs.ModeSymlink:
			continue
		case u.UID == 0 && p.Info.IsDir(), u.UID == 0 && bit != 0o001:
			continue
		case u.UID == 0: // executes what anybody may
			need = 0o111
		case p.UID == u.UID:
			need <<= 6
		case slices.Contains(u.Groups, p.GID):
			need <<= 3
		}
		if p.Info.Mode()&need == 0 {
			return false
		}
	}
	return true
}

// userName is a user's name, else his number.
func (r *Resolver) userName(uid uint32) string {
	u, err := r.userByID(uid, 0)
	if err != nil {
		return strconv.FormatUint(uint64(uid), 10)
	}
	return u.Name
}
