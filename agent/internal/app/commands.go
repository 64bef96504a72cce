package app

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"beanstalk-agent/agent/internal/appenv"
)

// Commands resolves the environment once and returns a func that reports why a command would not be found in it. A
// command that cannot be looked up yet, because there is no application, is taken to be there.
func (a *App) Commands(ctx context.Context) func(name string) error {
	p, err := a.env.Profile(ctx, appenv.ProfileOptions{})
	if err != nil {
		return func(string) error { return nil }
	}
	var path []string
	for _, e := range p.Env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = filepath.SplitList(v)
		}
	}
	return func(name string) error { return find(name, p.Dir, path) }
}

func find(name, dir string, path []string) error {
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
		if info, err := os.Stat(c); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return nil
		}
	}
	if len(candidates) > 1 {
		return errors.New("it is in no directory of the run's PATH")
	}
	return errors.New("no such program, or it is not executable")
}
