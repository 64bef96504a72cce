package command

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// defaultPath is what execvp(3) uses when the environment has no PATH.
const defaultPath = "/bin:/usr/bin"

// maxDirs is how many directories of PATH are searched. PATH is the application's: it may name forty thousand, and a
// start tries every program there that cannot be executed.
const maxDirs = 100

// candidates returns the paths to try, in order, for the command's name in the run's own PATH. A name with a slash is
// not searched for. No path is looked at here.
func candidates(spec Spec) (paths []string) {
	name := spec.Args[0]
	if !searched(spec) {
		return []string{name}
	}
	seen := map[string]bool{}
	for dir := range strings.SplitSeq(pathOf(spec.Env), ":") {
		if seen[dir] {
			continue
		}
		if seen[dir] = true; len(seen) > maxDirs {
			break
		}
		paths = append(paths, filepath.Join(absolute(spec.Dir, dir), name))
	}
	return paths
}

// searched reports whether the command's name is looked up in PATH.
func searched(spec Spec) bool { return !strings.Contains(spec.Args[0], "/") }

func pathOf(env []string) string {
	for _, kv := range env {
		if p, ok := strings.CutPrefix(kv, "PATH="); ok {
			return p
		}
	}
	return defaultPath
}

// absolute resolves a path from dir, as the command will. An empty element of PATH is dir itself.
func absolute(dir, path string) string {
	if filepath.IsAbs(path) || dir == "" {
		return path
	}
	return filepath.Join(dir, path)
}

// shell is the argv that execvp(3) gives a script without #! to.
func shell(path string, args []string) []string {
	return append([]string{"/bin/sh", path}, args[1:]...)
}

// try execs the candidates as execvp(3) does, until one succeeds: it returns nil, or not at all. (child.try is the same
// for a process that may make system calls only.)
func try(spec Spec, exec func(path string, argv []string) error) error {
	denied, at := error(nil), nothing
	for _, path := range candidates(spec) {
		here := lookAt(absolute(spec.Dir, path))
		if here == nothing && searched(spec) {
			continue
		}
		err := exec(path, spec.Args)
		if err == syscall.ENOEXEC {
			err = exec("/bin/sh", shell(path, spec.Args))
		}
		errno, ok := err.(syscall.Errno)
		switch {
		case !ok && err != nil:
			return refused(spec, err)
		case !ok:
			return nil
		case errno != syscall.EACCES:
			return explain(spec, here, errno)
		}
		denied = errno
		if !searched(spec) {
			at = here
		}
	}
	if denied == nil {
		return explain(spec, nothing, syscall.ENOENT)
	}
	return explain(spec, at, syscall.EACCES)
}

func lookAt(path string) found {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nothing
	case info.IsDir():
		return aDirectory
	}
	return aFile
}
