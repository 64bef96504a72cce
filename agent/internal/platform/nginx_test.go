package platform

import (
	"os"
	"testing"
	"time"
)

// What nginx does with a check, by the configuration that it was started with; of an instance without an nginx.conf by
// the files that Beanstalk's own includes.
func TestCheckByNginxsConfiguration(t *testing.T) {
	const own, file = "/etc/nginx/nginx.conf", "/etc/nginx/conf.d/elasticbeanstalk/00_application.conf"
	const beanstalk = "http { server { listen 80 default_server; include conf.d/elasticbeanstalk/*.conf; } }"
	const ours = "location = /agent-health { proxy_pass http://unix:/run/agent/health.sock; }\n"
	for name, tt := range map[string]struct {
		files map[string]string
		want  Check
	}{
		"nothing":          {nil, Check{}},
		"ours":             {map[string]string{own: beanstalk, file: ours}, Check{Known: true, To: "http://unix:/run/agent/health.sock"}},
		"no nginx.conf":    {map[string]string{file: ours}, Check{Known: true, To: "http://unix:/run/agent/health.sock"}},
		"earlier":          {map[string]string{own: beanstalk, file: "location = /health { proxy_pass http://127.0.0.1:8127; }"}, Check{Known: true}},
		"in another":       {map[string]string{own: "http { server { listen 80; return 444; } server { listen 80; " + ours + "} }"}, Check{Known: true, Before: "nginx.conf:1 (return)"}},
		"a redirect first": {map[string]string{own: beanstalk, file: ours + "if ($scheme = http) { return 301 https://x; }"}, Check{Known: true, To: "http://unix:/run/agent/health.sock", Before: "conf.d/elasticbeanstalk/00_application.conf:2 (if)"}},
	} {
		if got := (host{Options{Root: tree(t, tt.files)}}).nginx().Check("/agent-health"); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", name, got, tt.want)
		}
	}
}

// What is read once is not read again, until nginx would read anything else: whatever is changed, by whatever way.
func TestNginxIsReadAgainWhenItChanges(t *testing.T) {
	const own, dir = "/etc/nginx/nginx.conf", "/etc/nginx/conf.d/elasticbeanstalk/"
	const server = "http { server { listen 80; include conf.d/elasticbeanstalk/*.conf; include absent/*; include gone; } }"
	pass := func(port string) string { return "location / { proxy_pass http://127.0.0.1:" + port + "; }" }
	root := tree(t, map[string]string{own: server, dir + "a.conf": pass("8000"), "/etc/nginx/b": pass("8001")})
	path := func(name string) string { return host{Options{Root: root}}.path(name) }
	age := func(names ...string) { // as if written a while ago
		t.Helper()
		for i, name := range names {
			at := time.Now().Add(-time.Hour + time.Duration(i)*time.Second)
			if err := os.Chtimes(path(name), at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, text string) { t.Helper(); must(os.WriteFile(path(name), []byte(text), 0o600)) }
	all := []string{own, dir + "a.conf", dir, "/etc/nginx", "/etc/nginx/b"}
	i := NewInstance(t.Context(), Options{Root: root})
	port := func(want int) {
		t.Helper()
		if got := i.Nginx().Passes().Port; got != want {
			t.Errorf("port %d, want %d", got, want)
		}
	}
	port(8000)
	write(dir+"a.conf", pass("8002"))
	port(8002) // in the same moment, with the same length
	age(all...)
	port(8002)
	before := &i.Nginx().conf[0]
	if again := &i.Nginx().conf[0]; again != before {
		t.Error("read again, and nothing has changed")
	}
	for _, step := range []struct {
		change func()
		want   int
	}{
		{func() { write(dir+"a.conf", pass("8003")) }, 8003},
		{func() { must(os.Remove(path(dir + "a.conf"))) }, 0},
		{func() { write(dir+"c.conf", pass("8004")) }, 8004},
		{func() { must(os.Rename(path("/etc/nginx/b"), path(dir+"c.conf"))) }, 8001},
		{func() {
			write("/etc/nginx/d", pass("8005"))
			age("/etc/nginx/d")
			must(os.Remove(path(dir + "c.conf")))
		}, 0},
		{func() { must(os.Symlink("../../d", path(dir+"e.conf"))) }, 8005},
		{func() { write("/etc/nginx/d", pass("8006")) }, 8006},
		{func() { must(os.Remove(path(dir + "e.conf"))); must(os.Mkdir(path("/etc/nginx/absent"), 0o700)) }, 0},
		{func() { write("/etc/nginx/absent/f", pass("8007")) }, 8007},
		{func() { must(os.Remove(path("/etc/nginx/absent/f"))); write("/etc/nginx/gone", pass("8008")) }, 8008},
		{func() { must(os.Remove(path(own))) }, 0},
	} {
		for _, name := range append(all, dir+"c.conf", "/etc/nginx/d", "/etc/nginx/absent") {
			if _, err := os.Lstat(path(name)); err == nil {
				age(name)
			}
		}
		i.Nginx()
		step.change()
		port(step.want)
	}
}
