package platform

import "testing"

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
