package nginxconf

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"beanstalk-agent/packaging/testbed/gotool"
)

// shown is a configuration in one line.
func shown(list []Directive) string {
	var out []string
	for _, d := range list {
		s := fmt.Sprintf("%q", append([]string{d.Name}, d.Args...))
		if d.Block != nil {
			s += "{" + shown(d.Block) + "}"
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

// Source: ngx_conf_read_token of nginx 1.22; each accepted row was given to nginx -t inside a server, by TestNginxAgrees.
var grammar = []struct{ text, want string }{
	{"location = /health { return 200; }", `["location" "=" "/health"]{["return" "200"]}`},
	{"location =/health{return 200;}", `["location" "=/health"]{["return" "200"]}`},
	{"location = \"/health\" {}", `["location" "=" "/health"]{}`},
	{"location\n=\t'/health' { # } not the end\n return 200 'a;b{c}\\'d'; }", `["location" "=" "/health"]{["return" "200" "a;b{c}'d"]}`},
	{"set $a ${host}x; set $b a#b;", `["set" "$a" "${host}x"] ["set" "$b" "a#b"]`},
	{"if ($http_x ~ \"^(\\d{4})-x$\") { set $y $1; }", `["if" "($http_x" "~" "^(\\d{4})-x$" ")"]{["set" "$y" "$1"]}`},
	{"rewrite ^/a\\.b$ /c last;", `["rewrite" "^/a\\.b$" "/c" "last"]`},
	{"# location = /health {\n", ""},
}

func TestParse(t *testing.T) {
	for _, tt := range grammar {
		got, err := Parse("x.conf", tt.text)
		if shown(got) != tt.want || err != nil {
			t.Errorf("%s\n got %s, %v\nwant %s", tt.text, shown(got), err, tt.want)
		}
	}
	for text, want := range map[string]string{
		"a 1;\nlocation / {\n b 2;\n": "x.conf:4: the file ends",
		"a 1; }":                      `x.conf:1: unexpected "}"`,
		"a \"b":                       "x.conf:1: a quote is not closed",
		"a \"b\"c;":                   "x.conf:1: unexpected 'c' after a quote",
		"a":                           "x.conf:1: the file ends",
		";":                           "x.conf:1: unexpected ';'",
		strings.Repeat("a {", 100):    "blocks in too many",
	} {
		got, err := Parse("x.conf", text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
		if strings.HasPrefix(text, "a 1;") && (len(got) == 0 || got[0].Name != "a") {
			t.Errorf("%q: lost what is before the fault: %v", text, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, tt := range grammar {
		f.Add(tt.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, _ := Parse("x", text)
		for _, d := range Find(list, "server") {
			Passes(list, d)
		}
		DefaultServer(list)
		Takes(list, "/a", "b")
		Before(list, "/a")
	})
}

func tree(files ...string) *Tree {
	m := fstest.MapFS{}
	for i := 0; i < len(files); i += 2 {
		m[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	return &Tree{FS: m, Root: "/etc/nginx"}
}

// beanstalk is nginx.conf as the platform has it, reduced.
const beanstalk = "http { include conf.d/*.conf; server { listen 80 default_server; include conf.d/elasticbeanstalk/*.conf; } }"

const app = "conf.d/elasticbeanstalk/00_application.conf"

// Where requests go: for each shape the right value is what nginx does, by its documentation of location, try_files,
// upstream and proxy_pass.
func TestPasses(t *testing.T) {
	const upstream = "upstream nodejs { server 127.0.0.1:8081; keepalive 256; }"
	for name, tt := range map[string]struct {
		files []string
		want  Target
	}{
		"as the platform":            {[]string{app, "location / { proxy_pass http://127.0.0.1:8000; }"}, Target{Protocol: "http", Port: 8000}},
		"a websocket first":          {[]string{app, "location /ws { proxy_pass http://127.0.0.1:9001; } location / { proxy_pass http://localhost:8000/; }"}, Target{Protocol: "http", Port: 8000}},
		"a websocket, other file":    {[]string{"conf.d/elasticbeanstalk/00_a.conf", "location /ws { proxy_pass http://127.0.0.1:9001; }", app, "location / { proxy_pass http://127.0.0.1:8000; }"}, Target{Protocol: "http", Port: 8000}},
		"upstream by name":           {[]string{"conf.d/up.conf", upstream, app, "location / { proxy_pass http://nodejs; }"}, Target{Protocol: "http", Port: 8081}},
		"upstream after its use":     {[]string{"conf.d/elasticbeanstalk/a.conf", "location / { proxy_pass http://nodejs/x; }", "conf.d/z.conf", upstream}, Target{Protocol: "http", Port: 8081}},
		"upstream of a socket":       {[]string{"conf.d/up.conf", "upstream my_app { server unix:///var/run/puma/my_app.sock; }", app, "location / { proxy_pass http://my_app; }"}, Target{Protocol: "http", Socket: "/var/run/puma/my_app.sock"}},
		"a socket":                   {[]string{app, "location / { proxy_pass http://unix:/run/app.sock:/; }"}, Target{Protocol: "http", Socket: "/run/app.sock"}},
		"backup and down":            {[]string{"conf.d/up.conf", "upstream a { server 127.0.0.1:1 down; server 127.0.0.1:2 backup; server 127.0.0.1:3; }", app, "location / { proxy_pass http://a; }"}, Target{Protocol: "http", Port: 3}},
		"two servers":                {[]string{"conf.d/up.conf", "upstream a { server 127.0.0.1:2; server 127.0.0.1:3; }", app, "location / { proxy_pass http://a; }"}, Target{Protocol: "http", Port: 2, Doubt: "upstream a has 2 servers"}},
		"files first":                {[]string{app, "location / { try_files $uri @app; } location @app { proxy_pass http://127.0.0.1:3000; }"}, Target{Protocol: "http", Port: 3000}},
		"location within":            {[]string{app, "location / { location / { proxy_pass http://127.0.0.1:3001; } location ~ x { proxy_pass http://127.0.0.1:1; } }"}, Target{Protocol: "http", Port: 3001}},
		"an include in a location":   {[]string{"sub.inc", "proxy_pass http://127.0.0.1:3002;", app, "location / { include /etc/nginx/sub.inc; }"}, Target{Protocol: "http", Port: 3002}},
		"php":                        {[]string{app, "location / { try_files $uri $uri/ /index.php?$query_string; } location ~ \\.php$ { fastcgi_pass unix:/run/php-fpm/www.sock; }"}, Target{Protocol: "fastcgi", Socket: "/run/php-fpm/www.sock"}},
		"a variable":                 {[]string{app, "location / { proxy_pass http://$backend; }"}, Target{Protocol: "http", Doubt: "proxy_pass has a variable: http://$backend"}},
		"another host":               {[]string{app, "location / { proxy_pass http://172.17.0.2:8000; }"}, Target{Protocol: "http", Doubt: "requests go to 172.17.0.2:8000, which is not an address of this host's own"}},
		"no port":                    {[]string{app, "location / { proxy_pass http://127.0.0.1; }"}, Target{Protocol: "http", Port: 80}},
		"IPv6":                       {[]string{app, "location / { proxy_pass http://[::1]:8000; }"}, Target{Protocol: "http", Port: 8000}},
		"in a comment":               {[]string{app, "# location / { proxy_pass http://127.0.0.1:1; }\nlocation / { proxy_pass http://127.0.0.1:2; }"}, Target{Protocol: "http", Port: 2}},
		"files first, of the server": {[]string{app, "try_files $uri/index.html $uri @app; location @app { proxy_pass http://127.0.0.1:3000; }"}, Target{Protocol: "http", Port: 3000}},
		"an expression for all":      {[]string{app, "location ~ \\.css$ { root /x; } location ~ ^/(.*)$ { proxy_pass http://127.0.0.1:3000; }"}, Target{Protocol: "http", Port: 3000}},
		"an expression before /":     {[]string{app, "location / { proxy_pass http://127.0.0.1:8000; } location ~* ^/ { proxy_pass http://127.0.0.1:3000; }"}, Target{Protocol: "http", Port: 3000}},
		"^~ keeps expressions off":   {[]string{app, "location ^~ / { proxy_pass http://127.0.0.1:8000; } location ~ ^/ { proxy_pass http://127.0.0.1:3000; }"}, Target{Protocol: "http", Port: 8000}},
		"a variable in the path":     {[]string{app, "location / { proxy_pass http://127.0.0.1:3000$request_uri; }"}, Target{Protocol: "http", Port: 3000}},
		"a variable within the path": {[]string{app, "location ~ ^/(.*)$ { proxy_pass http://127.0.0.1:3000/v1/$1; }"}, Target{Protocol: "http", Port: 3000}},
		"a variable as the port":     {[]string{app, "location / { proxy_pass http://127.0.0.1:$port; }"}, Target{Protocol: "http", Doubt: "proxy_pass has a variable: http://127.0.0.1:$port"}},
		"a variable for all of it":   {[]string{app, "location / { proxy_pass $to; }"}, Target{Protocol: "http", Doubt: "proxy_pass has a variable: $to"}},
		"names in a circle":          {[]string{app, "location / { try_files $uri @a; } location @a { try_files $uri @a; }"}, Target{Doubt: "no location / sends requests on"}},
		"nothing":                    {nil, Target{Doubt: "no location / sends requests on"}},
	} {
		conf, err := tree(append(tt.files, "nginx.conf", beanstalk)...).Read("nginx.conf")
		server, ok := DefaultServer(conf)
		if err != nil || !ok {
			t.Fatalf("%s: %v", name, err)
		}
		got := Passes(conf, server)
		if at := got.At; tt.want.Protocol != "" && !strings.Contains(at, ".conf:") && at != "sub.inc:1" {
			t.Errorf("%s: at %q", name, at)
		}
		if got.At = ""; got != tt.want {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, tt.want)
		}
	}
}

// Source: nginx's "How nginx processes a request".
func TestDefaultServer(t *testing.T) {
	for conf, want := range map[string]string{
		"http { server { listen 80; server_name a; } server { listen 80 default_server; server_name b; } }":                                           "b",
		"http { server { listen 80; server_name a; } server { listen 80; server_name b; } }":                                                          "a",
		"http { server { listen 443 ssl default_server; server_name a; } server { listen [::]:80; server_name b; } }":                                 "b",
		"http { server { listen 127.0.0.1; server_name a; } }":                                                                                        "a",
		"http { server { server_name a; } }":                                                                                                          "a",
		"http { upstream u { server 127.0.0.1:80; } server { listen *:80 default; server_name b; } }":                                                 "b",
		"http { server { listen 80; server_name ~^\\d+\\.\\d+\\.; return 444; server_name a; } server { listen 80 default_server; server_name b; } }": "~^\\d+\\.\\d+\\.",
		"http { server { listen 80; server_name www.example.com ~^www\\d*\\.example\\.com$; } server { listen 80 default_server; server_name b; } }":  "b",
		"http { server { listen unix:/run/x.sock; server_name a; } server { listen 8080; } }":                                                         "",
	} {
		list, err := Parse("x", conf)
		s, _ := DefaultServer(list)
		name, _ := First(s.Block, "server_name")
		if err != nil || name.Arg(0) != want {
			t.Errorf("%s: %q, %v, want %q", conf, name.Arg(0), err, want)
		}
	}
}

// What answers a load balancer's check before its location: a check has no X-Forwarded-Proto.
func TestBefore(t *testing.T) {
	for text, want := range map[string]bool{
		"return 301 https://$host$request_uri;":                                                     true,
		"if ($http_x_forwarded_proto = 'http') { return 301 https://$host$request_uri; }":           false,
		"if ($http_x_forwarded_proto ~* \"http$\") { return 301 https://$host$request_uri; }":       false,
		"if ($http_cloudfront_forwarded_proto = \"http\") { return 301 https://x; }":                false,
		"if ($http_x_forwarded_proto != 'https') { return 301 https://$host$request_uri; }":         true,
		"if ($http_x_forwarded_proto = '') { return 301 https://$host$request_uri; }":               true,
		"if ($http_x_forwarded_proto !~ https) { rewrite ^ https://$host$request_uri? permanent; }": true,
		"if ($scheme = http) { return 301 https://$host$request_uri; }":                             true,
		"if ($host !~ ^(www.example.com)$) { return 444; }":                                         true,
		"if ($time_iso8601 ~ \"^(\\d{4})\") { set $year $1; }":                                      false,
		"rewrite ^/api/(.*)$ /v1/$1 last;":                                                          false,
		"rewrite ^/(?!v1)(.*)$ /v1/$1 last;":                                                        true, // Go cannot read it
		"rewrite ^ https://www.example.com$request_uri? permanent;":                                 true,
		"auth_request /auth;": true,
		"auth_request off; location / { return 301 /x; } location /agent-health/ { rewrite ^ /x; }": false,
	} {
		list, err := Parse("x", text)
		if got := Before(list, "/agent-health"); err != nil || len(got) > 0 != want {
			t.Errorf("%s: %v, %v, want %v", text, got, err, want)
		}
	}
}

func TestTakes(t *testing.T) {
	const text = "location = /agent-health { } location ^~ /agent-health/ { } location ~ ^/agent\\-health$ { } location @agent_down { }" +
		"location /health { } location = /agent-healthz { } location @other { } location / { location '/agent-health' { } }"
	list, err := Parse("x", text)
	var got []string
	for _, l := range Takes(list, "/agent-health", "agent_down") {
		got = append(got, l.Kind+l.Path)
	}
	if want := []string{"=/agent-health", "^~/agent-health/", `~^/agent\-health$`, "@agent_down", "/agent-health"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestTreeIsLimited(t *testing.T) {
	loop := tree("nginx.conf", "include nginx.conf; a 1;")
	if list, err := loop.Read("nginx.conf"); err != nil || len(Find(list, "a")) != maxDepth+1 {
		t.Errorf("a file that includes itself: %d, %v", len(Find(list, "a")), err)
	}
	large := tree("nginx.conf", strings.Repeat("#", maxFile+1))
	if _, err := large.Read("nginx.conf"); err == nil {
		t.Error("a file larger than the limit is read")
	}
	files := []string{"nginx.conf", "include conf.d/*.conf; include conf.d/.hidden*; include /usr/share/x.conf; include ../x;"}
	for i := range 20 {
		files = append(files, fmt.Sprintf("conf.d/%02d.conf", i), "a 1;"+strings.Repeat("#", maxFile-10))
	}
	files = append(files, "conf.d/.b.conf", "b 1;", "conf.d/.hidden.conf", "c 1;")
	list, err := tree(files...).Read("nginx.conf")
	if n := len(Find(list, "a")); err != nil || n < 3 || n > 4 || len(Find(list, "b")) != 0 {
		t.Errorf("20 large files: %d, %v", n, err)
	}
}

// The outside judge: nginx itself accepts each row of grammar in a server.
func TestNginxAgrees(t *testing.T) {
	if _, err := exec.LookPath("nginx"); err != nil {
		gotool.Need(t, "nginx (Debian: nginx-light)")
	}
	for _, tt := range grammar {
		dir := t.TempDir()
		conf := "error_log stderr; pid nginx.pid; events {} http { access_log off; server { listen 127.0.0.1:1;\n" + tt.text + "\n} }"
		if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("nginx", "-t", "-p", dir, "-c", "nginx.conf", "-e", "stderr").CombinedOutput()
		if err != nil && !strings.Contains(string(out), "syntax is ok") {
			t.Errorf("%s\n%s", tt.text, out)
		}
	}
}
