package cli

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The path of a url: job is the application's to choose, the origin is not: its headers, which may be secrets, go to
// the application alone, also when that sends the POST elsewhere.
func TestPostStaysWithTheApplication(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("somebody else was asked") }))
	defer elsewhere.Close()
	host := strings.TrimPrefix(elsewhere.URL, "http:")
	asked := 0
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	}))
	defer app.Close()
	for _, path := range []string{"/", host, host + "/x", "/" + strings.Replace(host, "//", "@", 1), "/\\" + host, "/%2f%2fx", "/?u=" + elsewhere.URL} {
		o := postOptions{target: app.URL, path: path, host: "www.example.com", headers: []string{"X-Token: planted-5c1e"}}
		before := asked
		if err := o.post(t.Context(), io.Discard); err == nil {
			t.Errorf("%q: a redirect is taken for good", path)
		}
		if asked != before+1 && !strings.ContainsRune(path, '\\') {
			t.Errorf("%q: the application was asked %d times", path, asked-before)
		}
	}
}
