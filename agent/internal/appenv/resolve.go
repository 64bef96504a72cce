package appenv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
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
	User   string // who its commands run as; "" means the rule of local mode (see [Resolver.Profile])

	Beanstalk     bool           // else local mode: AppDir/.env
	Docker        bool           // a Beanstalk platform whose application is in a container
	DeploymentEnv string         // "" means DefaultDeploymentEnv
	Secrets       string         // "" means DefaultSecrets
	Systemd       SystemdVersion // 0 means AmazonLinux2023

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

// Resolver reads the application's environment at the moment it is asked. It keeps what it parsed as long as the
// files' stat is unchanged. It is safe for concurrent use.
type Resolver struct {
	cfg    Config
	settle time.Duration

	mu    sync.Mutex
	cache map[string]cached // by path
}

type cached struct {
	stamp stamp
	file  File
}

// New returns a Resolver. It reads nothing yet.
func New(cfg Config) *Resolver {
	if cfg.DeploymentEnv == "" {
		cfg.DeploymentEnv = DefaultDeploymentEnv
	}
	if cfg.Secrets == "" {
		cfg.Secrets = DefaultSecrets
	}
	return &Resolver{cfg: cfg, settle: settle, cache: map[string]cached{}}
}

// Resolve returns the environment that the web process would get if it were started now.
//
// On Beanstalk the order is: the deployment file, then the secrets file over it, both in systemd's grammar and as
// systemd reads them for the web service. When the deployment file is absent, empty, unreadable or one that systemd
// would refuse, `get-config environment` stands in for it. When neither is to be had, or the secrets file is there and
// cannot be used, the live web process's own environment stands in for everything, without what systemd and shells
// add to a single process. Where two sources have a name, the later one wins and Warnings names it. In local mode it
// is AppDir/.env, which may be absent. Config.EnvFiles come last in both.
//
// The error is ErrNotDeployed, ErrDocker, or tells each source with its reason.
func (r *Resolver) Resolve(ctx context.Context) (*Env, error) {
	if r.cfg.Docker {
		return nil, ErrDocker
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// A deployment may replace one file after another was read: start over until no file changed meanwhile.
	for tries := 0; ; tries++ {
		seen := map[string]stamp{}
		env, err := r.resolveOnce(ctx, seen)
		if err != nil || r.unchanged(seen) || tries == 9 {
			return env, err
		}
	}
}

func (r *Resolver) resolveOnce(ctx context.Context, seen map[string]stamp) (*Env, error) {
	env := &Env{}
	var err error
	if r.cfg.Beanstalk {
		err = r.beanstalk(ctx, env, seen)
	} else {
		err = r.dotenv(ctx, env, seen, ".env", true)
	}
	for _, name := range r.cfg.EnvFiles {
		if err == nil {
			err = r.dotenv(ctx, env, seen, name, false)
		}
	}
	if err != nil {
		return nil, err
	}
	return env, nil
}

func (r *Resolver) unchanged(seen map[string]stamp) bool {
	for path, st := range seen {
		info, err := os.Stat(path)
		if err != nil || !stampOf(info).same(st) {
			return false
		}
	}
	return true
}

func (r *Resolver) beanstalk(ctx context.Context, env *Env, seen map[string]stamp) error {
	baseErr := r.base(ctx, env, seen)
	var secretsErr error
	if baseErr == nil {
		secretsErr = r.systemdFile(ctx, env, seen, r.path(r.cfg.Secrets))
		if errors.Is(secretsErr, fs.ErrNotExist) {
			env.skip(r.cfg.Secrets, "absent")
			secretsErr = nil
		}
	}
	if baseErr == nil && secretsErr == nil {
		return nil
	}
	live := &Env{}
	if err := r.live(ctx, live); err != nil {
		if errors.Is(baseErr, errEmpty) {
			env.warnf("%s is empty, and nothing else tells the properties", r.cfg.DeploymentEnv)
			return nil
		}
		if baseErr != nil && errors.Is(baseErr, fs.ErrNotExist) {
			return ErrNotDeployed
		}
		return fmt.Errorf("read the application's environment: %w", errors.Join(baseErr, secretsErr, err))
	}
	live.sources = append(env.sources, live.sources...)
	live.warnf("the environment is that of the running web process, because: %v", errors.Join(baseErr, secretsErr))
	*env = *live
	return nil
}

// errEmpty: a deployment file without a single assignment is more likely being written than true.
var errEmpty = errors.New("is empty")

// base adds the deployment file, or get-config's answer in its place.
func (r *Resolver) base(ctx context.Context, env *Env, seen map[string]stamp) error {
	fileErr := r.systemdFile(ctx, env, seen, r.path(r.cfg.DeploymentEnv))
	if fileErr == nil && len(env.vars) == 0 {
		*env, fileErr = Env{}, fmt.Errorf("read %q: %w", r.cfg.DeploymentEnv, errEmpty)
	}
	if fileErr == nil || ctx.Err() != nil {
		return fileErr
	}
	env.skip(r.cfg.DeploymentEnv, reason(fileErr))
	if r.cfg.GetConfig == nil {
		return fileErr
	}
	const name = "get-config environment"
	out, err := r.cfg.GetConfig(ctx)
	var file File
	if err == nil {
		file, err = parseProperties(out)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
		env.skip(name, reason(err))
		return errors.Join(fileErr, err)
	}
	if _, err := os.Stat(r.cfg.AppDir); err != nil {
		// get-config knows the properties before the first deployment has made anything of them.
		return fileErr
	}
	env.add(name, file)
	env.warnf("%s stands in for %s: %s", name, r.cfg.DeploymentEnv, reason(fileErr))
	return nil
}

// systemdFile adds a file in systemd's grammar, from the cache if its stat is unchanged.
func (r *Resolver) systemdFile(ctx context.Context, env *Env, seen map[string]stamp, path string) error {
	open := func() (*os.File, error) { return openFile(path) }
	parse := func(data []byte) (File, error) { return ParseSystemd(data, r.cfg.Systemd) }
	return r.file(ctx, env, seen, path, open, parse)
}

// dotenv adds a .env file.
func (r *Resolver) dotenv(ctx context.Context, env *Env, seen map[string]stamp, name string, optional bool) error {
	path := name
	open := func() (*os.File, error) { return openFile(path) }
	if !filepath.IsAbs(name) {
		path = filepath.Join(r.cfg.AppDir, name)
		open = func() (*os.File, error) { return openWithin(r.cfg.AppDir, name) }
	}
	err := r.file(ctx, env, seen, path, open, ParseDotenv)
	if optional && errors.Is(err, fs.ErrNotExist) {
		env.skip(path, "absent")
		return nil
	}
	return err
}

func (r *Resolver) file(ctx context.Context, env *Env, seen map[string]stamp, path string,
	open func() (*os.File, error), parse func([]byte) (File, error)) error {
	c, ok := r.cache[path]
	if info, err := os.Stat(path); !ok || err != nil || !c.stamp.same(stampOf(info)) {
		delete(r.cache, path)
		data, st, err := readStable(ctx, open, r.settle)
		if err != nil {
			return readError(path, err)
		}
		file, err := parse(data)
		if err != nil {
			if faults, ok := errors.AsType[Faults](err); ok {
				return faults.in(path)
			}
			return readError(path, err)
		}
		file.Dropped = file.Dropped.in(path)
		c = cached{st, file}
		r.cache[path] = c
	}
	seen[path] = c.stamp
	env.add(path, c.file)
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
	case errors.Is(err, fs.ErrNotExist):
		return "absent"
	case errors.Is(err, errEmpty):
		return errEmpty.Error()
	case errors.Is(err, fs.ErrPermission):
		return "not readable by this user"
	case errors.Is(err, context.DeadlineExceeded):
		return "gave no answer in time"
	}
	return err.Error()
}

// path is an absolute path below the configured root.
func (r *Resolver) path(abs string) string { return filepath.Join("/", r.cfg.Root, abs) }
