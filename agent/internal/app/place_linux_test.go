package app

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/platform"
)

// instance is a Beanstalk instance below a directory; its web process is this one.
func instance(t *testing.T, files map[string]string) *App {
	t.Helper()
	root := t.TempDir()
	pid := strconv.Itoa(os.Getpid())
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{"opt/elasticbeanstalk/deployment/env": "A=b\n", "etc/systemd/system/web.service": "[Service]\nUser=webapp\n",
		"sys/fs/cgroup/system.slice/web.service/cgroup.procs": pid + "\n", "proc/" + pid + "/stat": string(stat),
		"etc/nginx/nginx.conf": "http { include conf.d/*.conf; server { listen 80 default_server; include conf.d/elasticbeanstalk/*.conf; } }"}
	for name, text := range files {
		all[name] = text
	}
	for name, text := range all {
		name = filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	inst := platform.NewInstance(t.Context(), platform.Options{Root: root})
	return &App{cfg: Config{Page: "/health"}, inst: inst, env: appenv.New(appenv.Config{Beanstalk: true, Root: root})}
}

func listen(t *testing.T) (port int, close func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().(*net.TCPAddr).Port, func() { ln.Close() }
}

// The application is where the web process listens, and the site's requests go. A file of nginx's has other ports too:
// that of a websocket answered 200 while the site was 502.
func TestApplicationIsWhereItsProcessListens(t *testing.T) {
	const file, up = "etc/nginx/conf.d/elasticbeanstalk/00_application.conf", "etc/nginx/conf.d/up.conf"
	web, stop := listen(t)
	passes := func(port int) string { return fmt.Sprintf("proxy_pass http://127.0.0.1:%d;", port) }
	for name, tt := range map[string]struct {
		files   map[string]string
		want    string // with the web process up
		stopped string // and while it is down
		doubt   string
	}{
		"websocket first": {map[string]string{file: "location /ws { " + passes(9001) + " } location / { " + passes(web) + " }"}, "", "", ""},
		"upstream in another file": {map[string]string{file: "location / { proxy_pass http://app; }", up: fmt.Sprintf("upstream app { server 127.0.0.1:%d; }", web)},
			"", "", ""},
		"nginx asks elsewhere":   {map[string]string{file: "location / { " + passes(9001) + " }"}, "", "http://127.0.0.1:9001", "nginx sends requests to port 9001 (conf.d/elasticbeanstalk/00_application.conf:1)"},
		"nginx cannot be read":   {map[string]string{file: "location / { proxy_pass http://$backend; }"}, "", "http://127.0.0.1:8000", ""},
		"nginx asks at a socket": {map[string]string{file: "location / { proxy_pass http://unix:/run/app.sock; }"}, "unix:/run/app.sock:", "unix:/run/app.sock:", ""},
		"PORT": {map[string]string{file: "location / { proxy_pass http://$backend; }", "opt/elasticbeanstalk/deployment/env": "PORT=3000\n"}, "",
			"http://127.0.0.1:3000", ""},
	} {
		a := instance(t, tt.files)
		if tt.want == "" {
			tt.want = fmt.Sprintf("http://127.0.0.1:%d", web)
		}
		if tt.stopped == "" {
			tt.stopped = tt.want
		}
		if got, err := a.Page(t.Context()); got != tt.want+"/health" || err != nil {
			t.Errorf("%s: %q, %v, want %q", name, got, err, tt.want)
		}
		if w := a.Workers(t.Context()); "http://127.0.0.1:"+strconv.Itoa(int(w.Port)) != tt.want && "unix:"+w.Path+":" != tt.want {
			t.Errorf("%s: figures are of %+v, want %s", name, w, tt.want)
		}
		if lines := fmt.Sprint(a.addressLines(t.Context())); !strings.Contains(lines, tt.doubt) || tt.doubt == "" && lines != "[]" {
			t.Errorf("%s: status says %s, want %q", name, lines, tt.doubt)
		}
		a = instance(t, tt.files)
		if err := os.Remove(filepath.Join(a.inst.Root(), "sys/fs/cgroup/system.slice/web.service/cgroup.procs")); err != nil {
			t.Fatal(err)
		}
		if got, err := a.Origin(t.Context()); got != tt.stopped || err != nil {
			t.Errorf("%s, down: %q, %v, want %q", name, got, err, tt.stopped)
		}
	}
	stop()
}

// Of several ports nginx says which is the site's; where it does not, that is said.
func TestApplicationThatListensOnSeveralPorts(t *testing.T) {
	const file = "etc/nginx/conf.d/elasticbeanstalk/00_application.conf"
	one, _ := listen(t)
	two, _ := listen(t)
	for name, tt := range map[string]struct {
		conf  string
		want  int
		doubt string
	}{
		"nginx knows":       {fmt.Sprintf("location / { proxy_pass http://localhost:%d; }", two), two, ""},
		"nginx knows other": {"location / { proxy_pass http://localhost:9001; }", 9001, "the web process listens on ports"},
		"nobody knows":      {"location / { proxy_pass http://$backend; }", 8000, "the web process listens on ports"},
	} {
		a := instance(t, map[string]string{file: tt.conf})
		got, err := a.Origin(t.Context())
		lines := fmt.Sprint(a.addressLines(t.Context()))
		if want := fmt.Sprintf("http://127.0.0.1:%d", tt.want); got != want || err != nil || !strings.Contains(lines, tt.doubt) || tt.doubt == "" && lines != "[]" {
			t.Errorf("%s: %q, %v, status %s; want %s, %q", name, got, err, lines, want, tt.doubt)
		}
		if strings.Contains(tt.doubt, "ports") && !strings.Contains(lines, strconv.Itoa(one)) {
			t.Errorf("%s: %s does not name %d", name, lines, one)
		}
	}
}

// PHP-FPM speaks no HTTP: nothing is asked at a guess, and the way through nginx is named. Figures are of its socket.
func TestPHPHasNoPort(t *testing.T) {
	a := instance(t, map[string]string{"etc/nginx/conf.d/elasticbeanstalk/php.conf": "location / { try_files $uri /index.php?$query_string; }\n" +
		"location ~ \\.php$ { fastcgi_pass unix:/run/php-fpm/www.sock; }\n"})
	if err := os.Remove(filepath.Join(a.inst.Root(), "sys/fs/cgroup/system.slice/web.service/cgroup.procs")); err != nil {
		t.Fatal(err)
	}
	if got, err := a.Page(t.Context()); err == nil || !strings.Contains(err.Error(), "http://127.0.0.1:80/PAGE") {
		t.Errorf("%q, %v", got, err)
	}
	if w := a.Workers(t.Context()); w.Path != "/run/php-fpm/www.sock" {
		t.Errorf("figures are of %+v", w)
	}
	if n := a.Connections(t.Context()); n != 0 { // not those of nginx, which a load balancer keeps open
		t.Errorf("a drain waits for %d connections", n)
	}
}

// A port on which the web process listens is not asked with HTTP where nginx speaks something else to it: uWSGI's own
// protocol waits for the rest of a packet. Figures are of that port.
func TestApplicationThatSpeaksNoHTTP(t *testing.T) {
	for _, pass := range []string{"uwsgi_pass 127.0.0.1:%d", "fastcgi_pass localhost:%d", "grpc_pass grpc://127.0.0.1:%d"} {
		web, stop := listen(t)
		a := instance(t, map[string]string{"etc/nginx/conf.d/elasticbeanstalk/00_application.conf": "location / { " + fmt.Sprintf(pass, web) + "; }"})
		if got, err := a.Page(t.Context()); err == nil || !strings.Contains(err.Error(), "http://127.0.0.1:80/PAGE") {
			t.Errorf("%s: %q, %v", pass, got, err)
		}
		if w := a.Workers(t.Context()); int(w.Port) != web {
			t.Errorf("%s: figures are of %+v, want port %d", pass, w, web)
		}
		stop()
	}
}

// Names to try are hosts with a dot, in any form that settings have, each once.
func TestNames(t *testing.T) {
	a := instance(t, map[string]string{
		"opt/elasticbeanstalk/deployment/env": "ALLOWED_HOSTS=.example.com,www.example.com\nAPP_URL=https://shop.example.com/\nDOMAIN=localhost\n",
		"etc/nginx/conf.d/site.conf":          "server { listen 80; server_name _ *.example.org www.example.com api.example.org; return 301 https://x; }"})
	if got := strings.Join(a.Names(t.Context()), " "); got != "www.example.com shop.example.com api.example.org" {
		t.Errorf("got %q", got)
	}
}
