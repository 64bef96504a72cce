package supervisor

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/runs"
)

// past records a run that has ended, with output of so many bytes.
func past(t *testing.T, s *store, id string, req runs.Request, output int, ended time.Time) {
	t.Helper()
	req.ID, req.Args, req.IO = id, []string{"x"}, runs.IOSpool
	run := newRun(&req)
	if err := s.create(&run); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path(id, "output"), make([]byte, output), 0o600); err != nil {
		t.Fatal(err)
	}
	run.State, run.Ended = runs.StateExited, ended
	if err := s.finish(&run); err != nil {
		t.Fatal(err)
	}
}

// Reason: jobs of the application erased who ran what, and what that had printed: by printing, by running often, and by
// having many names. No user pushes out what another had run, nor a job a command; and of what is its own the output goes
// first, of the job that has most of it.
func TestNobodyPushesOutWhatIsAnothers(t *testing.T) {
	const application, colleague, most = 900, 1000, 4 << 20
	now := time.Now()
	job := func(uid uint32, name string) runs.Request { return runs.Request{Kind: "cron", Name: name, UID: uid} }
	for name, noise := range map[string]func(i int) (runs.Request, int){
		"a job that prints":      func(int) (runs.Request, int) { return job(application, "noise"), 600 << 10 },
		"jobs that print":        func(i int) (runs.Request, int) { return job(application, fmt.Sprint("noise", i%7)), 600 << 10 },
		"a job that runs often":  func(int) (runs.Request, int) { return job(application, "noise"), 0 },
		"a job named as another": func(int) (runs.Request, int) { return job(application, "nightly"), 600 << 10 },
		"many names of jobs":     func(i int) (runs.Request, int) { return job(application, fmt.Sprint("noise", i)), 300 << 10 },
		"a colleague's commands": func(int) (runs.Request, int) {
			return runs.Request{Name: "backup", Caller: runs.Caller{UID: colleague}}, 0
		},
		"many names of a colleague": func(i int) (runs.Request, int) {
			return runs.Request{Name: fmt.Sprint(i), Caller: runs.Caller{UID: colleague}}, 100 << 10
		},
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "jobs that print" {
				t.Skip("writes 36 MB")
			}
			s := open(t, t.TempDir(), Keep{Count: 20, PerName: 10, Bytes: most})
			var others []string
			for i := range 3 {
				others = append(others, fmt.Sprint("exec", i), fmt.Sprint("root", i))
				past(t, s, others[2*i], runs.Request{Name: "backup"}, 40<<10, now)
				past(t, s, others[2*i+1], job(0, "nightly"), 40<<10, now)
			}
			for i := range 60 {
				req, output := noise(i)
				past(t, s, fmt.Sprint("noise", i), req, output, now)
				s.tidy(now) // all within the minute
				var all int64
				for _, id := range s.list(func(string, entry) bool { return true }) {
					bytes, _ := s.diskUsage(id)
					all += bytes
				}
				if all > most || all != s.bytes {
					t.Fatalf("%d bytes are kept, %d are counted, %d are the most", all, s.bytes, most)
				}
			}
			s.prune(now)
			for _, id := range others {
				if _, err := os.Stat(s.path(id, "output")); err != nil || !s.has(id) {
					t.Errorf("of %s the record is %v, and its output: %v", id, s.has(id), err)
				}
			}
			if n := len(s.list(func(string, entry) bool { return true })) - len(others); n > 20 || n < 10 || !s.has("noise59") {
				t.Errorf("%d others are kept", n)
			}
		})
	}
}

// Of one user's jobs, too, the many runs of one go before the only one of another; and so does output, the newest but last.
func TestRetentionIsFairAmongJobs(t *testing.T) {
	now := time.Now()
	s := open(t, t.TempDir(), Keep{Count: 20})
	job := func(name string, i, output int) {
		past(t, s, fmt.Sprint(name, i), runs.Request{Kind: "cron", Name: name}, output, now)
	}
	job("nightly", 0, 100<<10)
	job("hourly", 0, 5<<10)
	job("hourly", 1, 5<<10)
	for i := range 40 {
		job("noise", i, 20<<10)
	}
	job("newest", 0, 900<<10)
	s.prune(now)
	for id, want := range map[string]bool{"nightly0": true, "hourly0": true, "hourly1": true, "newest0": true, "noise39": true, "noise0": false} {
		if s.has(id) != want {
			t.Errorf("%s is kept: %v", id, !want)
		}
	}
	s.keep.Bytes = 1450 << 10
	s.trim()
	for id, want := range map[string]bool{"nightly0": true, "hourly0": true, "newest0": true, "noise39": true, "noise24": false} {
		if _, err := os.Stat(s.path(id, "output")); (err == nil) != want || !s.has(id) {
			t.Errorf("output of %s: %v, its record: %v", id, err, s.has(id))
		}
	}
}

// Reason: a job was given the id of a command as its name. Once the record of that was gone its runs were found instead,
// and whoever waited for the command had their exit code.
func TestNoJobIsTakenForACommand(t *testing.T) {
	const command, job = "ckflj3d3", "ckflj3d3-20261130t180000z-1"
	const short, slot = "ckflj3-20261130t180000z-1", "ckflj3-20261130t180000z-1-20261130t190000z-1"
	s := &server{store: open(t, filepath.Join(t.TempDir(), "runs"), Keep{}), live: make(map[string]*live)}
	finds := func(given, want string) {
		t.Helper()
		if run, _, e := s.find(given); run.ID != want || (e == nil) != (want != "") {
			t.Errorf("%q finds %q, %v; want %q", given, run.ID, e, want)
		}
	}
	now := time.Now()
	past(t, s.store, command, runs.Request{}, 0, now)
	past(t, s.store, job, runs.Request{Kind: "cron", Name: command}, 0, now)
	past(t, s.store, short, runs.Request{Kind: "cron", Name: "ckflj3"}, 0, now)
	past(t, s.store, slot, runs.Request{Kind: "cron", Name: short}, 0, now)
	for given, want := range map[string]string{
		command: command, "ckflj3": command, "ck": command, job: job, "ckflj3d3-": job, "ckflj3d3-20261130": job,
		short: short, slot: slot, "ckflj3-2026": "", "": "", "other": "", "c-": "",
	} {
		finds(given, want)
	}
	s.store.remove(command)
	s.store.remove(short)
	for _, state := range []string{"ended", "live"} {
		for _, given := range []string{command, "ckflj3", "ck", short} {
			if finds(given, ""); t.Failed() {
				t.Fatalf("its runs are %s", state)
			}
		}
		for _, id := range []string{job, slot} {
			s.store.remove(id)
			s.live[id] = &live{s: s, id: id, run: runs.Run{ID: id, State: runs.StateStarting}}
		}
	}
}
