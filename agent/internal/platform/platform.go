// Package platform says what this instance is.
//
// Two steps, because the agent must be ready at once: [Detect] reads local files only and takes well under a
// millisecond; [Facts.Identify] asks what may be slow, Beanstalk's get-config and the instance metadata service, at
// the same time and each with its own short limit. Neither fails: what is known is in Facts, what was found and what
// was not is said in Found and Missing. Nothing is asked of the network off EC2.
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
	EnvironmentID   string // e-xxxxxxxxxx
	VersionLabel    string // of the application's source bundle

	Region, AccountID, Partition, InstanceID, AvailabilityZone string

	AppDir, StagingDir, AppUser string
	AppPort                     int    // where the application listens behind the proxy; 0: not known
	Proxy                       string // nginx, apache, none
	WebUnit                     string // the systemd unit of the web process, e.g. web.service
	Systemd                     int    // the version whose grammar the environment file has; 0: not known

	Found, Missing []string // one short phrase each, for `status` and the line at start
}

// Options says where to look. The zero value is this host. Optional all.
type Options struct {
	Root         string // put before every path, "" means /; for tests
	AppDir       string // from the configuration; wins over what is found
	AppUser      string // likewise
	Region       string // likewise
	IMDSEndpoint string // "" means http://169.254.169.254; a given one is asked whether or not this is EC2
	NoIMDS       bool   // never ask the metadata service
}

// local is the environment's name off Beanstalk.
const local = "local"

const eb = "/opt/elasticbeanstalk"

// Detect reads what local files say.
func Detect(ctx context.Context, o Options) Facts {
	h := host{Options: o}
	f := Facts{AppDir: o.AppDir, AppUser: o.AppUser, Region: o.Region}
	h.firmware(&f)
	f.Beanstalk = h.isDir(eb)
	f.Systemd = h.systemdVersion()
	if !f.Beanstalk {
		f.EnvironmentName = local
		f.found("not on Elastic Beanstalk: local mode")
		if wd, err := os.Getwd(); err == nil && f.AppDir == "" {
			f.AppDir = wd
		}
		f.settle()
		return f
	}
	h.ebFiles(&f)
	h.units(&f)
	h.nginx(&f)
	f.AppDir = cmp.Or(f.AppDir, "/var/app/current")
	f.StagingDir = "/var/app/staging"
	f.AppUser = cmp.Or(f.AppUser, "webapp")
	f.settle()
	return f
}

// deployed returns the facts with what the first deployment brought.
func (f Facts) deployed(o Options) Facts {
	d := Detect(context.Background(), o)
	if d.WebUnit == "" && !d.Docker {
		return f
	}
	f.Docker, f.Worker, f.WebUnit, f.AppUser, f.VersionLabel = d.Docker, d.Worker, d.WebUnit, d.AppUser, d.VersionLabel
	f.AppPort, f.Proxy = cmp.Or(d.AppPort, f.AppPort), cmp.Or(d.Proxy, f.Proxy)
	f.Found = append(slices.Clone(f.Found), "the first deployment")
	f.Missing = slices.DeleteFunc(slices.Clone(f.Missing), func(s string) bool { return s == noUnit })
	return f
}

// complete reports whether asking again can add nothing.
func (f Facts) complete(o Options) bool {
	return f.EnvironmentName != "" && (!o.asksIMDS(f) || f.InstanceID != "" && f.Region != "")
}

// settle fills what follows from the rest.
func (f *Facts) settle() {
	if f.Region == "" && len(f.AvailabilityZone) > 1 {
		f.Region = strings.TrimRight(f.AvailabilityZone, "abcdefghijklmnopqrstuvwxyz")
	}
	if f.Partition == "" && f.Region != "" {
		f.Partition = partitionOf(f.Region)
	}
}

// partitionOf is by the region's prefix; the list is AWS's (sdk partitions).
func partitionOf(region string) string {
	for _, p := range []struct{ prefix, partition string }{
		{"cn-", "aws-cn"}, {"us-gov-", "aws-us-gov"}, {"us-iso-", "aws-iso"}, {"us-isob-", "aws-iso-b"},
		{"eu-isoe-", "aws-iso-e"}, {"us-isof-", "aws-iso-f"}, {"eusc-", "aws-eusc"},
	} {
		if strings.HasPrefix(region, p.prefix) {
			return p.partition
		}
	}
	return "aws"
}

func (f *Facts) found(s string)   { f.Found = append(f.Found, s) }
func (f *Facts) missing(s string) { f.Missing = append(f.Missing, s) }

// LogValue is the line at start: what this instance is, as far as it is known, nothing secret.
func (f Facts) LogValue() slog.Value {
	a := []slog.Attr{slog.Bool("beanstalk", f.Beanstalk), slog.Bool("docker", f.Docker), slog.String("environment", f.EnvironmentName),
		slog.String("instance", f.InstanceID), slog.String("region", f.Region), slog.String("app_dir", f.AppDir), slog.String("app_user", f.AppUser)}
	return slog.GroupValue(slices.DeleteFunc(a, func(a slog.Attr) bool { return a.Value.Equal(slog.StringValue("")) })...)
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
