package platform

import (
	"io/fs"
	"os"

	"beanstalk-agent/packaging/nginxconf"
)

const nginxDir = "/etc/nginx"

// Nginx is the configuration with which nginx was started in the last deployment, as far as it can be read.
type Nginx struct {
	conf   []nginxconf.Directive
	server nginxconf.Directive
	known  bool
}

// Nginx is as it stands now: each deployment may change it, one of the environment's properties alone too. Safe for
// concurrent use. Each health check asks, and parsing costs about 1 ms.
func (i *Instance) Nginx() Nginx { return i.nginx.get(host{i.options}.nginxFiles(), parseNginx) }

// nginx reads root's files, of limited size.
func (h host) nginx() Nginx { return parseNginx(h.nginxFiles()) }

func (h host) nginxFiles() fs.FS { return os.DirFS(h.path(nginxDir)) }

// parseNginx reads files, those below nginxDir. Without an nginx.conf the files that Beanstalk's own includes are a
// server.
func parseNginx(files fs.FS) (n Nginx) {
	tree := nginxconf.Tree{FS: files, Root: nginxDir}
	n.conf, _ = tree.Read("nginx.conf")
	n.server, n.known = nginxconf.DefaultServer(n.conf)
	if len(n.conf) == 0 {
		n.server.Block = tree.Included("conf.d/elasticbeanstalk/*.conf")
		n.known = len(n.server.Block) > 0
	}
	return n
}

// Passes is where nginx sends the site's requests. Without a Protocol that is not known.
func (n Nginx) Passes() nginxconf.Target {
	if !n.known {
		return nginxconf.Target{}
	}
	return nginxconf.Passes(n.conf, n.server)
}

// ServerNames are the names of nginx's servers, patterns too.
func (n Nginx) ServerNames() (names []string) {
	for _, d := range nginxconf.Find(n.conf, "server_name") {
		names = append(names, d.Args...)
	}
	return names
}

// Check is what nginx does with a load balancer's check of one path.
type Check struct {
	Known  bool
	To     string // the address to which a location of exactly this path sends it; "" without such a location
	Before string // what may answer it before any location does: "FILE:LINE (return)", or ""
}

// Check follows a check of path.
func (n Nginx) Check(path string) Check {
	c := Check{Known: n.known}
	for _, l := range nginxconf.Takes(n.server.Block, path) {
		if d, ok := nginxconf.First(l.Block, "proxy_pass"); ok && c.To == "" {
			c.To = d.Arg(0)
		}
	}
	if before := nginxconf.Before(n.server.Block, path); len(before) > 0 {
		c.Before = before[0].At() + " (" + before[0].Name + ")"
	}
	return c
}
