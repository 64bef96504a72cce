package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Off Beanstalk the owner of the application's directory is whom its commands run as. Whoever could put another's
// directory in its place, a link in his own home was enough, ran his loaded jobs as its owner: as root, or as any user.
func TestWhoeverOwnsThePathBecomesNobodyElse(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 7 s")
	}
	g := newGround(t)
	const web, victim = 900, 901
	h := &host{t: t, name: "i-00", dir: filepath.Join(g.dir, "i"), agent: filepath.Join(g.dir, "agent")}
	proof := filepath.Join(g.dir, "proof")
	at := func(name string) string { return filepath.Join(h.dir, name) }
	must := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	must(os.Chmod(g.dir, 0o755), os.MkdirAll(at("home/mine"), 0o755), os.Symlink(at("home/current"), at("app")), os.Mkdir(filepath.Join(g.dir, "victims"), 0o755),
		os.WriteFile(proof, nil, 0o666), os.Chmod(proof, 0o666), os.Chown(filepath.Join(g.dir, "victims"), victim, victim))
	h.write("agent.yaml", fmt.Sprintf("state_dir: %s/state\nhealth: {listen: '127.0.0.1:0'}\nmetrics: {send: off}\n", h.dir))
	h.write("clock", "0s")
	h.write("home/mine/cron.yaml", "cron:\n- {name: who, seconds: true, schedule: '* * * * * *', command: 'id -u >>"+proof+"'}\n")
	h.write("home/mine/.env", "PYTHONPATH=/nowhere\n")
	lead := func(to string, uid int) {
		must(os.RemoveAll(at("home/current")), os.Symlink(to, at("home/current")), os.Lchown(at("home/current"), uid, uid))
	}
	own := func(uid int) {
		must(os.Chown(at("home"), uid, uid), os.Chown(at("home/mine"), uid, uid), os.Chown(at("home/mine/cron.yaml"), uid, uid))
		lead(at("home/mine"), uid)
	}
	own(web)
	g.hosts = append(g.hosts, h)
	h.start()
	h.answers()
	runs := func(args ...string) string {
		args = append([]string{"--config", at("agent.yaml"), "--socket", at("s"), "exec"}, args...)
		c := exec.Command(h.agent, args...)
		c.Dir = at("home/mine")
		out, err := c.CombinedOutput()
		if err != nil {
			return fmt.Sprintf("%v: %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	ran := func() int { text, _ := os.ReadFile(proof); return strings.Count(string(text), "\n") }
	logged := func(text string) bool {
		log, _ := os.ReadFile(at("log"))
		return strings.Contains(string(log), text)
	}
	if got := runs("--", "id", "-u"); got != "900" {
		t.Fatalf("runs as %q", got)
	}
	await(t, "the job runs", func() bool { return ran() > 0 })
	for to, as := range map[string]string{"/": "as root, the owner of", filepath.Join(g.dir, "victims"): "as 901, the owner of"} {
		lead(to, web)
		if got := runs("--", "id", "-u"); !strings.Contains(got, "exit status 125") || !strings.Contains(got, as) || !strings.Contains(got, "app.user") {
			t.Errorf("with a link to %s: %q", to, got)
		}
		await(t, "the job is refused", func() bool { return logged(as) })
		if got := status(t, h, at("s")); !strings.Contains(got, as) {
			t.Errorf("status says %s", got)
		}
		lead(at("home/mine"), web)
		if got := runs("--", "id", "-u"); got != "900" {
			t.Errorf("and back: runs as %q", got)
		}
	}
	before := ran()
	await(t, "the job runs again", func() bool { return ran() > before })
	if got := runs("-u", "root", "--", "id", "-u"); !strings.Contains(got, "are not allowed here") || !strings.Contains(got, "--direct --user root") {
		t.Errorf("root runs %q", got)
	}
	for want, args := range map[string][]string{"": nil, "/nowhere": {"--app-env"}} { // without the agent
		args = append(append([]string{"--direct", "-u", "root"}, args...), "--", "sh", "-c", "echo $PYTHONPATH")
		if got := runs(args...); got != want {
			t.Errorf("%q prints %q, want %q", args, got, want)
		}
	}
	if text, _ := os.ReadFile(proof); strings.Trim(string(text), "90\n") != "" {
		t.Errorf("the job ran as %q", text)
	}
	own(victim) // as root may have it: the supervisor's own rule follows
	await(t, "runs as the owner of now", func() bool { return runs("--", "id", "-u") == "901" })
	await(t, "so does the job", func() bool { text, _ := os.ReadFile(proof); return strings.Contains(string(text), "901") })
	h.killed() // its supervisor serves the next agent, and has other rules
	own(web)
	h.start()
	h.answers()
	await(t, "runs as the owner of now, by the supervisor of before", func() bool { return runs("--", "id", "-u") == "900" })
	await(t, "the only supervisor has the rule of now", func() bool { // that of before may take its time to end
		lines := commandLines(t, at("s-supervisor.sock"))
		return strings.Count(lines, "--allow-user") == 1 && strings.Contains(lines, "--allow-user 900") && !strings.Contains(lines, "*") && !strings.Contains(lines, "root")
	})
}

func status(t *testing.T, h *host, socket string) string {
	t.Helper()
	out, err := exec.Command(h.agent, "--config", filepath.Join(h.dir, "agent.yaml"), "--socket", socket, "status").CombinedOutput()
	if err != nil {
		t.Error(err)
	}
	return string(out)
}

// commandLines are those of all processes that have text in theirs.
func commandLines(t *testing.T, text string) string {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, path := range paths {
		if line, err := os.ReadFile(path); err == nil && strings.Contains(string(line), text) {
			lines = append(lines, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return strings.Join(lines, "\n")
}
