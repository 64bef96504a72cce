package appenv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/appfile"
)

// ErrNotDeployed: the instance has no application yet, so there is no environment to give.
var ErrNotDeployed = errors.New("the application has not been deployed yet")

// ErrDocker: the application lives in a container, and a command started here would be on the wrong side of it.
var ErrDocker = errors.New("the application runs in a container on this platform; the agent does not start commands inside it yet")

// Where Beanstalk's platforms without Docker keep things.
const (
	DefaultDeploymentEnv = "/opt/elasticbeanstalk/deployment/env"
	DefaultSecrets       = "/opt/elasticbeanstalk/deployment/secrets/web"
)

// Config says where the environment comes from. Its zero value but for AppDir is local mode.
type Config struct {
	AppDir string // Required: where the application lives
	User   string // who its commands run as; "" means found (see [Resolver.Profile])

	Beanstalk     bool           // else local mode: AppDir/.env
	Docker        bool           // a Beanstalk platform whose application is in a container
	DeploymentEnv string         // "" means DefaultDeploymentEnv
	Secrets       string         // "" means DefaultSecrets
	Systemd       SystemdVersion // 0 means AmazonLinux2023

	// WebUnit is the systemd unit of the web process. Its file and drop-ins say which environment files it has, what
	// else is set, its user, groups and umask. "" means the first of web.service, php-fpm.service and tomcat.service
	// that is there: an agent can be older than the first deployment, which brings the unit.
	WebUnit string

	// EnvFiles are .env files laid over everything else, later ones win. A relative path is looked up in AppDir and
	// must not leave it. One that is missing is an error.
	EnvFiles []string

	// GetConfig returns what `get-config environment` prints. Optional.
	GetConfig func(ctx context.Context) ([]byte, error)

	// WebPIDs returns the processes of the live web service, its main process first. Optional.
	WebPIDs func(ctx context.Context) ([]int, error)

	// Root is put before every absolute path that is not from this Config, "" means /. For tests.
	Root string
}

// Resolver reads the application's environment at the moment it is asked. It keeps what it read as long as the stat of
// every file, present or absent, is unchanged. It is safe for concurrent use.
type Resolver struct {
	cfg    Config
	settle time.Duration
	texts  texts

	turn   chan struct{} // held by who reads; guards the rest
	had    bool          // the last reading found a web unit
	last   *reading      // nil: none that may be given again
	shared outcome       // the latest, for those who waited while it was made
}

// outcome is how one call of readAll ended.
type outcome struct {
	began time.Time
	rd    *reading
	err   error
}

// reading is one pass over the sources.
type reading struct {
	env     Env
	unit    unit
	all     []Var            // what systemd gives every service, beside locale and PATH
	seen    map[string]stamp // every path that was looked at; a zero stamp: absent
	process bool             // the live web process stood in for everything
	live    bool             // a command or a process was asked too: not to be given again
}

// New returns a Resolver. It reads nothing yet.
func New(cfg Config) *Resolver {
	if cfg.DeploymentEnv == "" {
		cfg.DeploymentEnv = DefaultDeploymentEnv
	}
	if cfg.Secrets == "" {
		cfg.Secrets = DefaultSecrets
	}
	return &Resolver{cfg: cfg, settle: settle, turn: make(chan struct{}, 1)}
}

// Resolve returns the environment that the web process would get if it were started now.
//
// On Beanstalk it is what systemd would give the web unit: its Environment=, then its environment files in order, each
// in systemd's grammar. The deployment file is always one of them, and so is the secrets file where it exists. When
// the deployment file is absent, empty, unreadable or one that systemd would refuse, `get-config environment` stands in
// for it. When neither is to be had, or another required file cannot be used, the live web process's own environment
// stands in for everything, without what systemd and shells add to a single process. Where two sources have a name,
// the later one wins and Warnings names it. In local mode it is AppDir/.env, which may be absent. Config.EnvFiles come
// last in both.
//
// The error is ErrNotDeployed, ErrDocker, or tells each source with its reason.
func (r *Resolver) Resolve(ctx context.Context) (*Env, error) {
	rd, err := r.read(ctx)
	if err != nil {
		return nil, err
	}
	return &rd.env, nil
}

func (r *Resolver) read(ctx context.Context) (*reading, error) {
	if r.cfg.Docker {
		return nil, ErrDocker
	}
	asked := time.Now()
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if r.last != nil && unchanged(r.last.seen) {
		return r.last, nil
	}
	// Many jobs due at once must not each wait for a slow get-config, one after the other.
	if r.shared.began.After(asked) {
		return r.shared.rd, r.shared.err
	}
	o := outcome{began: time.Now()}
	o.rd, o.err = r.readAll(ctx)
	if ctx.Err() == nil {
		r.shared = o
	}
	return o.rd, o.err
}

// readAll makes a new reading. The caller has the turn.
func (r *Resolver) readAll(ctx context.Context) (*reading, error) {
	r.last = nil
	// A deployment may replace one file after another was read: start over until none changed meanwhile.
	for tries := 0; ; tries++ {
		rd := &reading{seen: map[string]stamp{}}
		if err := r.sources(ctx, rd); err != nil {
			return nil, err
		}
		if !unchanged(rd.seen) && tries < 9 {
			continue
		}
		if !rd.live && r.rested(rd.seen) {
			r.last = rd
		}
		return rd, nil
	}
}

// unchanged reports whether every path is as it was.
func unchanged(seen map[string]stamp) bool {
	for path, st := range seen {
		info, err := os.Stat(path)
		if err != nil {
			info = nil
		}
		if (info == nil) != (st.info == nil) || info != nil && !stampOf(info).same(st) {
			return false
		}
	}
	return true
}

// rested reports whether every path's last change is so old that the next one will show.
func (r *Resolver) rested(seen map[string]stamp) bool {
	for _, st := range seen {
		if age := time.Since(st.changed); st.info != nil && age > -r.settle && age < r.settle {
			return false
		}
	}
	return true
}

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
		return r.standIn(ctx, rd, baseErr, err)
	}
	rd.env.remove(rd.unit.unset)
	return nil
}

// standIn takes the live web process's environment in place of all sources.
func (r *Resolver) standIn(ctx context.Context, rd *reading, baseErr, why error) error {
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

// envFiles is the unit's list, in which the deployment file always is and the secrets file may be.
func (r *Resolver) envFiles(u unit) []envFile {
	files := u.files
	has := func(path string) bool {
		return slices.ContainsFunc(files, func(f envFile) bool { return f.path == path })
	}
	if !has(r.cfg.DeploymentEnv) {
		files = append([]envFile{{path: r.cfg.DeploymentEnv}}, files...)
	}
	if !has(r.cfg.Secrets) {
		// Not optional once it is there: a run without the passwords in it is not what the web process is.
		if _, err := os.Lstat(r.path(r.cfg.Secrets)); err == nil {
			return append(slices.Clip(files), envFile{path: r.cfg.Secrets})
		}
		return append(slices.Clip(files), envFile{path: r.cfg.Secrets, optional: true})
	}
	return files
}

// unitFile adds one of the unit's environment files, which may be a pattern for several. systemd ignores whatever is
// wrong with an optional one.
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
		case !f.optional || ctx.Err() != nil || errors.Is(err, errChanging) || errors.Is(err, fs.ErrPermission): // root may read it
			return err
		default:
			rd.env.skip(path, reason(err))
			if !errors.Is(err, fs.ErrNotExist) {
				rd.env.warnings = append(rd.env.warnings, err.Error())
			}
		}
	}
	return nil
}

// glob finds what glob(3) does: "[!" excludes, and only a pattern that begins with a dot finds a name that does.
func glob(pattern string) []string {
	found, _ := filepath.Glob(strings.ReplaceAll(pattern, "[!", "[^"))
	return slices.DeleteFunc(found, func(path string) bool {
		return filepath.Base(path)[0] == '.' && filepath.Base(pattern)[0] != '.'
	})
}

// errEmpty: a deployment file without a single assignment is more likely being written than true.
var errEmpty = errors.New("is empty")

// base adds the deployment file, or get-config's answer in its place.
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
		// get-config knows the properties before the first deployment has made anything of them. It is
		// not even asked, so that who waits for a deployment may look often.
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

// isDocker reports whether the engine has written docker's file instead: an agent can be older than that, too.
func (r *Resolver) isDocker() bool {
	_, err := os.Stat(filepath.Join(filepath.Dir(r.path(r.cfg.DeploymentEnv)), "env.list"))
	return err == nil
}

// systemdFile adds a file in systemd's grammar.
func (r *Resolver) systemdFile(ctx context.Context, rd *reading, path string) error {
	open := func() (*os.File, error) { return openFile(path) }
	parse := func(data []byte) (File, error) { return ParseSystemd(data, r.cfg.Systemd) }
	return r.file(ctx, rd, path, open, parse)
}

// dotenv adds a .env file.
func (r *Resolver) dotenv(ctx context.Context, rd *reading, name string, optional bool) error {
	path := name
	open := func() (*os.File, error) { return openFile(path) }
	if !filepath.IsAbs(name) {
		path = filepath.Join(r.cfg.AppDir, name)
		open = func() (*os.File, error) { return appfile.Open(r.cfg.AppDir, name) }
	}
	err := r.file(ctx, rd, path, open, ParseDotenv)
	if optional && errors.Is(err, fs.ErrNotExist) {
		rd.env.skip(path, "absent")
		return nil
	}
	return err
}

func (r *Resolver) file(ctx context.Context, rd *reading, path string, open func() (*os.File, error), parse func([]byte) (File, error)) error {
	data, st, err := readStable(ctx, open, r.settle)
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

// readError puts the path before err once.
func readError(path string, err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	}
	return fmt.Errorf("read %q: %w", path, err)
}

// reason is err as a short phrase for one line.
func reason(err error) string {
	switch {
	case errors.Is(err, errEmpty):
		return errEmpty.Error()
	case errors.Is(err, fs.ErrPermission):
		return "not readable by this user"
	case errors.Is(err, fs.ErrNotExist):
		return "absent"
	case errors.Is(err, context.DeadlineExceeded):
		return "gave no answer in time"
	}
	return err.Error()
}

// path is an absolute path below the configured root.
func (r *Resolver) path(abs string) string { return filepath.Join("/", r.cfg.Root, abs) }
