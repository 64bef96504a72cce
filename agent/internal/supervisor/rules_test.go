package supervisor

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"beanstalk-agent/agent/internal/runs"
)

// FuzzStartRequest: behind the privilege line nothing is believed. Whatever is asked for, what passes runs as
// the one user that is allowed, with that user's groups, within limits, under a name that is one of a file.
func FuzzStartRequest(f *testing.F) {
	const nobody = 65534
	kept, err := os.ReadFile("testdata/v1/start.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(kept)
	allowed := runs.Request{Args: []string{"true"}, IO: runs.IOSpool, ID: "a-1", Kind: "cron", Dir: "/", UID: nobody, GID: nobody, Groups: []uint32{nobody}, Timeout: 1, MemoryMax: 1 << 20}
	seed := func(change func(*runs.Request)) {
		r := allowed
		change(&r)
		b, err := json.Marshal(runs.StartBody{Request: r, HasConn: true})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	seed(func(*runs.Request) {})
	seed(func(r *runs.Request) { r.UID, r.GID, r.Groups = 0, 0, nil })
	seed(func(r *runs.Request) { r.GID = 0 })
	seed(func(r *runs.Request) { r.Groups = []uint32{nobody, 0} })
	seed(func(r *runs.Request) { r.ID = "../../etc/passwd" })
	seed(func(r *runs.Request) { r.ID = ".." })
	seed(func(r *runs.Request) { r.Dir = "etc" })
	seed(func(r *runs.Request) { r.Args = []string{""} })
	seed(func(r *runs.Request) { r.Timeout, r.MemoryMax = -1, -1 })
	f.Add([]byte(`{"args":["a"],"io":"pipes","uid":65534,"gid":65534,"UID":0,"Gid":0,"groups":[]}`)) // the last of several names counts
	f.Add([]byte(`{"args":["a"],"io":"pipes","uid":4294967296}`))
	f.Add([]byte(`{"args":["a"],"io":"pipes","as_root":true}`))
	f.Add([]byte(``))
	cfg := Config{AllowUsers: []string{"65534"}}
	wantUID := uint32(nobody)
	if os.Geteuid() != 0 {
		wantUID = uint32(os.Geteuid()) // nobody else can be had
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := http.NewRequest("POST", "/", strings.NewReader(string(body)))
		if err != nil {
			t.Fatal(err)
		}
		var b runs.StartBody
		if decode(r, &b) != nil {
			return
		}
		cred, refusal := cfg.check(&b.Request)
		if refusal != nil {
			if refusal.Status < 400 || refusal.Message == "" {
				t.Errorf("refused with %+v", refusal)
			}
			return
		}
		run := newRun(&b.Request)
		if b.UID != wantUID || cred != nil && (cred.UID != wantUID || cred.GID != nobody || slices.ContainsFunc(cred.Groups, func(g uint32) bool { return g != nobody })) || cred == nil && os.Geteuid() == 0 {
			t.Errorf("%s\nruns as %+v", body, cred)
		}
		if !validID(run.ID) || filepath.Base(run.ID) != run.ID || b.Dir != "" && !filepath.IsAbs(b.Dir) {
			t.Errorf("%s\nis run %q in %q", body, run.ID, b.Dir)
		}
		if b.Timeout < 0 || b.Grace < 0 || b.Idle < 0 || b.MemoryMax < 0 || b.MaxOutput < 0 {
			t.Errorf("%s\nhas limits %+v", body, b.Request)
		}
	})
}
