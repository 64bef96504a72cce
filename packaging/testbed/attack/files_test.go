package attack

import (
	"regexp"
	"strings"
)

// obstacles are what stands in a file's place. Each is in the place of all files at once.
var obstacles = []string{"zero", "random", "shadow", "proc", "climbing", "itself", "log", "dangling", "fifo", "directory", "socket", "gigabyte", "nulls", "largest"}

// readers: whatever is in the place of a file that the application can write, and that the agent reads, costs it no
// more than its ceiling, holds up nobody, and shows nobody what the application may not read.
func readers(g *ground) {
	const app = "/var/app/current/"
	files := []string{app + "cron.yaml", app + "Procfile"}
	g.On("1", "mkdir /run/kept && cp -p "+app+"cron.yaml "+app+"Procfile /run/kept")
	for _, kind := range obstacles {
		put := func(kind string, files ...string) {
			if out, err := g.as("webapp", "/usr/bin/python3 -I /box/attack/obstacles.py "+kind+" "+strings.Join(files, " ")); err != nil {
				g.T.Fatalf("%v\n%s", err, out)
			}
		}
		put(kind, files...)
		out, _ := g.as("ec2-user", "for verb in capacity 'cron list' 'cron next' status env; do timeout 60 agent $verb </dev/null 2>&1 | head -c 20000; test ${PIPESTATUS[0]} != 124 || echo NO ANSWER; done")
		if reload, err := g.Try("exec", "1", "timeout", "90", "agent", "reload"); err != nil {
			g.T.Errorf("%s: reload: %v\n%s", kind, err, reload)
		}
		again, _ := g.as("ec2-user", "for verb in capacity 'cron list' status; do timeout 60 agent $verb </dev/null 2>&1 | head -c 20000; test ${PIPESTATUS[0]} != 124 || echo NO ANSWER; done")
		if out += again; strings.Contains(out, "NO ANSWER") || strings.Contains(out, "root:") {
			g.T.Errorf("%s:\n%.3000s", kind, out)
		}
		if !regexp.MustCompile(`(?m)cron\.yaml|jobs`).MatchString(out) {
			g.T.Errorf("%s: nobody has read the file:\n%.3000s", kind, out)
		}
		if kind == "largest" {
			put("none", files[0])
			put(kind, app+"crontab")
			g.On("1", "timeout 90 agent reload; timeout 60 agent cron list | tail -n 3")
			put("none", app+"crontab")
		}
	}
	g.On("1", "rm -rf "+strings.Join(files, " ")+" && cp -p /run/kept/* "+app+" && agent reload")
}

// hardLinks: what is not the application's own is not read under a name that is.
func hardLinks(g *ground) {
	g.gets("webapp", "a name for root's file", "ln /etc/shadow /var/app/current/crontab")
	g.gets("webapp", "a name for root's file", "ln /etc/passwd /var/app/current/crontab")
}
