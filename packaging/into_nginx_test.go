package packaging

import (
	"strings"
	"testing"
)

// What puts our location into nginx's configuration during the deployment is not below .platform/nginx.
func TestIntoFindsOurLocationInCommands(t *testing.T) {
	const write = "cat > /var/proxy/staging/nginx/conf.d/elasticbeanstalk/h.conf <<'EOF'\n      %\n      EOF\n"
	command := func(line string) string {
		return "container_commands:\n  01:\n    command: |\n      " + strings.Replace(write, "%", line, 1)
	}
	for name, tt := range map[string]struct{ file, text, want string }{
		"a container command": {".ebextensions/n.config", command("location = /agent-health { return 200; }"), "n.config writes location /agent-health"},
		"a hook":              {".platform/hooks/predeploy/n.sh", "echo 'location /agent-health/ { }' >/etc/nginx/x.conf\n", "n.sh writes location /agent-health"},
		"our other name":      {".platform/confighooks/predeploy/n.sh", "echo 'location @agent_down{}' >/etc/nginx/x.conf\n", "n.sh writes location @agent_down"},
		"another path":        {".ebextensions/n.config", command("location = /agent-healthz { return 200; }"), ""},
		"a comment":           {".platform/hooks/predeploy/n.sh", "# location = /agent-health { }\ncurl localhost/agent-health\n", ""},
	} {
		dir := repository(t, map[string]string{tt.file: tt.text})
		got := aboutNginx(into(t, dir))
		if !strings.Contains(got, tt.want) || exists(dir)(nginxFile) != (tt.want == "") || tt.want == "" && got != "" {
			t.Errorf("%s: %q, want %q; written %v", name, got, tt.want, exists(dir)(nginxFile))
		}
	}
}

// Source: the developer guide's environment manifest, and its configuration of Apache.
func TestIntoNamesApacheElsewhere(t *testing.T) {
	const manifest = "AWSConfigurationTemplateVersion: 1.1.0.0\nOptionSettings:\n  aws:elasticbeanstalk:environment:proxy:\n    ProxyServer: "
	for name, tt := range map[string]struct {
		file, text, want string
		written          bool
	}{
		"the manifest":        {"env.yaml", manifest + "apache\n", "env.yaml sets ProxyServer to apache", false},
		"nginx there":         {"env.yaml", manifest + "nginx\n", "", true},
		"Apache's own folder": {".platform/httpd/conf.d/a.conf", "ProxyPass / http://localhost:8080/\n", ".platform/httpd configures Apache", true},
	} {
		dir := repository(t, map[string]string{tt.file: tt.text})
		got := aboutNginx(into(t, dir))
		if !strings.Contains(got, tt.want) || exists(dir)(nginxFile) != tt.written || tt.want == "" && got != "" {
			t.Errorf("%s: %q, want %q; written %v", name, got, tt.want, exists(dir)(nginxFile))
		}
	}
}

// nginx asked with the Host 10.0.0.1 answers from such a server, not from the default one.
func TestIntoNamesAServerForAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"server { listen 80; server_name ~^[0-9.]+$; return 444; }":                           "conf.d/ip.conf:1, a server whose name",
		"server {\n  listen 80;\n  server_name ~^\\d+\\.\\d+\\.\\d+\\.\\d+$;\n return 403; }": "conf.d/ip.conf:1, a server whose name",
		"server { listen 80; server_name ~^www\\d+\\.example\\.com$; return 444; }":           "",
		"server { listen 8080; server_name ~^[0-9.]+$; return 444; }":                         "",
	} {
		dir := repository(t, map[string]string{nginxDir + "/conf.d/ip.conf": text})
		if got := aboutNginx(into(t, dir)); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
