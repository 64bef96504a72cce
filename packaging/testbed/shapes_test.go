package testbed

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"beanstalk-agent/packaging/testbed/boxed"
	"beanstalk-agent/packaging/testbed/shapes"
)

// TestShapesInABox deploys applications with nginx configurations as public repositories have them, one after the
// other, each with what agent install --into writes beside them and nothing set of the application's port. Each
// deployment runs nginx -t over the result. Then the site is up, the agent's verdict is right, and where checks do not
// come to the agent the installer has said so. The others, and these, are asked for behind an nginx without a box in
// TestShapesBehindNginx of agent/internal/health; SHAPES=all deploys all of them here.
func TestShapesInABox(t *testing.T) {
	b := newBox(t, "shapes")
	dir := b.App("1.0.0")
	edit(t, dir, ".ebextensions/agent-yaml.config", "        target: http://127.0.0.1:8000/health\n", "")
	b.Do("up", dir)
	b.On("1", "systemd-run --quiet --unit=websockets /usr/bin/python3 -m http.server --bind 127.0.0.1 9001")
	inBox := []string{"health location, exact", "health location, prefix", "own nginx.conf with the include",
		"own nginx.conf without the include", "upstream by name, in another file", "websocket first",
		"password, addresses and limits", "redirect of plain http at server level"}
	if os.Getenv("SHAPES") == "all" {
		inBox = nil
	}
	for _, s := range shapes.All {
		if inBox != nil && !slices.Contains(inBox, s.Name) {
			continue
		}
		t.Run(s.Name, func(t *testing.T) { b.shape(t, dir, s) })
	}
}

func (b *box) shape(t *testing.T, dir string, s shapes.Shape) {
	outer := b.T
	b.T = t
	defer func() { b.T = outer }()
	if err := os.RemoveAll(filepath.Join(dir, ".platform/nginx")); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(dir); err != nil {
		t.Fatal(err)
	}
	said, err := exec.Command(boxed.AgentOf(t, "1.0.0"), "install", "--into", dir).CombinedOutput()
	if err != nil || !strings.Contains(string(said), s.Note) {
		t.Errorf("install --into: %v, want %q in\n%s", err, s.Note, said)
	}
	b.On("1", "rm -rf /etc/nginx/conf.d") // a deployment removes no file there
	b.Do("deploy", dir)
	wait(t, "the site to be up", func() bool {
		return b.Holds("1", "curl -sf -o /dev/null -u site:site -H 'Host: www.example.com' -H 'X-Forwarded-Proto: https' http://127.0.0.1/")
	})
	var report string
	wait(t, "what agent health --as-load-balancer is to say", func() bool {
		report, _ = b.Try("exec", "1", "agent", "health", "--as-load-balancer", "--json")
		return b.right(report, s)
	})
	if t.Failed() {
		t.Log(report)
	}
	if !s.ByAgent {
		return
	}
	b.On("1", "systemctl stop web")
	wait(t, "a failure while the application is down", func() bool {
		return b.On("1", "curl -s -o /dev/null -w '%{http_code}' -A ELB-HealthChecker/2.0 -H 'Host: 10.0.0.5' http://127.0.0.1/agent-health") == "503"
	})
	b.On("1", "systemctl start web")
}

// right reports whether each load balancer was answered as the shape says, and with its reason.
func (b *box) right(report string, s shapes.Shape) bool {
	var r struct {
		Safe bool
		Asks []struct {
			Status  int
			ByAgent bool `json:"by_agent"`
			Fault   string
		}
	}
	if json.Unmarshal([]byte(report), &r) != nil || r.Safe != s.ByAgent || len(r.Asks) != 4 {
		return false
	}
	for _, a := range r.Asks {
		if a.ByAgent != s.ByAgent || !s.ByAgent && (a.Status != s.Status || !strings.Contains(a.Fault, s.Fault)) {
			return false
		}
	}
	return true
}
