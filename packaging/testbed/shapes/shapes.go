// Package shapes has nginx configurations of applications in the shapes that public repositories have, to be deployed
// with the agent's location beside them: no file of ours may take a site down, or answer in place of a check that was
// there.
package shapes

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Shape is one application's .platform/nginx, and what becomes of it with the agent.
type Shape struct {
	Name  string
	Files map[string]string // below .platform/nginx; the application listens on 127.0.0.1:8000, another server on 9001

	Note    string // of install --into, "" for none about nginx
	Refused bool   // our file is not written
	ByAgent bool   // the agent answers a load balancer's check of /agent-health
	Status  int    // else: what answers it; 0: no answer
	Fault   string // else: what agent health --as-load-balancer says

	Health int // what answers /health, as before the agent; 0: the application
}

const (
	elastic = "conf.d/elasticbeanstalk/"
	proxied = "proxy_http_version 1.1;\n    proxy_set_header Host $host;\n    proxy_set_header Connection $connection_upgrade;\n" +
		"    proxy_set_header Upgrade $http_upgrade;\n"
	http = `user nginx;
error_log /var/log/nginx/error.log warn;
pid /var/run/nginx.pid;
worker_processes auto;
events { worker_connections 1024; }
http {
    include mime.types;
    log_format main '$remote_addr "$request" $status';
    log_format healthd '$msec"$uri"$status"$request_time"$upstream_response_time"$http_x_forwarded_for';
    include conf.d/*.conf;
    map $http_upgrade $connection_upgrade { default "upgrade"; }
`
	toApp = "    location / {\n    proxy_pass http://127.0.0.1:8000;\n    " + proxied + "    }\n"
)

// All are the shapes. In brackets: public repositories with one like it.
var All = []Shape{
	{Name: "health location, exact", ByAgent: true, Health: 204,
		Files: map[string]string{elastic + "health.conf": "location = /health {\n    access_log off;\n    return 204;\n}\n"}},
	{Name: "health location, prefix", ByAgent: true, Health: 202, // a check of it is green before any step, and stays so
		Files: map[string]string{elastic + "health.conf": "location /health { return 202 'alive'; }\n"}},

	{Name: "own nginx.conf with the include", ByAgent: true, // [DEV-MUGLES/pickk-server]
		Files: map[string]string{"nginx.conf": http + "    server {\n    listen 80 default_server;\n    access_log /var/log/nginx/access.log main;\n" +
			"    # Include the Elastic Beanstalk generated locations\n    include conf.d/elasticbeanstalk/*.conf;\n    }\n}\n"}},
	{Name: "own nginx.conf without the include", Note: "does not include our location", Status: 400, // [COW-dev/ddingdong-be]
		Fault: "no location of nginx sends", Files: map[string]string{"nginx.conf": http + "    upstream springboot { server 127.0.0.1:8000; keepalive 64; }\n" +
			"    server {\n    listen 80 default_server;\n    # include conf.d/elasticbeanstalk/*.conf;\n    include conf.d/elasticbeanstalk/healthd.conf;\n" +
			"    location / {\n    proxy_pass http://springboot;\n    " + proxied + "    }\n    }\n}\n"}},
	{Name: "the include in another server", Note: "does not include our location", Status: 0,
		Fault: "without an answer", Files: map[string]string{"nginx.conf": http + "    server { listen 80 default_server; server_name _; return 444; }\n" +
			"    server {\n    listen 80;\n    server_name www.example.com;\n    include conf.d/elasticbeanstalk/*.conf;\n    }\n}\n"}},

	{Name: "a server named for addresses", Note: "a server whose name is an expression", Status: 0, Fault: "without an answer",
		Files: map[string]string{"conf.d/ip.conf": "server {\n    listen 80;\n    server_name ~^[0-9.]+$;\n    return 444;\n}\n"}},

	{Name: "upstream by name, in another file", ByAgent: true, // [kleros/ipfs-proxy]
		Files: map[string]string{"conf.d/upstream.conf": "upstream app_server {\n    server 127.0.0.1:8000;\n    keepalive 32;\n}\n",
			elastic + "00_application.conf": "location / {\n    proxy_pass http://app_server;\n    " + proxied + "}\n"}},
	{Name: "websocket first", ByAgent: true,
		Files: map[string]string{elastic + "00_application.conf": "location /ws/ {\n    proxy_pass http://127.0.0.1:9001;\n    " + proxied + "}\n" + toApp}},

	{Name: "password, addresses and limits", ByAgent: true,
		Files: map[string]string{
			"conf.d/zones.conf": "limit_req_zone $binary_remote_addr zone=requests:1m rate=1r/m;\nlimit_conn_zone $binary_remote_addr zone=connections:1m;\n",
			// user "site", password "site"
			elastic + "htpasswd": "site:{PLAIN}site\n",
			elastic + "00_application.conf": "limit_req zone=requests burst=2 nodelay;\nlimit_conn connections 1;\nauth_basic \"Staging\";\n" +
				"auth_basic_user_file conf.d/elasticbeanstalk/htpasswd;\ndeny 10.0.0.0/8;\ndeny 127.0.0.2;\n" + toApp}},
	{Name: "error pages that are a success", ByAgent: true,
		Files: map[string]string{elastic + "errors.conf": "proxy_intercept_errors on;\nrecursive_error_pages on;\nerror_page 404 500 502 503 504 =200 /sorry.html;\n" +
			"open_file_cache max=100 inactive=1h;\nopen_file_cache_valid 1h;\nopen_file_cache_errors on;\nlocation = /sorry.html { internal; return 200 'sorry'; }\n"}},

	{Name: "redirect of plain http at server level", Note: "may answer a load balancer's check", Status: 301, Fault: "redirects",
		Files: map[string]string{elastic + "00_application.conf": "if ($http_x_forwarded_proto != 'https') {\n    return 301 https://$host$request_uri;\n}\n" + toApp}},
	{Name: "redirect by the balancer's word at server level", ByAgent: true, // [cds-snc/covid-alert-portal]
		Files: map[string]string{elastic + "00_application.conf": "if ($http_x_forwarded_proto = 'http') {\n    return 301 https://$host$request_uri;\n}\n" + toApp}},
	{Name: "redirect inside location /", ByAgent: true, // [stackernews/stacker.news]
		Files: map[string]string{elastic + "00_application.conf": "location / {\n    set $redirect 0;\n    if ($http_x_forwarded_proto != 'https') { set $redirect 1; }\n" +
			"    if ($redirect = 1) { return 301 https://$host$request_uri; }\n    proxy_pass http://127.0.0.1:8000;\n    " + proxied + "}\n"}},

	{Name: "our path taken", Refused: true, Note: "nginx would refuse it there", Status: 204, Fault: "no location of nginx sends",
		Files: map[string]string{elastic + "health.conf": "location =/agent-health{return 204;}\n"}},
	{Name: "a copy of ours under another name", Refused: true, Note: "nginx would refuse it there", Status: 204, Fault: "no location of nginx sends",
		Files: map[string]string{elastic + "health.inc": "location = \"/agent-health\" { error_page 502 = @agent_down; return 204; }\nlocation @agent_down { return 503; }\n",
			elastic + "zz.conf": "include conf.d/elasticbeanstalk/health.inc;\n"}},
	{Name: "our file twice in a server", Refused: true, Note: "twice", Status: 400, Fault: "no location of nginx sends",
		Files: map[string]string{"nginx.conf": http + "    server {\n    listen 80 default_server;\n    include conf.d/elasticbeanstalk/*.conf;\n" +
			"    include conf.d/elasticbeanstalk/a*.conf;\n    " + toApp + "    }\n}\n", elastic + "00_application.conf": "# the location is in nginx.conf\n"}},
}

// Write puts the shape into an application's repository.
func (s Shape) Write(repository string) error {
	for name, text := range s.Files {
		if err := write(filepath.Join(repository, ".platform/nginx", name), text); err != nil {
			return err
		}
	}
	return nil
}

// Deploy lays out dir as Beanstalk lays out nginx's folder: what the platform has, then what the repository has, each
// file edited.
func Deploy(dir, platform, repository string, edit func(text string) string) error {
	for _, from := range []string{platform, filepath.Join(repository, ".platform/nginx")} {
		err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) && path == from || err == nil && !d.Type().IsRegular() {
				return nil
			}
			if err != nil {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return write(filepath.Join(dir, strings.TrimPrefix(path, from)), edit(string(text)))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}
