package health

import (
	"net/http"
	"strings"
	"testing"
	"unicode"

	"beanstalk-agent/agent/internal/endpoint"
)

// FuzzHeaders: what is accepted cannot end a header line or take over the message's framing.
func FuzzHeaders(f *testing.F) {
	f.Add("X-Forwarded-Proto", "https", "www.example.com")
	f.Add("host", "x", "a b")
	f.Add("X A", "x", "a/b")
	f.Add("X:A", "x", `a"b`)
	f.Add("", "x", "u@h")
	f.Add("X-A", "b\x00c", "a\tb")
	f.Add("transfer-encoding", "chunked", "[::1]:80")
	f.Add("X-A", "b\r\nX-C: d", "a:80")
	f.Fuzz(func(t *testing.T, name, value, host string) {
		if CheckHeaders(map[string]string{name: value}) == nil {
			if name == "" || strings.ContainsAny(name, ": \r\n") || strings.ContainsAny(value, "\r\n\x00") || strings.EqualFold(name, "host") || strings.EqualFold(name, "transfer-encoding") || strings.EqualFold(name, "content-length") {
				t.Fatalf("accepted %q: %q", name, value)
			}
		}
		if endpoint.CheckHost(host) == nil && strings.ContainsAny(host, " \r\n\t/@\"") {
			t.Fatalf("accepted host %q", host)
		}
	})
}

func TestParseExpect(t *testing.T) {
	got, err := ParseExpect("200-299, 401")
	if err != nil || !expected(got, 204) || !expected(got, 401) || expected(got, 302) {
		t.Errorf("ParseExpect: got %v, %v", got, err)
	}
	for _, bad := range []string{"", "2xx", "100", "300-200", "200,,", "600", "-"} {
		if got, err := ParseExpect(bad); err == nil {
			t.Errorf("ParseExpect(%q) = %v, want an error", bad, got)
		}
	}
}

func TestCheckHeadersTellsAllFaults(t *testing.T) {
	err := CheckHeaders(map[string]string{"Host": "a", "X Y": "b", "Content-Length": "3", "X-Token": "planted-5c1e\n", "X-Ok": "fine"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"health.host", `"X Y"`, `"Content-Length"`, `"X-Token"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "planted-5c1e") || strings.Contains(err.Error(), "X-Ok") {
		t.Errorf("says too much: %v", err)
	}
}

// FuzzRedirect: an application may send a probe anywhere. What is said of it fits a line of a terminal and a log.
func FuzzRedirect(f *testing.F) {
	for _, location := range []string{
		"https://www.example.com/health", "https://www.example.com/", "/health/", "//other.example/health", "http://other.example:8443/login?next=/health",
		"https://h\xc3\xa9/health", "http://%C2%9B31m/health", "http://" + strings.Repeat("a", 4000) + "/health", "http://[fe80::1%25en0]/health", "/%1b[31m", "mailto:a", "?", "%", "https://u:secret@h/health",
	} {
		f.Add(location, "www.example.com")
	}
	p := newProber(endpoint.Endpoint{Network: "tcp", Address: "127.0.0.1:8000", Path: "/health?token=secret"}, Config{Method: "GET"})
	f.Fuzz(func(t *testing.T, location, host string) {
		if endpoint.CheckHost(host) != nil || strings.Contains(location, "token") {
			return
		}
		resp := &http.Response{StatusCode: 302, Header: http.Header{"Location": {location}}}
		reason := p.explainAnswer(resp, client{host: host}, nil)
		if len(reason) > 1000 || strings.ContainsFunc(reason, func(r rune) bool { return !unicode.IsPrint(r) }) || strings.Contains(reason, "token") {
			t.Errorf("to %q: %d bytes: %q", location, len(reason), reason)
		}
	})
}
