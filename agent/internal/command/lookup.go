package command

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// defaultPath is what execvp(3) uses when the environment has no PATH.
const defaultPath = "/bin:/usr/bin"

// maxDirs is how many directories of PATH are searched. PATH is the application's: it may name forty thousand, and a
// start tries every program there that cannot be executed.
const maxDirs = 100

// lookup returns the paths to try, in order, for the command's name in the run's own PATH, and an error
// if this user may not execute one of them. A name with a slash is not looked up.
func lookup(spec Spec) (paths []string, denied error) {
	name := spec.Args[0]
	if strings.Contains(name, "/") {
		return []string{name}, nil
	}
	seen := map[string]bool{}
	for dir := range strings.SplitSeq(pathOf(spec.Env), ":") {
		if seen[dir] {
			continue
		}
		if seen[dir] = true; len(seen) > maxDirs {
			break
		}
		path := filepath.Join(absolute(spec.Dir, dir), name)
		switch info, err := os.Stat(path); {
		case err != nil:
		case info.Mode().IsRegular() && mayExecute(info, spec.Cred):
			paths = append(paths, path)
		default:
			denied = errNotExec
		}
	}
	return paths, denied
}

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

// mayExecute uses the mode bits. Access lists are not read: the kernel applies them later.
func mayExecute(info os.FileInfo, cred *Credential) bool {
	mode := info.Mode().Perm()
	uid, gid, ok := ownerOf(info)
	if cred == nil || !ok || cred.UID == 0 {
		return mode&0o111 != 0
	}
	switch {
	case uid == cred.UID:
		return mode&0o100 != 0
	case gid == cred.GID || slices.Contains(cred.Groups, gid):
		return mode&0o010 != 0
	}
	return mode&0o001 != 0
}

func ownerOf(info os.FileInfo) (uid, gid uint32, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return st.Uid, st.Gid, true
}
