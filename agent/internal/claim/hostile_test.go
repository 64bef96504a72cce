package claim

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
)

// Whoever answers in S3's place, a proxy or another, costs a claim no more than its window and a little memory, gets no
// second request at another address, and no word of it is more than one line.
func TestAnswersOfOthersCostLittle(t *testing.T) {
	var asked atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer elsewhere.Close()
	var sent atomic.Int64
	endless := func(w http.ResponseWriter, r *http.Request) {
		for chunk := strings.Repeat("a", 64<<10); r.Context().Err() == nil && sent.Load() < 1<<30; {
			n, err := io.WriteString(w, chunk)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}
	for name, answer := range map[string]http.HandlerFunc{
		"endless":         endless,
		"endless refusal": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(403); endless(w, r) },
		"entities": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(400)
			io.WriteString(w, `<!DOCTYPE e [<!ENTITY a SYSTEM "file:///etc/passwd"><!ENTITY b "&a;&a;">]><Error><Code>&b;</Code><Message>&a;</Message></Error>`)
		},
		"escapes": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(403)
			io.WriteString(w, "<Error><Code>Access\u009b31m</Code><Message>a&#10;b\u202ec</Message></Error>")
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		},
		"hang": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name == "hang" {
				t.Skip("takes 5 s")
			}
			t.Parallel()
			server := httptest.NewServer(answer)
			defer server.CloseClientConnections()
			s := storeAt(t, server.URL, "i-1")
			_, err := s.Claim(t.Context(), Request{Job: "job", Slot: time.Now(), Window: 500 * time.Millisecond})
			switch {
			case err == nil:
				t.Error("it was claimed")
			case len(err.Error()) > 1500 || strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) || strings.Contains(err.Error(), "root:"):
				t.Errorf("%.2000q", err)
			}
		})
	}
	t.Cleanup(func() {
		if asked.Load() > 0 {
			t.Error("somebody else was asked")
		}
		if n := sent.Load() >> 20; n > 200 { // what lies in the sockets of all requests
			t.Errorf("%d MB were taken", n)
		}
	})
}
