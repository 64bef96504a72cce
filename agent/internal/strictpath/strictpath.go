// Package strictpath says who can put something else at the end of a path.
//
// Contract: it looks at every directory and link that leads there, as the kernel goes, not only at the last one.
//
// Reason: who owns a directory renames what is in it, whoever owns that. sshd has the same rule for its files
// (StrictModes in sshd_config(5)).
package strictpath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Users says who users and groups are.
type Users struct {
	Name     func(uid uint32) string
	OwnGroup func(gid, uid uint32) bool // whether a group has no member but root and that user
}

// Intruder is a part of a way that another user can change.
type Intruder struct {
	Part
	Problem string
	Fix     string // a command
}

// Intruder returns the first part of the way that another than root and user uid owns or may write, nil for none. With
// sticky the end may be a sticky directory: nobody else replaces what is there, but anybody may take a name that is
// free.
func (w Way) Intruder(uid uint32, u Users, sticky bool) *Intruder {
	for _, p := range w {
		mode := p.Info.Mode()
		switch {
		case p.UID != 0 && p.UID != uid:
			return &Intruder{p, fmt.Sprintf("%q belongs to %s", p.Path, u.Name(p.UID)),
				fmt.Sprintf("chown %s %s", u.Name(uid), p.Path)}
		case mode.Type() == fs.ModeSymlink, // its directory says who may replace it
			mode&fs.ModeSticky != 0 && (sticky || !p.End): // only its owner may replace what is there
		case mode&0o002 != 0:
			return &Intruder{p, fmt.Sprintf("everybody may write %q", p.Path), "chmod o-w " + p.Path}
		case mode&0o020 != 0 && hasACL(p.Path):
			return &Intruder{p, fmt.Sprintf("an access list says who may write %q", p.Path), "setfacl -b " + p.Path}
		case mode&0o020 != 0 && !u.OwnGroup(p.GID, uid):
			return &Intruder{p, fmt.Sprintf("group %d may write %q", p.GID, p.Path), "chmod g-w " + p.Path}
		}
	}
	return nil
}

// Check refuses a path at whose end another than root and this user can put something else. What is not there yet is
// as safe as the last directory that is.
func Check(path string, sticky bool) error {
	if !filepath.IsAbs(path) {
		dir, err := os.Getwd()
		if err != nil {
			return err
		}
		path = dir + "/" + path // and not cleaned: ".." is after links
	}
	way, err := Follow("/", path)
	for there := path; errors.Is(err, fs.ErrNotExist) && there != ""; {
		if _, err := os.Lstat(there); err == nil {
			return fmt.Errorf("%q is a link that leads nowhere", there)
		}
		there, sticky = there[:strings.LastIndexByte(there, '/')], true
		way, err = Follow("/", there+"/")
	}
	if err != nil {
		return err
	}
	uid := uint32(os.Geteuid())
	in := way.Intruder(uid, system, sticky)
	if in == nil {
		return nil
	}
	only := "root"
	if uid != 0 {
		only += " and " + system.Name(uid)
	}
	return fmt.Errorf("%s (mode %s), so another user could replace %q, and only %s may: %s; or choose another path "+
		"(namei -l %s shows who owns and may write each part)", in.Problem, in.Info.Mode(), path, only, in.Fix, path)
}

// MkdirAll makes a directory where nobody but root and this user can put another in its place.
func MkdirAll(path string, mode fs.FileMode) error {
	if err := Check(path, true); err != nil {
		return err
	}
	return os.MkdirAll(path, mode)
}

// system is this machine's users. One that is not known, of another name service, is shown by number.
var system = Users{
	Name: func(uid uint32) string {
		number := strconv.FormatUint(uint64(uid), 10)
		text, _ := os.ReadFile("/etc/passwd")
		for f := range Records(string(text), 7) {
			if f[2] == number {
				return f[0]
			}
		}
		return number
	},
	OwnGroup: func(gid, uid uint32) bool {
		passwd, err1 := os.ReadFile("/etc/passwd")
		group, err2 := os.ReadFile("/etc/group")
		return errors.Join(err1, err2) == nil && OwnGroup(string(passwd), string(group), gid, uid)
	},
}
