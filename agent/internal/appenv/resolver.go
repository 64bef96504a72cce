package appenv

import (
	"context"
	"errors"
	"path/filepath"
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

// path returns an absolute path below the configured root.
func (r *Resolver) path(abs string) string { return filepath.Join("/", r.cfg.Root, abs) }
