package appenv

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"beanstalk-agent/agent/internal/strictpath"
)

// User is one line of /etc/passwd with the groups of /etc/group. Without cgo no other name service is asked; os/user
// does not return the shell.
type User struct {
	Name   string
	UID    uint32
	GID    uint32
	Groups []uint32 // all of them, the primary one first
	Home   string
	Shell  string
}

// ofUser are the variables that describe a process's user.
var ofUser = []string{"HOME", "LOGNAME", "USER", "SHELL"}

// defaultUser runs the application on Beanstalk's platforms (get-config platformconfig, AppUser).
const defaultUser = "webapp"

// errNoUser: the user database has no such line.
var errNoUser = errors.New("no such user in /etc/passwd")

// LookupUser finds a user by name, else by number.
func (r *Resolver) LookupUser(name string) (User, error) {
	u, err := r.findUser(func(u User) bool { return u.Name == name })
	if uid, perr := strconv.ParseUint(name, 10, 32); errors.Is(err, errNoUser) && perr == nil {
		u, err = r.findUser(func(u User) bool { return u.UID == uint32(uid) })
	}
	if err != nil {
		return User{}, fmt.Errorf("look up user %q: %w", name, err)
	}
	return u, nil
}

// userByID finds a user by number. One without a line has its number as name, and no groups but gid.
func (r *Resolver) userByID(uid, gid uint32) (User, error) {
	u, err := r.findUser(func(u User) bool { return u.UID == uid })
	if errors.Is(err, errNoUser) {
		return User{Name: strconv.Itoa(int(uid)), UID: uid, GID: gid, Groups: []uint32{gid}, Home: "/"}, nil
	}
	return u, err
}

func (r *Resolver) findUser(match func(User) bool) (User, error) {
	var found *User
	err := r.eachRecord("/etc/passwd", 7, func(f []string) bool {
		uid, err1 := strconv.ParseUint(f[2], 10, 32)
		gid, err2 := strconv.ParseUint(f[3], 10, 32)
		u := User{Name: f[0], UID: uint32(uid), GID: uint32(gid), Home: f[5], Shell: f[6]}
		if err1 != nil || err2 != nil || !match(u) {
			return true
		}
		found = &u
		return false
	})
	if err != nil {
		return User{}, err
	}
	if found == nil {
		return User{}, errNoUser
	}
	found.Groups, err = r.groupsOf(found.Name, found.GID)
	return *found, err
}

// groupsOf works as initgroups(3).
func (r *Resolver) groupsOf(user string, gid uint32) ([]uint32, error) {
	groups := []uint32{gid}
	err := r.eachRecord("/etc/group", 4, func(f []string) bool {
		id, err := strconv.ParseUint(f[2], 10, 32)
		if err == nil && slices.Contains(strings.Split(f[3], ","), user) && !slices.Contains(groups, uint32(id)) {
			groups = append(groups, uint32(id))
		}
		return true
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return groups, err
}

// unitGroups adds the groups of a unit that runs as u: Group= replaces the primary one, SupplementaryGroups= are added
// to the others.
func (r *Resolver) unitGroups(u *User, web unit) error {
	if web.group != "" {
		gid, err := r.groupID(web.group)
		if err != nil {
			return err
		}
		if u.GID != gid {
			u.GID = gid
			if u.Groups, err = r.groupsOf(u.Name, gid); err != nil {
				return err
			}
		}
	}
	for _, name := range web.groups {
		gid, err := r.groupID(name)
		if err != nil {
			return err
		}
		if !slices.Contains(u.Groups, gid) {
			u.Groups = append(u.Groups, gid)
		}
	}
	return nil
}

// groupID finds a group by name, or else by number.
func (r *Resolver) groupID(name string) (uint32, error) {
	id, err := strconv.ParseUint(name, 10, 32)
	found := err == nil
	err = r.eachRecord("/etc/group", 4, func(f []string) bool {
		if f[0] != name {
			return true
		}
		n, err := strconv.ParseUint(f[2], 10, 32)
		id, found = n, err == nil
		return false
	})
	if err == nil && !found {
		err = errors.New("no such group in /etc/group")
	}
	if err != nil {
		return 0, fmt.Errorf("look up group %q: %w", name, err)
	}
	return uint32(id), nil
}

// eachRecord calls f with the fields of each record of a colon-separated file until f returns false.
func (r *Resolver) eachRecord(path string, fields int, f func([]string) bool) error {
	file, err := r.texts.read(r.path(path))
	if err != nil {
		return err
	}
	for rec := range strictpath.Records(file, fields) {
		if !f(rec) {
			return nil
		}
	}
	return nil
}
