package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/config"
)

// The agent's watchdog asks of it all that people ask for, and of the application nothing: without a
// Host, whose refusal some frameworks mail to their administrators, least of all.
func TestWatchdogAsksNoApplication(t *testing.T) {
	dir, err := os.MkdirTemp("", "a") // short: a socket's path may have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "n"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	t.Setenv("NOTIFY_SOCKET", filepath.Join(dir, "n"))
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	t.Setenv("WATCHDOG_USEC", "30000000")
	var asked atomic.Int32
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer app.Close()
	cfg := config.Default()
	cfg.Socket, cfg.StateDir, cfg.Health.Listen, cfg.Health.Target = filepath.Join(dir, "s"), filepath.Join(dir, "state"), "127.0.0.1:0", app.URL+"/health"
	cfg.Metrics.Send = "off"
	startAgentIn(t, cfg, dir)
	systemd.SetReadDeadline(time.Now().Add(time.Minute))
	for buf := make([]byte, 1000); ; {
		n, err := systemd.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if string(buf[:n]) == "WATCHDOG=1" {
			break
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the application was asked %d times", n)
	}
}

// A deployment's end tells what nginx needs while the agent is down, without anybody who asks
// for health.
func TestReloadKeepsWhatNginxNeeds(t *testing.T) {
	dir, err := os.MkdirTemp("", "a") // short: a socket's path may have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("NOTIFY_SOCKET", "")
	cfg := config.Default()
	cfg.Socket, cfg.StateDir, cfg.Health.Listen = filepath.Join(dir, "s"), filepath.Join(dir, "state"), "127.0.0.1:0"
	cfg.Metrics.Send = "off"
	startAgentIn(t, cfg, dir)
	deployed := func(host, port string) {
		if err := os.WriteFile(filepath.Join(dir, ".env"), []byte("HEALTH_HOST="+host+"\nPORT="+port+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	kept := func(host, port string) bool {
		text, _ := os.ReadFile(filepath.Join(cfg.StateDir, "nginx-health.conf"))
		return strings.Contains(string(text), `"`+host+`"`) && strings.Contains(string(text), `"127.0.0.1:`+port+`"`)
	}
	deployed("a.example", "1234")
	await(t, "the first Host", func() bool { return kept("a.example", "1234") })
	deployed("b.example", "4321")
	if err := api.NewClient(cfg.Socket).Post(t.Context(), "/v1/reload", nil, nil); err != nil || !kept("b.example", "4321") {
		t.Errorf("%v; the new Host and port are kept: %v", err, kept("b.example", "4321"))
	}
}

// What would keep the agent from starting, or from ever asking, is a fault of the
// file with its line. A password is not shown.
func TestHealthFaultsHaveTheirLine(t *testing.T) {
	for text, want := range map[string]string{
		`expect: "20"`:                              `a.yaml:2:11: health.expect: expected status "20"`,
		`expect: ""`:                                `a.yaml:2:11: health.expect:`,
		`headers: {Host: a}`:                        `health.headers: health header "Host": set health.host instead`,
		`headers: {X: "T0KEN\n"}`:                   `health.headers: health header "X": its value holds a control character`,
		`host: exämple`:                             `a.yaml:2:9: health.host: health host`,
		`target: https://127.0.0.1/`:                `a.yaml:2:11: health.target: health target "https://127.0.0.1/": want http://`,
		`target: http://u:T0KEN@127.0.0.1/`:         `a.yaml:2:11: health.target: expected an address without user and password`,
		`target: http://u:T0/KEN@127.0.0.1/`:        `a.yaml:2:11: health.target: expected`,
		`target: "unix:/run/a.sock:/a b"`:           `a.yaml:2:11: health.target: health target "unix:/run/a.sock:/a b"`,
		`headers: {Authorization: Bearer}`:          "",
		`host: "${ALLOWED_HOSTS}"`:                  "",
		`host: ""`:                                  "",
		`{expect: "200-299,401", unknown: healthy}`: "",
	} {
		section := "health:\n  " + text
		if strings.HasPrefix(text, "{") {
			section = "health: " + text
		}
		_, err := config.Parse("a.yaml", []byte(section+"\n"), healthFaults)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if (want == "") != (got == "") || !strings.Contains(got, want) || strings.Contains(got, "KEN") {
			t.Errorf("%s: got %q, want %q in it", text, got, want)
		}
	}
}

// The page that lists the keys with their defaults is right.
func TestHealthPageShowsTheDefaults(t *testing.T) {
	page, err := os.ReadFile("../packaging/docs/health-checks.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(page), "```yaml\n")
	block, _, _ = strings.Cut(block, "```")
	got, err := config.Parse("page", []byte(block), healthFaults)
	if err != nil || !reflect.DeepEqual(got, config.Default()) {
		t.Errorf("the page says\n%+v\nthe defaults are\n%+v\n%v", got.Health, config.Default().Health, err)
	}
	keys := reflect.TypeFor[config.Health]()
	for i := range keys.NumField() {
		if name := keys.Field(i).Tag.Get("yaml"); !strings.Contains(block, "\n  "+name+": ") {
			t.Errorf("the page does not list %s", name)
		}
	}
}
