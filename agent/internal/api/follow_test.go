package api

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A follower whose connection breaks goes on at the place it had read to, also when the output's middle was cut
// meanwhile: counting the bytes it got would repeat or leave out some.
func TestFollowGoesOnWhereItStopped(t *testing.T) {
	answers := []struct {
		at   int
		body string
		cut  bool // the connection breaks
	}{{10, "ab", true}, {12, "cd", false}, {100, "end", false}, {103, "", false}}
	asked := make(chan string, len(answers))
	c := answering(t, func(w http.ResponseWriter, r *http.Request) {
		a := answers[len(asked)]
		asked <- r.URL.RawQuery
		w.Header().Set(OutputAt, strconv.Itoa(a.at))
		io.WriteString(w, a.body)
		if a.cut {
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	})
	var out strings.Builder
	if err := c.Follow(t.Context(), "x", 2, time.Minute, &out); err != nil {
		t.Fatal(err)
	}
	if want := "abcd\n[agent: 86 bytes cut here]\nend"; out.String() != want {
		t.Errorf("followed %q, want %q", out.String(), want)
	}
	for i, want := range []string{"follow&at&lines=2", "follow&at=12", "follow&at=14", "follow&at=103"} {
		if got := <-asked; got != want {
			t.Errorf("request %d is %q, want %q", i, got, want)
		}
	}
}

// An older agent knows no places: it answers with everything, to the end of the run.
func TestFollowOfAnOlderAgent(t *testing.T) {
	var n atomic.Int32
	c := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) == 1 {
			io.WriteString(w, "abc")
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, "abcdef")
	})
	var out strings.Builder
	if err := c.Follow(t.Context(), "x", 0, time.Minute, &out); err != nil || out.String() != "abcdef" || n.Load() != 2 {
		t.Errorf("followed %q in %d answers, %v", out.String(), n.Load(), err)
	}
}

// answering is a client of a server that has one handler.
func answering(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "c") // short: a socket's path may have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ln, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	return NewClient(filepath.Join(dir, "s"))
}
