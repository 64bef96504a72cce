// Package app is the application beside us: where it listens, which Host it answers to, its environment, its commands.
//
// Contract: every answer is of now, since a deployment changes port, environment and commands without a word to the
// agent. Nothing here keeps the application waiting or writes to its directory. An App is safe for concurrent use.
package app

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/appfile"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/collectors"
)

// Config is what root's configuration says of the application. Everything is optional.
type Config struct {
	Dir      string   // "": where the platform puts it, else the current directory
	User     string   // "": whom the platform runs it as, else the owner of Dir
	EnvFiles []string // extra dotenv files; later ones win

	// How it is asked.
	Target  string            // its address and a page, as endpoint.Parse reads them; "": found
	Page    string            // the page, where Target is found
	Host    string            // ${NAME} is from its environment
	Headers map[string]string // sent along
}

// App answers questions about the application.
type App struct {
	cfg  Config
	inst *platform.Instance
	env  *appenv.Resolver

	portsMu  sync.Mutex
	ports    collectors.Ports // on which the web process listens
	portsCut atomic.Bool      // they were not all looked at
}

// New returns the application on inst. It reads nothing yet.
func New(cfg Config, inst *platform.Instance) *App {
	f := inst.Facts()
	c := appenv.Config{Root: inst.Root(),
		AppDir: f.AppDir, User: cfg.User, EnvFiles: cfg.EnvFiles, // without a User appenv finds out at each start
		Beanstalk: f.Beanstalk, Docker: f.Docker, Systemd: appenv.SystemdVersion(f.Systemd),
		WebPIDs: inst.WebPIDs,
	}
	if f.Beanstalk {
		c.GetConfig = func(ctx context.Context) ([]byte, error) { return inst.GetConfig(ctx, "environment") }
	}
	return &App{cfg: cfg, inst: inst, env: appenv.New(c)}
}

// Instance is the instance it runs on.
func (a *App) Instance() *platform.Instance { return a.inst }

// Facts is short for Instance().Facts().
func (a *App) Facts() platform.Facts { return a.inst.Facts() }

// Env resolves its environment.
func (a *App) Env() *appenv.Resolver { return a.env }

// UserID is the number of a user of this host, if there is one; "" is the application's, whether this process may run
// commands as him or not.
func (a *App) UserID(ctx context.Context, name string) (uid uint32, found bool) {
	var u appenv.User
	if name == "" {
		u, _ = a.env.User(ctx)
	} else {
		u, _ = a.env.LookupUser(name)
	}
	return u.UID, u.Name != ""
}

// Name is the name of this instance: its id, else the host's name. The id may be known late: see LastingName.
func (a *App) Name() string {
	if id := a.Facts().InstanceID; id != "" {
		return id
	}
	name, _ := os.Hostname()
	return name
}

// LastingName is Name once it will not change any more, else "": after a boot the metadata service may answer later
// than the first runs start, and what they note must not differ from what later ones do.
func (a *App) LastingName() string {
	if a.Facts().InstanceID == "" && a.inst.AsksMetadata() {
		return ""
	}
	return a.Name()
}

// AwaitName waits for the lasting name, for limit at most, and returns Name.
func (a *App) AwaitName(ctx context.Context, limit time.Duration) string {
	a.inst.Await(ctx, limit, func(platform.Facts) bool { return a.LastingName() != "" })
	return a.Name()
}

// ReadFile reads a file of its directory, of at most limit bytes, as package appfile does.
func (a *App) ReadFile(name string, limit int64) ([]byte, error) {
	data, _, err := appfile.Read(a.Facts().AppDir, name, limit)
	return data, err
}

// Headers are the headers it is asked with, each "Name: value", in the order of their names.
func (a *App) Headers() []string {
	var list []string
	for name, value := range a.cfg.Headers {
		list = append(list, name+": "+value)
	}
	slices.Sort(list)
	return list
}

// Expand replaces each ${NAME} in s by the variable's value. A name that is not there is an error, so that no message
// goes to half an address. Unlike os.Expand it leaves any other "$" alone: a secret may have one, and an error must
// not name what follows it.
func (a *App) Expand(s string) (string, error) {
	if !strings.Contains(s, "${") {
		return s, nil
	}
	env, err := a.env.Resolve(context.Background())
	if err != nil {
		return "", err
	}
	var missing []string
	out := replaceReferences(s, func(name string) string {
		v, ok := env.Lookup(name)
		if !ok {
			missing = append(missing, name)
		}
		return v
	})
	if len(missing) > 0 {
		return out, fmt.Errorf("the application has no variable %s", strings.Join(missing, ", "))
	}
	return out, nil
}

// replaceReferences puts in the value of each ${NAME}.
func replaceReferences(s string, value func(name string) string) string {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(s, "${")
		name, after, closed := strings.Cut(rest, "}")
		if !found || !closed {
			out.WriteString(s)
			return out.String()
		}
		out.WriteString(before + value(name))
		s = after
	}
}
