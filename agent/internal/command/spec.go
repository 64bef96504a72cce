package command

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// Exit codes that the agent sets, from coreutils' timeout.
const (
	CodeTimeout  = 124 // its time limit ended it
	CodeRefused  = 125 // the agent failed or refused
	CodeNotExec  = 126 // found, cannot be executed
	CodeNotFound = 127 // not found
)

// Spec says what to start. It is not kept after Start.
type Spec struct {
	Args  []string // required: argv; Args[0] is looked up in Env's PATH
	Env   []string // the whole environment, NAME=value
	Files [3]int   // required: descriptors that become 0, 1 and 2; they stay the caller's

	Dir         string      // absolute; empty: the parent's
	Cred        *Credential // nil: as this process
	Umask       int         // 0: 022; NoUmask: 0
	Terminal    bool        // Files[0] is a terminal and becomes the controlling one
	Group       *Group      // where it is created; nil: a session of its own only
	NoNewPrivs  bool        // setuid programs give it no privilege
	OOMScoreAdj int         // -1000 … 1000; lower than the parent's needs CAP_SYS_RESOURCE
}

// NoUmask is a Spec's Umask that removes no permission: the kernel uses the low nine bits.
const NoUmask = 0o1000

// Credential is the user and groups of a command.
type Credential struct {
	UID, GID uint32
	Groups   []uint32 // all supplementary groups
}

// Shell returns the argv of a shell that runs line.
func Shell(line string) []string { return []string{"/bin/sh", "-c", line} }

// StartError reports that a command could not be started; Code is what a shell would exit with.
type StartError struct {
	Name string
	Code int // CodeRefused, CodeNotExec or CodeNotFound
	Err  error
	Ours bool // it failed before the command's user, or anything of theirs, had a part in it
}

func (e *StartError) Error() string { return fmt.Sprintf("run %q: %v", e.Name, e.Err) }
func (e *StartError) Unwrap() error { return e.Err }

// Ours reports whether a start failed before the command's user, or anything of theirs, had a part in it, and not for
// want of memory or processes: others take those, and a restart of this process gives none back.
func Ours(err error) bool {
	for _, theirs := range []error{ErrNoMemoryLimit, fs.ErrExist,
		syscall.EAGAIN, syscall.ENOMEM, syscall.ENFILE, syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, theirs) {
			return false
		}
	}
	if e, ok := errors.AsType[*StartError](err); ok {
		return e.Ours
	}
	return err != nil
}

var (
	errNotFound    = errors.New("command not found")
	errNotExec     = errors.New("permission denied")
	errIsDir       = errors.New("is a directory")
	errInterpreter = errors.New("its interpreter does not exist")
)
