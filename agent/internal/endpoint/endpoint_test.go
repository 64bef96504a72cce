package endpoint

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]Endpoint{
		"http://127.0.0.1:8000/health":        {"tcp", "127.0.0.1:8000", "/health"},
		"http://127.0.0.1:8000":               {"tcp", "127.0.0.1:8000", "/"},
		"http://localhost/health/?deep=1":     {"tcp", "localhost:80", "/health/?deep=1"},
		"http://[::1]:5000/up":                {"tcp", "[::1]:5000", "/up"},
		"unix:/var/run/puma/my_app.sock:/up":  {"unix", "/var/run/puma/my_app.sock", "/up"},
		"unix:/var/run/puma/my_app.sock":      {"unix", "/var/run/puma/my_app.sock", "/"},
		"unix:/var/run/puma/my_app.sock:/a:b": {"unix", "/var/run/puma/my_app.sock", "/a:b"},
	} {
		got, err := Parse(in)
		if err != nil || got != want {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", in, got, err, want)
		}
	}
}

func TestParseSaysWhatIsWrong(t *testing.T) {
	for in, want := range map[string]string{
		"":                                  "want http://",
		"https://127.0.0.1/health":          "own port",
		"127.0.0.1:8000/health":             "127.0.0.1:8000/health",
		"http:///health":                    "no host",
		"http://h:0/":                       "between 1 and 65535",
		"http://h:99999/":                   "between 1 and 65535",
		"http://user:planted-5c1e@h/":       "health.headers",
		"http://h/#top":                     "fragment",
		"unix:relative.sock:/":              "absolute path",
		"unix:/a.sock:health":               "begin with /",
		"unix:/a.sock:/he alth":             "percent-encoded",
		"unix:/a.sock:/%zz":                 "not valid",
		"unix:/" + strings.Repeat("a", 120): "107 bytes",
	} {
		_, err := Parse(in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q): got %v, want an error with %q", in, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "planted-5c1e") {
			t.Errorf("Parse(%q) repeats the password: %v", in, err)
		}
	}
}

// FuzzParse: what is accepted prints back to itself and can be sent as a request line.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"http://127.0.0.1:8000/health", "unix:/a.sock:/x", "http://[::1]:80/?a=b", "unix:/%zz", "http://h/%41 b", "unix:/a.sock:/a b", "unix:/a.sock:/a\tb", "unix:/a.sock:/#", "unix:/a\x00b:/", "unix:a:/", "http://h:0/", "http://h/é"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		target, err := Parse(s)
		if err != nil {
			return
		}
		again, err := Parse(target.Origin() + target.Path)
		if err != nil || again != target {
			t.Fatalf("%q parses to %+v, which prints as %q and parses to %+v, %v", s, target, target, again, err)
		}
		if strings.ContainsAny(target.Path, " \r\n\t\x00") {
			t.Fatalf("%q: path %q would break the request line", s, target.Path)
		}
	})
}
