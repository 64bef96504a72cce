package packaging

import (
	"bytes"
	"cmp"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"beanstalk-agent/packaging/nginxconf"
)

const (
	nginxDir   = ".platform/nginx" // becomes /etc/nginx, over what Beanstalk has there
	nginxName  = "conf.d/elasticbeanstalk/agent-health.conf"
	nginxFile  = nginxDir + "/" + nginxName
	healthPath = "/agent-health" // of the location
	downName   = "agent_down"    // of the other location in the file

	includeOurs = "include conf.d/elasticbeanstalk/*.conf;" // with which a server has our file
)

// nginx writes the file with our locations, which Beanstalk includes in its server block, unless nginx would refuse it
// there or never read it: then the deployment would fail, or nothing happen. It has values to edit, so an existing one
// stays.
func (h *host) nginx() error {
	content := embeddedFile("nginx/agent-health.conf")
	site := h.readSite()
	old, err := h.files.ReadFile(nginxFile)
	switch {
	case err == nil && !bytes.Equal(old, content):
		h.noteKept(string(old))
	case err == nil:
	case site.proxy != "":
		h.note("%s: the nginx location of the health check was not written. Cron, exec and metrics work; "+
			"the load balancer's check through the agent needs nginx", site.proxy)
		return nil
	case site.clash != "":
		h.note("%s: the nginx location was not written, because nginx would refuse it there and the deployment would "+
			"fail. Either give the path to the agent: delete that and run this again. Or keep it: copy the "+
			"location of the agent's package with another path and name, and set health.path in "+
			"/etc/agent/agent.yaml", site.clash)
		return nil
	default:
		if _, err := h.file(nginxFile, 0o644, content); err != nil {
			return err
		}
	}
	for _, n := range site.notes {
		h.note("%s", n)
	}
	return nil
}

// noteKept notes what an edited or earlier file does that the present one does not.
func (h *host) noteKept(old string) {
	h.note("%s was edited or is of an earlier version, kept as it is", nginxFile)
	if strings.Contains(old, "proxy_pass http://127.") {
		h.note("%s asks the agent at a port, which any local user can take: "+
			"write proxy_pass http://unix:/run/agent/health.sock; or delete it and run this again", nginxFile)
	}
	list, _ := nginxconf.Parse(nginxFile, old)
	if len(nginxconf.Takes(list, "/health")) > 0 {
		h.note("%s takes over /health, as earlier versions did, which goes on working. To change to %s without a "+
			"failed check takes two deployments: see \"Where nginx asks\" in packaging/docs/health-checks.md",
			nginxFile, healthPath)
	} else if len(list) > 0 && len(nginxconf.Find(list, "limit_req_dry_run")) == 0 {
		h.note("%s inherits passwords and limits of your server, which then answer the load balancer: "+
			"delete it and run this again", nginxFile)
	}
}

// site is what the repository's configuration means for our locations.
type site struct {
	proxy string   // why nginx is not the proxy, "" where it is
	clash string   // what makes nginx refuse our file
	notes []string // what else keeps checks from the agent
}

func (h *host) readSite() (s site) {
	sub, err := fs.Sub(h.repo, nginxDir)
	if err != nil {
		return s
	}
	configs := h.ebextensions()
	s.proxy = otherProxy(configs)
	s.clash = cmp.Or(h.clash(), clashOf(configs))
	if _, err := fs.Stat(h.repo, ".platform/httpd"); err == nil && s.proxy == "" {
		s.note(".platform/httpd configures Apache: where the environment's ProxyServer is apache, nginx does not run " +
			"and the load balancer's check through the agent does not work")
	}
	tree := &nginxconf.Tree{FS: sub, Root: "/etc/nginx"}
	conf, err := tree.Read("nginx.conf")
	if len(conf) == 0 { // Beanstalk's own, which includes these files
		s.before(tree.Included("conf.d/elasticbeanstalk/*.conf"))
		for _, other := range nginxconf.Servers(tree.Included("conf.d/*.conf")) {
			if nginxconf.NamesAddresses(other) {
				s.note("%s/%s, a server whose name is an expression for addresses, answers a load balancer: the agent "+
					"is not asked. Put into it: %s", nginxDir, other.At(), includeOurs)
			}
		}
		return s
	}
	if err != nil {
		s.note("nginx refuses %s/%v, and with it the deployment", nginxDir, err)
	}
	s.own(tree, conf)
	return s
}

func (s *site) note(format string, args ...any) {
	s.notes = append(s.notes, fmt.Sprintf(format, args...))
}

// own looks at the repository's own nginx.conf: where it includes our file, and who answers a load balancer.
func (s *site) own(tree *nginxconf.Tree, conf []nginxconf.Directive) {
	server, found := nginxconf.DefaultServer(conf)
	seen := map[string]bool{}
	for _, place := range tree.Places(conf, nginxName) {
		at := place.At()
		switch {
		case place.Name != "server":
			s.clash = cmp.Or(s.clash, nginxDir+"/nginx.conf includes "+nginxName+" outside of a server")
		case seen[at]:
			s.clash = cmp.Or(s.clash, fmt.Sprintf("the server at %s/%s includes %s twice", nginxDir, at, nginxName))
		}
		seen[at] = true
	}
	switch {
	case !found:
		s.note("%s/nginx.conf has no server on port 80: the agent is not asked", nginxDir)
		return
	case !seen[server.At()]:
		s.note("%s/%s, the server that answers a load balancer, does not include our location: the agent is not "+
			"asked. Put into it: %s", nginxDir, server.At(), includeOurs)
	}
	s.before(server.Block)
	for _, user := range nginxconf.Find(conf, "user") {
		if name := user.Arg(0); name != "nginx" && name != "www-data" {
			s.note("%s/%s: nginx's workers are the user %s, and only nginx and www-data may connect to the agent: "+
				"nginx asks the application itself instead", nginxDir, user.At(), name)
		}
	}
}

// before notes what answers a load balancer before any location does.
func (s *site) before(server []nginxconf.Directive) {
	for _, d := range nginxconf.Before(server, healthPath) {
		if d.Name == "auth_request" {
			s.note("%s/%s asks somebody else about every request, the load balancer's too: move it into the "+
				"locations that need it", nginxDir, d.At())
			continue
		}
		s.note("%s/%s (%s) may answer a load balancer's check before the agent does: move it into location /, or "+
			"exempt %s", nginxDir, d.At(), d.Name, healthPath)
	}
}

// clash names the first file of the repository's nginx configuration with which nginx would refuse ours.
func (h *host) clash() (found string) {
	for _, dir := range []string{nginxDir, ".platform/hooks", ".platform/confighooks", ".ebextensions"} {
		fs.WalkDir(h.repo, dir, func(name string, d fs.DirEntry, err error) error {
			if found != "" || err != nil || !d.Type().IsRegular() || name == nginxFile || name == configName {
				return nil
			}
			text, err := smallFile(h.repo, name)
			if written := ourLocation.FindStringSubmatch(text); dir != nginxDir && written != nil {
				found = fmt.Sprintf("%s writes location %s", name, written[1])
			} else if dir == nginxDir && err == nil {
				found = clashIn(name, text)
			}
			return nil
		})
	}
	return found
}

// ourLocation is one of our locations in a command or script, which may write it into nginx's configuration.
var ourLocation = regexp.MustCompile(`(?m)^[^#\n]*\blocation[ \t]*(?:=|~\*?|\^~)?[ \t]*["']?(` +
	healthPath + `|@` + downName + `)/?["' \t{]`)

// clashIn names a location of text that nginx would not have beside ours. Of a text that cannot be read whole our names
// are enough.
func clashIn(name, text string) string {
	list, err := nginxconf.Parse(name, text)
	for _, l := range nginxconf.Takes(list, healthPath, downName) {
		return fmt.Sprintf("%s has location %s", l.At(), strings.Join(l.Args, " "))
	}
	if err != nil && (strings.Contains(text, healthPath) || strings.Contains(text, "@"+downName)) {
		return fmt.Sprintf("%s has our names, and cannot be read (%v)", name, err)
	}
	return ""
}

// smallFile reads a file of the repository, of a size that a person writes.
func smallFile(repo fs.FS, name string) (string, error) {
	const most = 256 << 10
	if info, err := fs.Stat(repo, name); err != nil || !info.Mode().IsRegular() || info.Size() > most {
		return "", fmt.Errorf("read %q: want a regular file of at most %d kB", name, most>>10)
	}
	data, err := fs.ReadFile(repo, name)
	return string(data), err
}
