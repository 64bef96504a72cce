package main

import (
	"net"
	"path/filepath"
	"runtime"
	"testing"

	"beanstalk-agent/agent/internal/config"
)

// What a drain waits for are the connections that the application has accepted, on its port or socket.
func TestRequestsInTheApplication(t *testing.T) {
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
			cfg := config.Config{Health: config.Health{Target: target}}
			if n := connections(t.Context(), cfg, nil, nil); n != 0 {
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
				if n := connections(t.Context(), cfg, nil, nil); n != want+1 {
					t.Errorf("%d connections: %d", want+1, n)
				}
			}
		})
	}
	cfg := config.Config{Health: config.Health{Target: "unix:/nonexistent.sock:/"}}
	if n := connections(t.Context(), cfg, nil, nil); n != 0 {
		t.Errorf("nobody listens: %d", n)
	}
}
