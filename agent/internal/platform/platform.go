// Package platform says what this instance is.
//
// Two steps, because the agent must be ready at once: [Detect] reads local files only and takes well under a
// millisecond; [Facts.Identify] asks what may be slow, Beanstalk's get-config and the instance metadata service, at
// the same time and each with its own short limit. Neither fails: Facts has what is known, and Missing names the rest.
// Nothing is asked of the network off EC2.
package platform

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Facts is what is known of this instance. Empty means not known.
type Facts struct {
	Beanstalk bool // the engine's folder is there
	Docker    bool // the application lives in a container
	Worker    bool // a worker tier: Beanstalk's own daemon delivers messages to the application
	EC2       bool // a virtual machine of EC2, by its firmware's own word

	EnvironmentName string // "local" off Beanstalk

	Region, AccountID, InstanceID string
	InstanceType, ImageID         string // of the metadata service alone

	AppDir  string
	AppPort int    // where the application listens behind the proxy; 0: not known
	WebUnit string // the systemd unit of the web process, e.g. web.service
	Systemd int    // the version whose grammar the environment file has; 0: not known

	Missing []string // one short phrase each, for `status` and the line at start
}

// Options says where to look. The zero value is this host. Optional all.
type Options struct {
	Root   string // put before every path, "" means /; for tests
	AppDir string // from the configuration; wins over what is found
	Region string // likewise
	IMDS   IMDS   // nil: never asked
}

// IMDS is the instance metadata service.
type IMDS interface {
	AsksMetadata(ec2 bool) bool                                // whether it may be asked, on EC2 or elsewhere
	Metadata(ctx context.Context, path string) (string, error) // "" for what is not there
}

// local is the environment's name off Beanstalk.
const local = "local"

const eb = "/opt/elasticbeanstalk"

// Detect reads what local files say.
func Detect(ctx context.Context, o Options) Facts {
	h := host{Options: o}
	f := Facts{AppDir: o.AppDir, Region: o.Region}
	h.firmware(&f)
	f.Beanstalk = h.isDir(eb)
	f.Systemd = h.systemdVersion()
	if !f.Beanstalk {
		f.EnvironmentName = local
		if wd, err := os.Getwd(); err == nil && f.AppDir == "" {
			f.AppDir = wd
		}
		return f
	}
	h.ebFiles(&f)
	h.units(&f)
	if h.isDir("/etc/nginx/conf.d/elasticbeanstalk") {
		f.AppPort = h.nginx().Passes().Port
	}
	f.AppDir = cmp.Or(f.AppDir, "/var/app/current")
	return f
}

// deployed returns the facts with what the first deployment brought.
func (f Facts) deployed(o Options) Facts {
	d := Detect(context.Background(), o)
	if d.WebUnit == "" && !d.Docker {
		return f
	}
	f.Docker, f.Worker, f.WebUnit, f.AppPort = d.Docker, d.Worker, d.WebUnit, cmp.Or(d.AppPort, f.AppPort)
	f.Missing = slices.DeleteFunc(slices.Clone(f.Missing), func(s string) bool { return s == noUnit })
	return f
}

// complete reports whether asking again can add nothing. The account's id comes from the metadata service alone.
func (f Facts) complete(o Options) bool {
	return f.EnvironmentName != "" && (!o.asksIMDS(f) || f.InstanceID != "" && f.Region != "" && f.AccountID != "")
}

func (f *Facts) missing(s string) { f.Missing = append(f.Missing, s) }

// LogValue is the line at start: what this instance is, as far as it is known, nothing secret.
func (f Facts) LogValue() slog.Value {
	a := []slog.Attr{
		slog.Bool("beanstalk", f.Beanstalk), slog.Bool("docker", f.Docker),
		slog.String("environment", f.EnvironmentName), slog.String("instance", f.InstanceID),
		slog.String("region", f.Region), slog.String("app_dir", f.AppDir),
	}
	empty := func(a slog.Attr) bool { return a.Value.Equal(slog.StringValue("")) }
	return slog.GroupValue(slices.DeleteFunc(a, empty)...)
}

// host reads files below a root.
type host struct{ Options }

func (h host) path(abs string) string { return filepath.Join("/", h.Root, abs) }

func (h host) isDir(abs string) bool {
	info, err := os.Stat(h.path(abs))
	return err == nil && info.IsDir()
}

func (h host) exists(abs string) bool {
	_, err := os.Stat(h.path(abs))
	return err == nil
}

// word returns a small file's text without blanks around it, "" if there is none.
func (h host) word(abs string) string {
	data, err := readSmall(h.path(abs))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
