package appenv

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// ErrNotDeployed: the instance has no application yet, and so no environment.
var ErrNotDeployed = errors.New("the application has not been deployed yet")

// ErrDocker: the application is in a container, and a command started here would run outside of it.
var ErrDocker = errors.New("the application runs in a container on this platform; " +
	"the agent does not start commands inside it yet")

// Files of Beanstalk's platforms without Docker.
const (
	DefaultDeploymentEnv = "/opt/elasticbeanstalk/deployment/env"
	DefaultSecrets       = "/opt/elasticbeanstalk/deployment/secrets/web"
)

// Config says where the environment comes from. With AppDir alone it is local mode.
type Config struct {
	AppDir string // Required: the application's directory
	User   string // of its commands; "" means found (see [Resolver.Profile])

	Beanstalk     bool           // else local mode: AppDir/.env
	Docker        bool           // a Beanstalk platform whose application is in a container
	DeploymentEnv string         // "" means DefaultDeploymentEnv
	Secrets       string         // "" means DefaultSecrets
	Systemd       SystemdVersion // 0 means AmazonLinux2023

	// WebUnit is the systemd unit of the web process. Its file and drop-ins give its environment files and variables,
	// user, groups and umask. "" means the first of web.service, php-fpm.service and tomcat.service that exists: the
	// agent may start before the first deployment, which installs the unit.
	WebUnit string

	// EnvFiles are .env files that replace everything else, later ones win. One below AppDir must not leave it by a
	// link; of any other root must own all of the path, if the agent is root. A missing file is an error.
	EnvFiles []string

	// GetConfig returns the output of `get-config environment`. Optional.
	GetConfig func(ctx context.Context) ([]byte, error)

	// WebPIDs returns the processes of the live web service, its main process first. Optional.
	WebPIDs func(ctx context.Context) ([]int, error)

	// Root is put before every absolute path that is not from this Config, "" means /. For tests.
	Root string
}

// Resolver reads the application's environment when it is asked. It keeps a reading as long as the stat of every file,
// present or absent, is unchanged. It is safe for concurrent use.
type Resolver struct {
	cfg    Config
	minAge time.Duration
	texts  texts

	lock    chan struct{} // held while reading; guards the rest
	hadUnit bool          // the last reading found a web unit
	last    *reading      // nil: none that may be reused
	shared  outcome       // the latest, for callers that waited for it
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
	all     []Var            // of every service of systemd, besides locale and PATH
	seen    map[string]stamp // every path examined; a zero stamp: absent
	writers []Writer         // of each file of the application's directory
	process bool             // everything is from the live web process
	live    bool             // it depends on more than the files seen: not to be reused
}

// New returns a Resolver. It reads nothing yet.
func New(cfg Config) *Resolver {
	if cfg.DeploymentEnv == "" {
		cfg.DeploymentEnv = DefaultDeploymentEnv
	}
	if cfg.Secrets == "" {
		cfg.Secrets = DefaultSecrets
	}
	if cfg.AppDir != "" {
		cfg.AppDir = filepath.Clean(cfg.AppDir)
	}
	return &Resolver{cfg: cfg, minAge: minAge, lock: make(chan struct{}, 1)}
}

// Resolve returns the environment that the web process would get if it were started now.
//
// On Beanstalk it is what systemd would give the web unit: its Environment=, then its environment files in order, each
// in systemd's grammar. The deployment file is always one of them, and so is the secrets file where it exists. When
// the deployment file is absent, empty, unreadable or one that systemd would refuse, `get-config environment` replaces
// it. When neither can be read, or another required file cannot be used, the live web process's environment replaces
// everything, without the variables of a single process. Where two sources have a name, the later one wins and
// Warnings names it. In local mode it is AppDir/.env, which may be absent. Config.EnvFiles come last in both.
//
// The error is ErrNotDeployed, ErrDocker, or names each source with its reason.
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
	var owner uint32
	if r.strict() && r.cfg.User == "" {
		var err error
		if owner, _, err = r.owner(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	asked := time.Now()
	select {
	case r.lock <- struct{}{}:
		defer func() { <-r.lock }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	another := func(w Writer) bool { return w.byOwner && w.uid != owner }
	if r.last != nil && !slices.ContainsFunc(r.last.writers, another) && unchanged(r.last.seen) {
		return r.last, nil
	}
	// Jobs due at once share one reading: get-config may be slow.
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

// readAll makes a new reading. The caller holds the lock.
func (r *Resolver) readAll(ctx context.Context) (*reading, error) {
	r.last = nil
	// A deployment may replace one file after another was read: start over until none changed during a reading.
	for tries := 0; ; tries++ {
		rd := &reading{seen: map[string]stamp{}}
		if err := r.sources(ctx, rd); err != nil {
			return nil, err
		}
		if !unchanged(rd.seen) && tries < 9 {
			continue
		}
		if !rd.live && r.allStable(rd.seen) {
			r.last = rd
		}
		return rd, nil
	}
}

// unchanged reports whether no path changed since.
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

// allStable reports whether every path's last change is so old that the next one will show.
func (r *Resolver) allStable(seen map[string]stamp) bool {
	for _, st := range seen {
		if age := time.Since(st.changed); st.info != nil && age > -r.minAge && age < r.minAge {
			return false
		}
	}
	return true
}

// path returns an absolute path below the configured root.
func (r *Resolver) path(abs string) string { return filepath.Join("/", r.cfg.Root, abs) }
