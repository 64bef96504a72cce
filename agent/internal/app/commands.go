package app

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"beanstalk-agent/agent/internal/appenv"
)

// maxDirs is the longest PATH in which commands are looked up: a cron file may name ten thousand of them.
const maxDirs = 100

// Commands resolves the environment once and returns a func that reports why the user of the application's commands
// would not find one in it. A command that cannot be looked up, because there is no application yet or PATH is too
// long, is taken to be there. The func is for one goroutine.
func (a *App) Commands(ctx context.Context) func(name string) error {
	p, err := a.env.Profile(ctx, appenv.ProfileOptions{})
	if err != nil {
		return func(string) error { return nil }
	}
	dirs, _ := p.Env.Lookup("PATH")
	path := filepath.SplitList(dirs)
	slices.Sort(path) // any of them will do
	if path = slices.Compact(path); len(path) > maxDirs {
		return func(string) error { return nil }
	}
	known := map[string]bool{} // a table of thousands of jobs has a few programs
	executes := func(path string) bool {
		there, ok := known[path]
		if !ok {
			there = a.env.Executes(p.User, path)
			known[path] = there
		}
		return there
	}
	return func(name string) error { return find(name, p.Dir, path, executes) }
}

func find(name, dir string, path []string, executes func(string) bool) error {
	candidates := []string{filepath.Join(dir, name)}
	switch {
	case filepath.IsAbs(name):
		candidates = []string{name}
	case !strings.ContainsRune(name, '/'):
		candidates = nil
		for _, dir := range path {
			candidates = append(candidates, filepath.Join(dir, name))
		}
	}
	for _, c := range candidates {
		if executes(c) {
			return nil
		}
	}
	if len(candidates) > 1 {
		return errors.New("it is in no directory of the run's PATH")
	}
	return errors.New("no such program, or it is not executable")
}
