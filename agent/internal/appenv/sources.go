package appenv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"beanstalk-agent/agent/internal/appfile"
)

func (r *Resolver) sources(ctx context.Context, rd *reading) error {
	var err error
	if r.cfg.Beanstalk {
		err = r.beanstalk(ctx, rd)
	} else {
		err = r.dotenv(ctx, rd, ".env", true)
	}
	for _, name := range r.cfg.EnvFiles {
		if err == nil {
			err = r.dotenv(ctx, rd, name, false)
		}
	}
	return err
}

func (r *Resolver) beanstalk(ctx context.Context, rd *reading) error {
	var err error
	if rd.unit, err = r.awaitUnit(ctx, rd.seen); err != nil {
		return err
	}
	manager := r.managerEnv(rd.seen)
	rd.all = manager.env
	rd.env.warnings = append(append(rd.env.warnings, manager.notes...), rd.unit.notes...)
	if len(rd.unit.env) > 0 {
		rd.env.add(rd.unit.name, File{Vars: rd.unit.env})
	}
	var baseErr, otherErr error
	for _, f := range r.envFiles(rd.unit) {
		if f.path == r.cfg.DeploymentEnv {
			baseErr = r.base(ctx, rd)
		} else if err := r.unitFile(ctx, rd, f); err != nil {
			otherErr = errors.Join(otherErr, err)
		}
	}
	if errors.Is(baseErr, ErrDocker) {
		return ErrDocker
	}
	if err := errors.Join(baseErr, otherErr); err != nil {
		return r.fallBackToLiveProcess(ctx, rd, baseErr, err)
	}
	rd.env = *rd.env.filter(func(v *Var, _ bool) bool { return !rd.unit.unsets(*v) })
	return nil
}

// fallBackToLiveProcess uses the live web process's environment in place of all sources.
func (r *Resolver) fallBackToLiveProcess(ctx context.Context, rd *reading, baseErr, why error) error {
	var live Env
	rd.live = true
	err := r.live(ctx, &live)
	switch {
	case err == nil:
		live.sources = append(rd.env.sources, live.sources...)
		live.warnf("the environment is that of the running web process, because: %v", why)
		rd.env, rd.process = live, true
		return nil
	case errors.Is(baseErr, errEmpty) && why.Error() == baseErr.Error():
		rd.env.warnf("%s is empty, and nothing else tells the properties", r.cfg.DeploymentEnv)
		return nil
	case errors.Is(baseErr, fs.ErrNotExist):
		return ErrNotDeployed
	}
	return fmt.Errorf("read the application's environment: %w", errors.Join(why, err))
}

// envFiles is the unit's list with the deployment file and, if it exists, the secrets file.
func (r *Resolver) envFiles(u unit) []envFile {
	files := u.files
	has := func(path string) bool {
		return slices.ContainsFunc(files, func(f envFile) bool { return f.path == path })
	}
	if !has(r.cfg.DeploymentEnv) {
		files = append([]envFile{{path: r.cfg.DeploymentEnv}}, files...)
	}
	if !has(r.cfg.Secrets) {
		// Required once it exists: without its passwords a run differs from the web process.
		if _, err := os.Lstat(r.path(r.cfg.Secrets)); err == nil {
			return append(slices.Clip(files), envFile{path: r.cfg.Secrets})
		}
		return append(slices.Clip(files), envFile{path: r.cfg.Secrets, optional: true})
	}
	return files
}

// unitFile adds one of the unit's environment files, which may be a pattern. systemd ignores all errors of an optional
// one.
func (r *Resolver) unitFile(ctx context.Context, rd *reading, f envFile) error {
	paths := []string{r.path(f.path)}
	if strings.ContainsAny(f.path, "*?[") {
		note(rd.seen, filepath.Dir(paths[0]))
		if paths = glob(paths[0]); len(paths) == 0 && !f.optional {
			return readError(f.path, fs.ErrNotExist)
		}
	}
	for _, path := range paths {
		err := r.systemdFile(ctx, rd, path)
		switch {
		case err == nil:
		case !f.optional, ctx.Err() != nil, errors.Is(err, errChanging), errors.Is(err, fs.ErrPermission): // root may
			return err
		default:
			rd.env.skip(path, reason(err))
			if !errors.Is(err, fs.ErrNotExist) {
				rd.env.warnf("%v", err)
			}
		}
	}
	return nil
}

// glob works as glob(3): "[!" excludes, and only a pattern that begins with a dot finds a name that does.
func glob(pattern string) []string {
	found, _ := filepath.Glob(strings.ReplaceAll(pattern, "[!", "[^"))
	return slices.DeleteFunc(found, func(path string) bool {
		return filepath.Base(path)[0] == '.' && filepath.Base(pattern)[0] != '.'
	})
}

// base adds the deployment file, or get-config's output in its place.
func (r *Resolver) base(ctx context.Context, rd *reading) error {
	before := len(rd.env.sources)
	fileErr := r.systemdFile(ctx, rd, r.path(r.cfg.DeploymentEnv))
	if fileErr == nil && rd.env.sources[before].Vars == 0 {
		rd.env.sources = rd.env.sources[:before]
		fileErr = fmt.Errorf("read %q: %w", r.cfg.DeploymentEnv, errEmpty)
	}
	if fileErr == nil || ctx.Err() != nil {
		return fileErr
	}
	if errors.Is(fileErr, fs.ErrNotExist) && r.isDocker() {
		return ErrDocker
	}
	rd.env.skip(r.cfg.DeploymentEnv, reason(fileErr))
	if r.cfg.GetConfig == nil {
		return fileErr
	}
	if _, err := os.Stat(r.cfg.AppDir); err != nil {
		// Before the first deployment get-config has the properties already. It is not called, so that polling for
		// a deployment stays cheap.
		return fileErr
	}
	rd.live = true
	const name = "get-config environment"
	out, err := r.cfg.GetConfig(ctx)
	var file File
	if err == nil {
		file, err = parseProperties(out)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
		rd.env.skip(name, reason(err))
		return errors.Join(fileErr, err)
	}
	rd.env.add(name, file)
	rd.env.warnf("%s stands in for %s: %s", name, r.cfg.DeploymentEnv, reason(fileErr))
	return nil
}

// isDocker reports whether the platform has written docker's file instead: the agent may start before that.
func (r *Resolver) isDocker() bool {
	_, err := os.Stat(filepath.Join(filepath.Dir(r.path(r.cfg.DeploymentEnv)), "env.list"))
	return err == nil
}

// systemdFile adds a file in systemd's grammar. systemd reads it as root, through any link; an agent that followed the
// application's own links would hand root's files to it.
func (r *Resolver) systemdFile(ctx context.Context, rd *reading, path string) error {
	theirs, limit := false, int64(maxFile)
	open := func() (*os.File, error) {
		return admit(openFile(path))(func(opened fs.FileInfo) error {
			if os.Geteuid() != 0 || path == r.path(r.cfg.DeploymentEnv) || path == r.path(r.cfg.Secrets) {
				return nil
			}
			way, err := r.onlyRoots(opened, path)
			if way == nil {
				return err
			}
			switch theirs = err != nil; {
			case theirs && opened.Size() > maxTheirs:
				return fmt.Errorf("has %d bytes, at most %d are read", opened.Size(), maxTheirs)
			case r.readable(way, cmp.Or(r.cfg.User, rd.unit.user, defaultUser)):
				return nil
			}
			return err
		})
	}
	if name, below := r.below(path); below {
		theirs, limit = true, maxTheirs
		open = func() (*os.File, error) { return appfile.Open(r.cfg.AppDir, name) }
	}
	parse := func(data []byte) (File, error) { return ParseSystemd(data, r.cfg.Systemd) }
	err := r.file(ctx, rd, path, open, limit, parse)
	rd.env.setTheirs(path, theirs)
	return err
}

// dotenv adds a .env file. One of the application's directory is read as package appfile reads it. Any other is read
// as root, so its path must be root's.
func (r *Resolver) dotenv(ctx context.Context, rd *reading, name string, optional bool) error {
	path := name
	open := func() (*os.File, error) {
		return admit(openFile(name))(func(opened fs.FileInfo) error {
			if os.Geteuid() != 0 {
				return nil
			}
			_, err := r.onlyRoots(opened, name)
			return err
		})
	}
	var writer Writer
	rel, below := r.below(name)
	if below {
		path = filepath.Join(r.cfg.AppDir, rel)
		open = func() (*os.File, error) {
			return admit(appfile.Open(r.cfg.AppDir, rel))(func(opened fs.FileInfo) error {
				writer = r.Writer(rel, opened)
				return writer.err
			})
		}
	}
	parse := func(data []byte) (File, error) { return parseDotenv(data, r.outside(rd, below)) }
	err := r.file(ctx, rd, path, open, maxTheirs, parse)
	if optional && errors.Is(err, fs.ErrNotExist) {
		rd.env.skip(path, "absent")
		return nil
	}
	rd.writers = append(rd.writers, writer)
	rd.env.setTheirs(path, below)
	return err
}

// admit returns f unless check refuses what was opened.
func admit(f *os.File, err error) func(check func(opened fs.FileInfo) error) (*os.File, error) {
	return func(check func(fs.FileInfo) error) (*os.File, error) {
		if err != nil {
			return nil, err
		}
		info, err := f.Stat()
		if err == nil {
			err = check(info)
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		return f, nil
	}
}

// below returns a path relative to the application's directory, and whether it leads there: by its name, or because its
// folder is there.
func (r *Resolver) below(path string) (name string, below bool) {
	if !filepath.IsAbs(path) {
		return path, true
	}
	relative := func(dir, path string) bool {
		var err error
		name, err = filepath.Rel(dir, path)
		return err == nil && filepath.IsLocal(name)
	}
	if relative(r.cfg.AppDir, path) {
		return name, true
	}
	dir, err := filepath.EvalSymlinks(r.cfg.AppDir)
	folder, ferr := filepath.EvalSymlinks(filepath.Dir(path))
	return name, err == nil && ferr == nil && relative(dir, filepath.Join(folder, filepath.Base(path)))
}

func (r *Resolver) file(ctx context.Context, rd *reading, path string,
	open func() (*os.File, error), limit int64, parse func([]byte) (File, error)) error {
	data, st, err := readStable(ctx, open, limit, r.minAge)
	if err != nil {
		note(rd.seen, path)
		return readError(path, err)
	}
	rd.seen[path] = st
	file, err := parse(data)
	if err != nil {
		if faults, ok := errors.AsType[Faults](err); ok {
			return faults.In(path)
		}
		return readError(path, err)
	}
	rd.env.add(path, file.In(path))
	return nil
}
