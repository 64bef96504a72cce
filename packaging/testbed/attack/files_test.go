package attack

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// obstacles are what stands in a file's place. Each is in the place of all files at once.
var obstacles = []string{"zero", "shadow", "proc", "climbing", "itself", "dangling", "fifo", "directory", "socket", "gigabyte", "nulls", "largest"}

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

// localFiles: the same of the files that an agent off Beanstalk reads, and who owns the directory becomes nobody else.
func localFiles(g *ground) {
	if err := os.WriteFile(filepath.Join(g.Dir, "local.yaml"), []byte(`{socket: /run/local/agent.sock, state_dir: /var/lib/local, metrics: {send: "off"},
		app: {dir: /srv/app, env_files: [extra.env]}, health: {listen: "127.0.0.1:8129"}, cron: {claims: "off"}}`), 0o644); err != nil {
		g.T.Fatal(err)
	}
	g.On("1", `mkdir -p /srv/app /run/local; touch /srv/app/.env /srv/app/extra.env; chown -R webapp:webapp /srv/app
		systemd-run --quiet --collect --unit=attacker-local -p Type=notify -p TemporaryFileSystem=/opt /box/bin/agent --config /box/local.yaml run`)
	pid := g.PID("1", "attacker-local")
	const ask = "for verb in 'exec -- id -un' env status; do timeout 60 agent --socket /run/local/agent.sock $verb </dev/null 2>&1 | head -c 20000; test ${PIPESTATUS[0]} != 124 || echo NO ANSWER; done"
	for _, kind := range obstacles {
		put := "/usr/bin/python3 -I /box/attack/obstacles.py " + kind + " /srv/app/.env"
		if out, err := g.as("webapp", put); err != nil {
			g.T.Fatalf("%v\n%s", err, out)
		}
		if out, _ := g.as("root", ask); strings.Contains(out, "NO ANSWER") || strings.Contains(out, "root:") || strings.HasPrefix(out, "webapp") != (kind == "largest" || kind == "nulls") {
			g.T.Errorf("%s:\n%.3000s", kind, out)
		}
	}
	g.On("1", "rm -rf /srv/app/.env")
	if out, err := g.as("root", "agent --socket /run/local/agent.sock exec -- id -un"); err != nil || out != "webapp" {
		g.T.Errorf("afterwards: %v\n%s", err, out)
	}
	for _, script := range []string{"rm -rf .env && ln -s / root", "mv /srv/app /srv/mine", "rmdir /srv/app", "ln -sfn / /srv/app"} {
		g.as("webapp", "cd /srv/app; "+script)
	}
	if out, _ := g.as("root", "agent --socket /run/local/agent.sock exec --dir root -- id -un"); out != "webapp" {
		g.T.Errorf("in a directory of root's: %s", out)
	}
	if now := g.PID("1", "attacker-local"); now != pid {
		g.T.Errorf("it is another process: %s, then %s", pid, now)
	}
	var peak int
	fmt.Sscan(g.On("1", "grep -Po 'VmHWM:\\s*\\K[0-9]+' /proc/"+pid+"/status"), &peak)
	if g.T.Logf("it had %d MB at most", peak>>10); peak == 0 || peak > ceiling {
		g.T.Errorf("it had %d kB of memory, more than %d", peak, ceiling)
	}
	g.On("1", "systemctl stop attacker-local; rm -rf /srv/app")
}

// largeArguments: jobs with a megabyte of arguments each are kept as what can be listed.
func largeArguments(g *ground) {
	const file = "/var/app/current/cron.yaml"
	g.On("1", "cp -p "+file+" /run/cron.yaml; (echo 'x-a: &a '$(head -c 60000 /dev/zero | tr '\\0' a); echo cron:; echo \"- {name: large, schedule: '@every 1s', overlap: allow, retries: 1, on: all, command: [/bin/true, $(yes '*a,' | head -n 20 | tr -d '\\n') b]}\") >"+file+".new && mv "+file+".new "+file+" && agent reload")
	g.waits("test $(agent cron history -n 1000 | grep -c large) -ge 5")
	g.On("1", "cp -p /run/cron.yaml "+file+" && agent reload && agent ps --all -n 1000 --json | wc -c && agent cron history -n 1000 | wc -c")
	g.waits("test $(du -sk /var/lib/agent | cut -f1) -lt 60000")
}

// applicationsPlace: what leads to the application, and what says how it runs, is root's.
func applicationsPlace(g *ground) {
	for _, script := range []string{"mv /var/app/current /var/app/other", "ln -sfn / /var/app/current2", "mkdir /var/app/staging",
		"echo x >>/opt/elasticbeanstalk/deployment/env", "mkdir /etc/systemd/system/web.service.d", "echo 1 >/var/pids/web.pid", "touch /etc/agent/agent.yaml",
		"echo x >>/etc/nginx/conf.d/elasticbeanstalk/00_application.conf", "ln -s / /run/agent/drain", "touch /run/agent/drain"} {
		g.gets("webapp", "what is root's", script)
	}
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
	// A client gives up on an agent that has not answered for three seconds, as on a small machine it may not here.
	g.waits("cp -p /run/cron.yaml " + file + " && agent reload")
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

// filesOfRoot: what root alone may look at is no answer to a question of the application's.
func filesOfRoot(g *ground) {
	const file = "/var/app/current/cron.yaml"
	g.On("1", "cp -p "+file+" /run/cron.yaml; mkdir -p -m 700 /root/hidden; install -m 755 /bin/true /root/hidden/there")
	said := map[string]string{}
	for _, name := range []string{"there", "absent"} {
		g.On("1", "printf 'cron:\n- {name: probe, schedule: \"@daily\", command: [/root/hidden/"+name+"], on: all}\n- {name: tell, schedule: \"@every 1s\", command: \"true\", on: all}\n' >"+file+".new && mv "+file+".new "+file+"; agent reload || :")
		said[name] = g.On("1", "agent cron list 2>&1 | grep -c tell || :")
		g.On("1", "cp -p /run/cron.yaml "+file+" && agent reload")
	}
	if said["there"] != said["absent"] {
		g.T.Errorf("of a file that is there: %s; of one that is not: %s", said["there"], said["absent"])
	}
}
