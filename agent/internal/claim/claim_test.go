package claim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"beanstalk-agent/packaging/testbed/planted"
)

const window = 30 * time.Second

// direct lets a client speak to a fake without a socket, so that a synctest bubble can hold both.
type direct struct{ *fakeS3 }

var errReset = errors.New("connection reset by peer")

func (d direct) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	defer func() {
		if recover() == http.ErrAbortHandler {
			err = errReset
		}
	}()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result(), r.Context().Err()
}

func abort(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }

func refuseAll(status int, code string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(status)
		w.Write(errorXML(code))
		return true
	}
}

func claimant(t *testing.T, f *fakeS3, owner string) *Store {
	s := storeAt(t, "http://s3.test", owner)
	s.s3.client.Transport = direct{f}
	from := time.Now()
	s.s3.clock.boot = func() time.Duration { return time.Since(from) } // in a bubble, its time
	return s
}

// beside is a claim that no other run is in the way of.
func beside(slot time.Time) Request {
	return Request{Job: "job", Slot: slot, Window: window, Overlap: Allow}
}

// fleet is n claimants of one bucket.
func fleet(t *testing.T, n int) (*fakeS3, []*Store) {
	f := &fakeS3{}
	var ss []*Store
	for i := range n {
		ss = append(ss, claimant(t, f, fmt.Sprintf("i-%d", i)))
	}
	return f, ss
}

func mustClaim(t *testing.T, s *Store, slot time.Time, want State) Outcome {
	t.Helper()
	o, err := s.Claim(t.Context(), beside(slot))
	if err != nil || o.State != want {
		t.Fatalf("%s: got %q, %v, want %q", s.config.Owner, o.State, err, want)
	}
	return o
}

func TestOneWinsTheOthersKnowWho(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ss := fleet(t, 2)
		mustClaim(t, ss[0], firstSlot, Won)
		o := mustClaim(t, ss[1], firstSlot, Lost)
		if o.By.Owner != "i-0" || !o.By.Slot.Equal(firstSlot) {
			t.Errorf("lost to %+v", o.By)
		}
		if o := mustClaim(t, ss[1], firstSlot.Add(time.Minute), Won); len(o.Unfinished) != 1 || o.Unfinished[0].Owner != "i-0" {
			t.Errorf("unfinished %+v", o.Unfinished)
		}
		if a, b := ss[0].Status(), ss[1].Status(); a.Won["job"] != 1 || b.Won["job"] != 1 || b.Lost != 1 {
			t.Errorf("got %+v and %+v", a, b)
		}
	})
}

// What claiming costs is what Estimate says: the winner writes twice and reads nothing, each other instance reads once.
func TestSteadyRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ss := fleet(t, 10)
		slot := firstSlot
		for range 5 {
			done := make(chan State)
			for _, s := range ss {
				go func() {
					o, _ := s.Claim(t.Context(), beside(slot))
					if o.State == Won {
						if err := s.Finish(t.Context(), "job", slot, Result{Outcome: "exit 0"}); err != nil {
							t.Error(err)
						}
					}
					done <- o.State
				}()
			}
			for range ss {
				<-done
			}
			if slot.Equal(firstSlot) {
				f.puts, f.gets = 0, 0 // the first slot has no last winner
			}
			slot = slot.Add(time.Minute)
		}
		minutely := Estimate(43_800, 10)
		if f.puts*10_950 != minutely.Puts || f.gets*10_950 != minutely.Gets {
			t.Errorf("4 slots on 10 instances made %d puts and %d gets, the estimate of a month is %+v", f.puts, f.gets, minutely)
		}
		if minutely.Dollars < 0.59 || minutely.Dollars > 0.60 {
			t.Errorf("a job every minute costs %v", minutely.Dollars)
		}
		if l := LeaseCost(); l.Dollars > 0.14 || minutely.Dollars+l.Dollars > 1 {
			t.Errorf("a lease costs %+v", l)
		}
		for took := time.Second; took < month; took *= 2 { // the longer a run, the fewer there are
			runs := min(43_800, int(month/took))
			if c := cost(runs*(2+int(took/RenewEvery)), minutely.Gets); c.Dollars > minutely.Dollars {
				t.Errorf("runs of %s cost %v", took, c.Dollars)
			}
		}
	})
}

// CLAIMS: an answer that was lost must not hide a win, whatever the far side or the way back did.
func TestLostAnswerIsNotALostSlot(t *testing.T) {
	for name, after := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"dropped": abort, "500": refuseAll(500, "InternalError"), "503": refuseAll(503, "SlowDown"), "408": refuseAll(408, "RequestTimeout"),
		"412 to a repeated request": refuseAll(412, "PreconditionFailed"),
		"409":                       refuseAll(409, "ConditionalRequestConflict"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, ss := fleet(t, 2)
				f.after = func(w http.ResponseWriter, r *http.Request) bool {
					return r.Method == http.MethodPut && after(w, r)
				}
				mustClaim(t, ss[0], firstSlot, Won)
				f.after = nil
				mustClaim(t, ss[1], firstSlot, Lost)
			})
		})
	}
}

func TestStoreOutOfReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ss := fleet(t, 1)
		f.before = abort
		from := time.Now()
		_, err := ss[0].Claim(t.Context(), beside(firstSlot))
		if !errors.Is(err, ErrUnreachable) || time.Since(from) > window+requestLimit || time.Since(from) < window/2 {
			t.Errorf("after %v: %v", time.Since(from), err)
		}
		f.before = nil
		mustClaim(t, ss[0], firstSlot, Won)
		f.before = abort
		from = time.Now()
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("the agent stops"))
		defer cancel()
		if _, err := ss[0].Claim(ctx, beside(firstSlot.Add(time.Minute))); err == nil || !strings.Contains(err.Error(), "the agent stops") || time.Since(from) > 2*time.Second {
			t.Errorf("after %v: %v", time.Since(from), err)
		}
	})
}

// The write took effect, and then nothing answers until the window is over: no other instance will run the slot, so it is
// pursued, and runs late rather than never.
func TestUnansweredClaimIsPursued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ss := fleet(t, 1)
		from := time.Now()
		var gone bool
		f.before = func(w http.ResponseWriter, r *http.Request) bool {
			return gone && time.Since(from) < window+window/2 && abort(w, r)
		}
		f.after = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut {
				gone = true
				abort(w, r)
			}
			return false
		}
		mustClaim(t, ss[0], firstSlot, Won)
		if took := time.Since(from); took < window || f.puts != 1 {
			t.Errorf("took %v and %d writes", took, f.puts)
		}
	})
}

// And if nothing answers for as long again, it is said that the slot may be taken and does not run; the next slot's
// write enters that in the register.
func TestUnansweredClaimIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ss := fleet(t, 2)
		f.after = func(w http.ResponseWriter, r *http.Request) bool {
			f.before = abort
			return abort(w, r)
		}
		f.before = func(w http.ResponseWriter, r *http.Request) bool {
			return r.Method == http.MethodGet && refuseAll(404, "NoSuchKey")(w, r)
		}
		_, err := ss[0].Claim(t.Context(), beside(firstSlot))
		if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "may be marked as claimed here, and does not run") {
			t.Fatal(err)
		}
		f.before, f.after = nil, nil
		mustClaim(t, ss[1], firstSlot, Lost)
		mustClaim(t, ss[0], firstSlot.Add(time.Minute), Won)
		r, err := ss[1].Read(t.Context(), "job")
		if err != nil || len(r.Runs) != 2 || !strings.HasPrefix(r.Runs[1].Outcome, "not run") {
			t.Errorf("got %+v, %v", r, err)
		}
	})
}

func TestDenialIsAConfigurationError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ss := fleet(t, 1)
		var logs strings.Builder
		ss[0].logger = planted.Log(t, &logs)
		f.before = refuseAll(403, "AccessDenied")
		for i := range 10 {
			from := time.Now()
			_, err := ss[0].Claim(t.Context(), beside(firstSlot.Add(time.Duration(i)*time.Minute)))
			want := `{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":"arn:aws:s3:::` + testBucket + `/beanstalk-agent/claims/e-abc/*"},` +
				`{"Effect":"Allow","Action":"s3:ListBucket","Resource":"arn:aws:s3:::` + testBucket + `"}`
			if !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), want) || time.Since(from) > maxSpread {
				t.Fatalf("after %v: %v", time.Since(from), err)
			}
		}
		if n := strings.Count(logs.String(), "slots cannot be claimed"); n != 1 {
			t.Errorf("reported %d times", n)
		}
		f.before = nil
		mustClaim(t, ss[0], firstSlot, Won)
		if !strings.Contains(logs.String(), "slots can be claimed again") {
			t.Error("the end of it is not reported")
		}
	})
}

func TestWrongBucketsAreConfigurationErrors(t *testing.T) {
	for _, tt := range []struct {
		status int
		code   string
		words  string
	}{
		{404, "NoSuchBucket", "does not exist"}, {301, "PermanentRedirect", "not in us-east-1"}, {307, "TemporaryRedirect", "not in us-east-1"},
		{400, "AuthorizationHeaderMalformed", "not in us-east-1"},
	} {
		synctest.Test(t, func(t *testing.T) {
			f, ss := fleet(t, 1)
			f.before = refuseAll(tt.status, tt.code)
			if _, err := ss[0].Claim(t.Context(), beside(firstSlot)); !errors.Is(err, ErrMisconfigured) || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("%s: %v", tt.code, err)
			}
		})
	}
}

// To take a damaged register, or one of a later version, for an empty one would run a slot twice.
func TestForeignRegisterIsNotOverwritten(t *testing.T) {
	for _, body := range []string{"", "<html>", `{"version":3,"job":"job"}`, `{"version":1,"runs":[{}]}`, `{"version":1}x`} {
		synctest.Test(t, func(t *testing.T) {
			f, ss := fleet(t, 1)
			const path = "/" + testBucket + "/beanstalk-agent/claims/e-abc/job.json"
			f.objects = map[string][]byte{path: []byte(body)}
			if _, err := ss[0].Claim(t.Context(), beside(firstSlot)); !errors.Is(err, ErrMisconfigured) || !strings.Contains(err.Error(), "e-abc/job.json") {
				t.Errorf("%q: %v", body, err)
			}
			if string(f.objects[path]) != body || f.puts != 0 {
				t.Errorf("%q was overwritten", body)
			}
		})
	}
}

// A slow clock's slot is added beside the newer ones while the register shows that it is free.
func TestLateSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ss := fleet(t, 2)
		at := func(i int) time.Time { return firstSlot.Add(time.Duration(i) * time.Minute) }
		for i := range keptRuns {
			if i != 5 {
				mustClaim(t, ss[0], at(i), Won)
			}
		}
		mustClaim(t, ss[1], at(4), Lost)
		mustClaim(t, ss[1], at(5), Won)
		mustClaim(t, ss[0], at(5), Lost)
		if o := mustClaim(t, ss[1], at(-1), Superseded); !o.By.Slot.Equal(at(keptRuns - 1)) {
			t.Errorf("superseded by %+v", o.By)
		}
		r, _ := ss[0].Read(t.Context(), "job")
		if len(r.Runs) != keptRuns || !r.Runs[0].Slot.Equal(at(keptRuns-1)) {
			t.Errorf("the late slot undid a newer one: %+v", r.Runs)
		}
	})
}

// Clocks: the store's decides what the future is. An instance whose own is slow is told nothing wrong of the others; one
// whose own is fast claims nothing before it is due, since that would look forged to the others.
func TestWrongClocks(t *testing.T) {
	for name, tt := range map[string]struct {
		store time.Duration // its clock against ours
		slot  time.Duration // from now
		other time.Duration // the slot that another instance has claimed; 0: none
		want  string
	}{
		"right":             {0, 0, -time.Minute, ""},
		"ours is slow":      {time.Hour, 0, time.Hour, ""},
		"ours is fast":      {-time.Hour, 0, 0, "chronyd"},
		"a little fast":     {-4 * time.Minute, 0, -time.Minute, ""},
		"the other is fast": {0, 0, 6 * time.Minute, `"i-1" claimed 2000-01-01T00:06:00Z`},
		"both, alike":       {-time.Hour, 0, -time.Second, `"i-1" claimed`},
	} {
		synctest.Test(t, func(t *testing.T) {
			f, ss := fleet(t, 2)
			f.ahead = tt.other // or it would not claim that
			if tt.other != 0 {
				mustClaim(t, ss[1], time.Now().Add(tt.other), Won)
			}
			f.ahead = tt.store
			begin := time.Now()
			o, err := ss[0].Claim(t.Context(), beside(begin.Add(tt.slot)))
			switch {
			case tt.want == "" && (err != nil || o.State != Won):
				t.Errorf("%s: got %q, %v", name, o.State, err)
			case tt.want != "" && (!errors.Is(err, ErrMisconfigured) || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%s: got %q, %v, want %q", name, o.State, err, tt.want)
			}
			if took := time.Since(begin); took > maxSpread {
				t.Errorf("%s: decided after %s", name, took)
			}
		})
	}
}

// A cron file that has other names each time it is read, and registers as large as they can be, which the application
// may write: what is kept of them is bounded. A job that goes on is not forgotten for it.
func TestForeignNamesAndTextsAreNotKept(t *testing.T) {
	s := claimant(t, &fakeS3{}, "i-0")
	s.s3.clock.heard.Store(&response{date: firstSlot, received: 2 * time.Hour}) // now
	r := register{tag: "1"}
	for i := range keptRuns {
		r.add(Run{Slot: firstSlot.Add(time.Duration(i) * time.Minute), Owner: "i-0", Nonce: "n"})
	}
	for i := range 3 * maxJobs {
		job := fmt.Sprint("job", i)
		s.remember(job, firstSlot, "other", r)
		s.count(job, Outcome{State: Won}, nil)
		kept := 0
		if i%maxJobs == 0 {
			for _, j := range s.jobs {
				kept += len(j.last.Runs) / keptRuns
			}
			if kept != s.known {
				t.Fatalf("after %d jobs %d registers are kept, counted %d", i, kept, s.known)
			}
		}
		if len(s.jobs) > maxJobs || len(s.counts.Won) > maxJobs || s.known > maxKnown {
			t.Fatalf("after %d jobs %d are kept, %d counted, %d registers", i, len(s.jobs), len(s.counts.Won), s.known)
		}
	}
	if s.cached(fmt.Sprint("job", 2*maxJobs)).tag == "" {
		t.Error("the first after all were forgotten is not kept")
	}
	for _, field := range []string{"owner", "nonce", "outcome"} {
		text := fmt.Sprintf(`{"version":1,"runs":[{"slot":"1999-01-01T00:00:00Z","owner":"o","nonce":"n",%q:%q}]}`, field, strings.Repeat("x", 1000))
		if _, err := parseRegister([]byte(text)); err == nil {
			t.Errorf("a %s of 1000 bytes is kept", field)
		}
	}
}

func TestFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ss := fleet(t, 2)
		mustClaim(t, ss[0], firstSlot, Won)
		if err := ss[1].Finish(t.Context(), "job", firstSlot, Result{Outcome: "exit 0"}); !errors.Is(err, ErrNotRecorded) {
			t.Errorf("another instance ended the run: %v", err)
		}
		mustClaim(t, ss[1], firstSlot.Add(time.Minute), Won) // its tag is stale now
		lost := 0
		f.after = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut && lost == 0 {
				lost++
				return abort(w, r)
			}
			return false
		}
		// The process that claimed is gone: a new one of the same instance knows how the run ended.
		if err := claimant(t, f, "i-0").Finish(t.Context(), "job", firstSlot, Result{Outcome: "exit 3"}); err != nil {
			t.Error(err)
		}
		r, _ := ss[1].Read(t.Context(), "job")
		if r.Runs[1].Outcome != "exit 3" || r.Runs[1].Finished.IsZero() || r.Runs[0].Outcome != "" || r.Runs[0].Owner != "i-1" {
			t.Errorf("got %+v", r.Runs)
		}
		if err := claimant(t, f, "i-0").Finish(t.Context(), "job", firstSlot, Result{Outcome: "exit 0"}); err != nil { // the retry
			t.Error(err)
		}
		if r, _ := ss[1].Read(t.Context(), "job"); r.Runs[1].Outcome != "exit 0" {
			t.Errorf("a retry's end does not show: %+v", r.Runs[1])
		}
	})
}

func TestNewTellsAllFaultsAtOnce(t *testing.T) {
	_, err := New(Config{Bucket: "Not_A_Bucket", Region: "eu west", Prefix: "/x//", Endpoint: "localhost"})
	for _, want := range []string{"environment", "owner", "credentials", `"Not_A_Bucket"`, `"eu west"`, `"/x//"`, "endpoint"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %s: %v", want, err)
		}
	}
}

func TestAddresses(t *testing.T) {
	for _, tt := range []struct{ region, bucket, endpoint, url, arn string }{
		{"eu-west-1", testBucket, "", "https://" + testBucket + ".s3.eu-west-1.amazonaws.com/", "arn:aws:s3:::" + testBucket},
		{"cn-north-1", "b-1", "", "https://b-1.s3.cn-north-1.amazonaws.com.cn/", "arn:aws-cn:s3:::b-1"},
		{"us-gov-west-1", "b-1", "", "https://b-1.s3.us-gov-west-1.amazonaws.com/", "arn:aws-us-gov:s3:::b-1"},
		{"eu-west-1", "a.b", "", "https://s3.eu-west-1.amazonaws.com/a.b/", "arn:aws:s3:::a.b"},
		{"eu-west-1", "b-1", "http://127.0.0.1:7070/", "http://127.0.0.1:7070/b-1/", "arn:aws:s3:::b-1"},
	} {
		s := storeAt(t, "", "i")
		c := s.config
		c.Bucket, c.Region, c.Endpoint = tt.bucket, tt.region, tt.endpoint
		b, err := newBucket(c)
		if err != nil || b.root+"/"+b.keys != tt.url+"beanstalk-agent/claims/e-abc/" || b.arn != tt.arn {
			t.Errorf("got %q, %q, %v, want %q, %q", b.root, b.arn, err, tt.url, tt.arn)
		}
	}
	for in, want := range map[string]string{"s3://b-1": "b-1|", "s3://b-1/": "b-1|", "s3://b-1/x/y/": "b-1|x/y", "b-1": "", "s3://B": "", "s3://b-1/a b": "", "s3://b-1/../x": "",
		"s3://b..1/x": "", "s3://192.168.5.4": "", "s3://b.1.2.3.4": "b.1.2.3.4|", "s3://b-s3alias/x": "b-s3alias|x"} {
		bucket, prefix, err := ParseURL(in)
		if got := bucket + "|" + prefix; (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%q: got %q, %v", in, got, err)
		}
	}
}

// FuzzRegister: anybody who may write to the bucket may write anything. What is accepted is whole, and
// can be claimed in, once, and read back.
func FuzzRegister(f *testing.F) {
	full := Register{Version: registerVersion}
	for i := range keptRuns {
		at := firstSlot.Add(time.Duration(i) * time.Minute)
		full.add(Run{Slot: at, Nonce: fmt.Sprint(i), Owner: "i-0", Claimed: at, Finished: at.Add(time.Second), Outcome: "exit 1"})
	}
	b, _ := full.encode()
	f.Add(b, int64(0), uint8(0))
	f.Add(b, int64(-60), uint8(0))
	f.Add(b, int64(keptRuns*60), uint8(0))
	for mode := range 256 {
		f.Add([]byte(`{"version":2,"runs":[{"slot":"1999-12-31T02:00:00Z","owner":"i-0","nonce":"n","claimed":"1999-12-31T02:00:00Z","until":"1999-12-31T02:09:00Z"},`+
			`{"slot":"1999-12-31T01:59:00Z","owner":"i-1","nonce":"m","claimed":"1999-12-31T01:59:00Z","until":"1999-12-31T01:59:30Z"}]}`), int64(mode%3-1)*60, uint8(mode))
	}
	for _, text := range []string{
		`{"version":1,"job":"a","runs":[{"slot":"2027-03-28T02:30:00+02:00","nonce":"n","claimed":"2027-03-28T00:30:00Z"}]}`,
		`{"version":1,"runs":null}`,
		`{"version":1,"runs":[]}}`, // as if a shorter one had been laid over a longer one
		`{"version":1,"runs":[]}]`,
		`{"version":3}`,
		`{"version":2,"paused":{"by":"x","since":"2027-03-28T00:30:00Z"},"runs":[{"slot":"2027-03-28T00:30:00Z","nonce":"n","until":"2027-03-28T00:35:00Z","output":"\u0000"}]}`,
		`{"version":1,"runs":[{"slot":"2027-03-28T00:30:00Z"}]}`,
		`{"version":1,"runs":[{"slot":"2027-03-28T00:30:00Z","nonce":"n"},{"slot":"2027-03-28T02:30:00+02:00","nonce":"m"}]}`,
		`{"version":1,"runs":[{"slot":"0001-01-01T00:00:00Z","nonce":"n"}]}`,
		`{"version":1,"runs":[{"slot":"9999-12-31T23:59:59-23:59","nonce":"<"},{"slot":"0000-01-01T00:00:00+23:59","nonce":"\ud800"}]}`,
	} {
		f.Add([]byte(text), int64(0), uint8(0))
	}
	f.Fuzz(func(t *testing.T, b []byte, seconds int64, mode uint8) {
		r, err := parseRegister(b)
		if err != nil {
			return
		}
		if !json.Valid(b) {
			t.Fatalf("%q was taken for a whole register", b)
		}
		for i, run := range r.Runs {
			if run.Nonce == "" || run.Slot.IsZero() || i > 0 && !r.Runs[i-1].Slot.After(run.Slot) {
				t.Fatalf("%q has run %d, %+v", b, i, run)
			}
		}
		slot := firstSlot.Add(time.Duration(seconds%(1<<32)) * time.Second)
		if _, ahead := r.ahead(slot); ahead {
			return
		}
		claimIn(t, r, slot, mode)
	})
}

// claimIn enters whatever claim mode says into a register, if that lets it, and checks what every claim must keep.
func claimIn(t *testing.T, r Register, slot time.Time, mode uint8) {
	q := beside(slot)
	q.Overlap = []Overlap{Skip, Queue, Replace, Allow}[mode%4]
	q.Manual, q.Rerun, q.Force = mode&4 != 0, mode&8 != 0, mode&16 != 0
	q.Attempt = int(mode>>5) % 4
	mine := ask{Request: q, nonce: "mine", mark: "mark", owner: "i-0", takeOver: mode&128 != 0}
	before := r.Live(slot)
	if o := mine.decide(r, slot); o.State != "" {
		return // as one whose nonce was guessed
	}
	next := r.clone()
	i := next.find(slot)
	if i >= 0 && !mine.takeOver {
		mine.nonce = next.Runs[i].Nonce
	}
	mine.enter(&next, slot, slot)
	b, err := next.encode()
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > maxRegister {
		t.Skip("longer than any of ours") // refused by whoever reads it, so nothing runs twice
	}
	back, err := parseRegister(b)
	if err != nil || len(back.Runs) > max(keptRuns, len(r.Runs)) {
		t.Fatalf("%s: %d runs, %v", b, len(back.Runs), err)
	}
	theirs := ask{Request: beside(slot), nonce: "theirs", owner: "i-1"}
	if a, b := mine.decide(back, slot).State, theirs.decide(back, slot).State; a != Won || b != Lost {
		t.Errorf("%+v: for the claimant %q, for another %q", back, a, b)
	}
	for _, run := range before {
		if i := back.find(run.Slot); i < 0 || back.Runs[i].Outcome != "" {
			t.Errorf("%+v is not in progress any more", run)
		}
	}
	if live := back.Live(slot); q.Overlap != Allow && !q.Force && len(live) != 1 {
		t.Errorf("%d live: %+v", len(live), live)
	}
}

// FuzzRefusal: what answers in S3's place may be a proxy, and say anything. The message is one printable line.
func FuzzRefusal(f *testing.F) {
	f.Add(403, `<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>User: x is not authorized</Message></Error>`)
	f.Add(404, `<Error><Code>NoSuchBucket</Code></Error>`)
	f.Add(412, ``)
	f.Add(301, `<Error><Code>PermanentRedirect</Code><Message>a&#xA;b&#x9B;31m</Message></Error>`)
	f.Add(502, `<html><body><h1>Bad Gateway</h1></body></html>`)
	f.Add(999, `<Error><Code>`+strings.Repeat("é", 5000)+`</Code></Error>`)
	b := &bucket{region: "us-east-1", arn: "arn:aws:s3:::b", keys: "k/"}
	f.Fuzz(func(t *testing.T, status int, body string) {
		e := refusal("GET", &http.Response{StatusCode: status}, []byte(body))
		err := b.explain(e)
		if text := err.Error(); len(text) > 1000 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || e.message == "" && e.code == "" {
			t.Errorf("%d %q: %q", status, body, text)
		}
	})
}

func FuzzObjectName(f *testing.F) {
	f.Add("nightly", "Nightly")
	f.Add("a b", "a_20b")
	f.Add("..", "a/../b")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := objectName(a), objectName(b)
		if (a == b) != (x == y) || a != "" && !prefixText.MatchString(x) {
			t.Errorf("%q and %q are named %q and %q", a, b, x, y)
		}
	})
}
