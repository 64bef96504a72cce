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
		const ask = "for verb in capacity 'cron list'; do timeout 60 agent $verb </dev/null 2>&1 | head -c 20000; test ${PIPESTATUS[0]} != 124 || echo NO ANSWER; done"
		out, _ := g.as("ec2-user", ask)
		if reload, err := g.Try("exec", "1", "timeout", "90", "agent", "reload"); err != nil {
			g.T.Errorf("%s: reload: %v\n%s", kind, err, reload)
		}
		again, _ := g.as("ec2-user", ask)
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

// manyStarts: ten thousand jobs, each due every second, leave the others their place.
func manyStarts(g *ground) {
	const file = "/var/app/current/cron.yaml"
	g.On("1", "cp -p "+file+" /run/cron.yaml && (echo cron:; for ((n = 0; n < 10000; n++)); do echo \"- {name: j$n, schedule: '@every 1s', command: 'true', on: all}\"; done) >"+file+".new && mv "+file+".new "+file+" && agent reload")
	out, err := g.as("ec2-user", "agent exec -- echo amid; agent cron list | tail -n 2")
	if err != nil || !strings.Contains(out, "amid") {
		g.T.Errorf("%v\n%s", err, out)
	}
	g.On("1", "cp -p /run/cron.yaml "+file+" && agent reload")
	g.audited()
}

// escapes: what a file or a caller says is shown as text, whatever a terminal would make of it.
func escapes(g *ground) {
	g.On("1", "cp -p /var/app/current/cron.yaml /run/cron.yaml; install -m 755 /bin/true $'/tmp/\\e[31mred'")
	out := g.On("1", "/usr/bin/python3 -I /box/attack/escapes.py /var/app/current/cron.yaml")
	g.On("1", "cp -p /run/cron.yaml /var/app/current/cron.yaml && agent reload")
	if strings.Count(out, "field ") < 10 {
		g.T.Fatalf("only\n%.2000q", out)
	}
	for _, line := range strings.Split(out, "\n") {
		if regexp.MustCompile(`[\x00-\x08\x0b-\x1f\x7f\x{80}-\x{9f}\x{202a}-\x{202e}]`).MatchString(line) || strings.HasPrefix(line, "ok    runs    all is well") {
			g.T.Errorf("%q", line)
		}
	}
}
