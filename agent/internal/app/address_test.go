package app

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/endpoint"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/packaging/testbed/planted"
)

// The first entry that is one host, in each form in which such a list is written.
func TestFirstHost(t *testing.T) {
	for list, want := range map[string]string{
		"www.example.com":                     "www.example.com",
		" www.example.com ":                   "www.example.com",
		".example.com,*,www.example.com":      "www.example.com",
		"localhost 127.0.0.1":                 "localhost",
		`["www.example.com", "b.example"]`:    "www.example.com",
		"['.example.com','www.example.com']":  "www.example.com",
		"www.example.com:8443;b.example":      "www.example.com:8443",
		"[::1],www.example.com":               "[::1]",
		"https://www.example.com/, b.example": "b.example",
		"":                                    "",
		"*":                                   "",
		".example.com":                        "",
		"https://www.example.com/":            "",
		"[]":                                  "",
	} {
		if got := firstHost(list); got != want {
			t.Errorf("%q: got %q, want %q", list, got, want)
		}
	}
}

// A configured target's origin is what url: jobs post to and what is put before a path.
func TestOriginOfTargets(t *testing.T) {
	for target, want := range map[string]string{
		"http://127.0.0.1:8000/health/": "http://127.0.0.1:8000",
		"http://localhost":              "http://localhost:80",
		"unix:/run/app.sock:/up":        "unix:/run/app.sock:",
		"unix:/run/app.sock":            "unix:/run/app.sock:",
	} {
		got, err := (&App{cfg: Config{Target: target}}).Origin(t.Context())
		if got != want || err != nil {
			t.Errorf("%s: got %q, %v, want %q", target, got, err, want)
		}
		if _, err := endpoint.Parse(got + "/up"); err != nil {
			t.Error(err)
		}
	}
}

// A port that a deployment changes is the one asked from then on: nginx knows it, else
// the application's environment, before what the platform said at the agent's start.
func TestPortOfADeploymentIsFollowed(t *testing.T) {
	root := t.TempDir()
	put := func(name, text string) {
		name = filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	const eb, nginx = "opt/elasticbeanstalk/", "etc/nginx/conf.d/elasticbeanstalk/00_application.conf"
	put(eb+"deployment/cfn-metadata-cache.json", `{"EbResource":{"AWS::ElasticBeanstalk::Metadata":{"EnvironmentName":"e"}}}`)
	put(eb+"bin/get-config", "#!/bin/sh\necho '{\"ApplicationPort\":5000}'\n")
	put("etc/systemd/system/web.service", "[Service]\nUser=webapp\n") // the application is started before nginx is told its port
	inst := platform.NewInstance(t.Context(), platform.Options{Root: root})
	inst.Run(t.Context(), planted.Log(t))
	a := &App{inst: inst, env: appenv.New(appenv.Config{Beanstalk: true, Root: root})}
	for _, step := range []struct {
		file, text, want string
	}{
		{eb + "deployment/env", "A=b\n", "http://127.0.0.1:5000"},
		{eb + "deployment/env", "PORT=3000\n", "http://127.0.0.1:3000"},
		{nginx, "location / {\n    proxy_pass http://127.0.0.1:8080;\n}\n", "http://127.0.0.1:8080"},
		{nginx, "location / {\n    proxy_pass http://127.0.0.1:8081;\n}\n", "http://127.0.0.1:8081"},
	} {
		put(step.file, step.text)
		if got, err := a.Origin(t.Context()); got != step.want || err != nil {
			t.Errorf("after %q: got %q, %v, want %q", step.text, got, err, step.want)
		}
	}
}

// The application's socket is where health checks ask, unless that is nginx.
func TestWorkersAreBehindTheProxy(t *testing.T) {
	inst := platform.NewInstance(t.Context(), platform.Options{Root: t.TempDir(), AppDir: t.TempDir()})
	for target, want := range map[string]Workers{
		"":                                       {Port: 8000},
		"http://127.0.0.1:5000/health":           {Port: 5000},
		"http://127.0.0.1:80/health":             {Port: 8000},
		"http://127.0.0.1/health":                {Port: 8000},
		"unix:/var/run/puma/my_app.sock:/health": {Path: "/var/run/puma/my_app.sock"},
	} {
		if got := New(Config{Target: target}, inst).Workers(t.Context()); got != want {
			t.Errorf("%q: got %+v, want %+v", target, got, want)
		}
	}
}

// What a drain waits for are the connections that the application has accepted, on its port or socket.
func TestConnectionsOfTheApplication(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the kernel tells on Linux only")
	}
	socket := filepath.Join(t.TempDir(), "app.sock")
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": socket} {
		t.Run(network, func(t *testing.T) {
			ln, err := net.Listen(network, address)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			target := "http://" + ln.Addr().String() + "/up"
			if network == "unix" {
				target = "unix:" + socket + ":/up"
			}
			a := &App{cfg: Config{Target: target}}
			if n := a.Connections(t.Context()); n != 0 {
				t.Errorf("idle: %d", n)
			}
			for want := range 3 {
				client, err := net.Dial(network, ln.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				conn, err := ln.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if n := a.Connections(t.Context()); n != want+1 {
					t.Errorf("%d connections: %d", want+1, n)
				}
			}
		})
	}
	a := &App{cfg: Config{Target: "unix:/nonexistent.sock:/"}}
	if n := a.Connections(t.Context()); n != 0 {
		t.Errorf("nobody listens: %d", n)
	}
}

// Where the application's user may make a link, it could have root's agent ask any socket of this host.
func TestALinkIsNoSocketOfTheApplications(t *testing.T) {
	dir := t.TempDir()
	ln, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if err := os.Symlink(filepath.Join(dir, "s"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"s": true, "link": false, "none": false, ".": false} {
		if got := isSocket(filepath.Join(dir, name)); got != want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
