package health

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode"
)

// TestAnswersWithoutEndCostLittle: the application may be hostile: whatever it answers, the probe ends with its time
// limit, reads a little of it, and says what it was on one line that a terminal can show.
func TestAnswersWithoutEndCostLittle(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	z.Write(make([]byte, 64<<20))
	z.Close()
	const ok = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
	for name, tt := range map[string]struct {
		begin, again string // again without end
		healthy      bool
	}{
		"body":          {ok + "\r\n", strings.Repeat("a", 64<<10), true},
		"refused, body": {"HTTP/1.1 500 No\r\n\r\n", strings.Repeat("a", 64<<10), false},
		"headers":       {ok, "X-A: b\r\n", false},
		"a long header": {ok + "X-A: ", strings.Repeat("a", 64<<10), false},
		"informational": {"", "HTTP/1.1 103 Early Hints\r\n\r\n", false},
		"another one":   {"", "HTTP/1.1 100 Continue\r\n\r\n", false},
		"compressed":    {ok + fmt.Sprintf("Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", bomb.Len(), bomb.Bytes()), "", true},
		"a chunk":       {ok + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", strings.Repeat("a", 64<<10), true},
		"no chunk":      {ok + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffffffff\r\n", "", false},
		"no status":     {"HTTP/1.1 999 \x1b[2J\x1b]0;owned\a\r\n\r\n", "", false},
		"redirect":      {"HTTP/1.1 302 Found\r\nLocation: http://\x1b[31m/\u202e\r\n\r\n", "", false},
		"to itself":     {"HTTP/1.1 302 Found\r\nLocation: /health\r\n\r\n", "", false},
		"switched":      {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "a", false},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChecker(t, Config{Target: endless(t, tt.begin, tt.again), Host: host("www.example.com"), Timeout: 500 * time.Millisecond})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			v := c.Check(t.Context())
			runtime.ReadMemStats(&after)
			if v.Healthy != tt.healthy || len(v.Reason) > 500 || strings.ContainsFunc(v.Reason, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("healthy %v: %+q", v.Healthy, v.Reason)
			}
			if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 8 && !raceDetector { // the server's own among it
				t.Errorf("%d MB were allocated", n)
			}
		})
	}
}

// endless answers each connection with begin, and then with again until nobody reads any more.
func endless(t *testing.T, begin, again string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(30 * time.Second))
				conn.Read(make([]byte, 4096))
				for _, err := io.WriteString(conn, begin); err == nil && again != ""; {
					_, err = io.WriteString(conn, again)
				}
			}()
		}
	}()
	return "http://" + ln.Addr().String() + "/"
}

// TestForgedNoncesCountAsStrangers: only a request that the agent itself is waiting for is its own.
func TestForgedNoncesCountAsStrangers(t *testing.T) {
	told := 0
	c := newChecker(t, Config{Target: app(t, ok), Host: host("a.example"), Draining: func(balancer bool) bool {
		if balancer {
			told++
		}
		return false
	}})
	seen := c.expectNonce("ours")
	for _, nonce := range []string{"", "theirs", "0", "OURS", "ours"} {
		c.recordRequest(nonce, "tcp", client{agent: "ELB-HealthChecker/2.0"})
	}
	if f := c.Figures(); f.Asked != 4 || told != 4 || seen() != "tcp" {
		t.Errorf("%d counted, %d told that a balancer asks", f.Asked, told)
	}
	c.recordRequest("ours", "tcp", client{})
	if f := c.Figures(); f.Asked != 5 {
		t.Error("a number is good for one request")
	}
}
