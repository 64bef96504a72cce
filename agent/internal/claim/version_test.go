package claim

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"beanstalk-agent/packaging/testbed/versity"
)

const registerPath = "/" + testBucket + "/beanstalk-agent/claims/e-abc/job.json"

// version1 is what an agent of version 1 accepts as a register, as of its last commit: version, order, nonces, lengths.
func version1(b []byte) error {
	var r struct {
		Version int `json:"version"`
		Runs    []struct {
			Slot                  time.Time
			Owner, Nonce, Outcome string
		} `json:"runs"`
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return err
	}
	if r.Version != 1 {
		return fmt.Errorf("it has version %d and this agent knows 1", r.Version)
	}
	return nil
}

// An agent of version 1 beside a present one. What it claimed is in no other's way for longer than an hour by the clock it
// wrote; what a present one wrote it refuses, so that it runs nothing: TestFleetOfTwoVersions has real ones of both.
func TestARegisterOfVersion1(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ss := fleet(t, 2)
		old := fmt.Sprintf(`{"version": 1, "job": "job", "runs": [
			{"slot": "1999-12-31T02:03:00Z", "owner": "i-old", "nonce": "c", "claimed": %q},
			{"slot": "1999-12-31T02:02:00Z", "owner": "i-old", "nonce": "b", "claimed": "1999-12-31T02:02:00Z"},
			{"slot": "1999-12-31T02:01:00Z", "owner": "i-old", "nonce": "a", "claimed": "1999-12-31T02:01:00Z", "finished": "1999-12-31T02:01:01Z", "outcome": "exit 0"}]}`,
			time.Now().UTC().Format(time.RFC3339))
		if err := version1([]byte(old)); err != nil {
			t.Fatal(err)
		}
		f.objects = map[string][]byte{registerPath: []byte(old)}
		claimed(t, ss[0], alone(minute(3), Skip), Lost)
		if o := claimed(t, ss[0], alone(minute(4), Skip), Busy); o.By.Nonce != "c" || o.Again > time.Hour+time.Minute || o.Again < 59*time.Minute {
			t.Errorf("%+v", o)
		}
		if f.puts != 0 {
			t.Error("a refused claim wrote")
		}
		beside := claimed(t, ss[0], beside(minute(4)), Won)
		if len(beside.Expired) != 1 || beside.Expired[0].Nonce != "b" {
			t.Errorf("lost: %+v", beside.Expired)
		}
		if err := ss[0].Told(t.Context(), "job"); err != nil {
			t.Error(err)
		}
		if err := version1(f.objects[registerPath]); err == nil || !strings.Contains(err.Error(), "version 2") {
			t.Errorf("an agent of version 1 takes what was written: %v", err)
		}
		claimed(t, ss[1], alone(minute(5), Skip), Busy)
		time.Sleep(time.Hour + time.Minute)
		if o := claimed(t, ss[1], alone(minute(5), Skip), Won); len(o.Expired) != 1 || o.Expired[0].Nonce != "c" {
			t.Errorf("lost: %+v", o.Expired)
		}
	})
}

// Whoever may write the bucket may write anything. What no agent writes is a misconfiguration, said with the object and what
// to do, and never overwritten; nothing else stops a job for longer than it says.
func TestHostileRegisters(t *testing.T) {
	run := func(fields string) string {
		return `{"version":2,"runs":[{"slot":"1999-12-31T02:00:00Z","owner":"i-x","nonce":"n","claimed":"1999-12-31T02:00:00Z"` + fields + `}]}`
	}
	long := strings.Repeat("x", maxText+1)
	for name, tt := range map[string]struct{ body, want string }{
		"of the future":     {`{"version":3,"jobs":7}`, "version 3 and this agent knows 2: a newer agent has written it, upgrade this one"},
		"with its writer":   {`{"version":3,"runs":[{"owner":"i-new\u001b"}]}`, "a newer agent, perhaps i-new , has written it"},
		"of another shape":  {`{"version":2,"runs":{"a":1}}`, "it is no register"},
		"none":              {`[]`, "it is no register"},
		"no version":        {`{"runs":[]}`, "it is no register: version 0"},
		"endless until":     {run(`,"until":"9999-12-31T23:59:59Z"`), "in the future by the store's clock"},
		"until of hours":    {run(`,"until":"2000-01-01T02:00:00Z"`), "in the future by the store's clock"},
		"claimed next year": {run(`,"until":"2000-01-01T00:00:01Z","claimed":"2001-01-01T00:00:00Z"`), "in the future by the store's clock"},
		"huge":              {run(`,"output":"` + strings.Repeat("x", maxRegister) + `"`), "more than 65536 bytes"},
		"long output":       {run(`,"output":"` + strings.Repeat("x", 5*maxOutput) + `"`), "run 1 has a text"},
		"long command":      {run(`,"command":"` + long + `"`), "run 1 has a text"},
		"long lost_by":      {run(`,"lost_by":"` + long + `"`), "run 1 has a text"},
		"long pause":        {`{"version":2,"paused":{"by":"` + long + `"},"runs":[]}`, "paused by a text"},
		"two of a slot":     {strings.Replace(run(``), `"}]`, `"},{"slot":"1999-12-31T02:00:00Z","nonce":"m"}]`, 1), "out of order"},
		"a deep one":        {strings.Repeat(`{"paused":`, 6_000), "it is no register"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, ss := fleet(t, 1)
				f.objects = map[string][]byte{registerPath: []byte(tt.body)}
				q := alone(time.Now(), Skip)
				q.Window = 2 * time.Second
				ctx, cancel := contextOf(t, 10*time.Second)
				defer cancel()
				_, err := ss[0].Claim(t.Context(), q)
				errs := []error{err, ss[0].SetPause(ctx, "job", &Pause{By: "ops"}), ss[0].Finish(ctx, "job", firstSlot, Result{Outcome: "exit 0"})}
				for _, err := range errs {
					if !errors.Is(err, ErrMisconfigured) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "e-abc/job.json") || len(err.Error()) > 700 || strings.Contains(err.Error(), "\x1b") {
						t.Errorf("got %v, want %q", err, tt.want)
					}
				}
				if string(f.objects[registerPath]) != tt.body {
					t.Error("it was overwritten")
				}
			})
		})
	}
}

// A run that somebody else keeps alive for as long as a register may say is in the way for that long, and then lost.
func TestAForgedRunIsInTheWayForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ss := fleet(t, 1)
		until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
		f.objects = map[string][]byte{registerPath: []byte(`{"version":2,"runs":[{"slot":"1999-12-31T02:00:00Z","owner":"i-forged","nonce":"n","claimed":"1999-12-31T02:00:00Z","until":"` + until + `"}]}`)}
		if o := claimed(t, ss[0], alone(minute(1), Skip), Busy); o.By.Owner != "i-forged" {
			t.Errorf("%+v", o)
		}
		time.Sleep(time.Hour + time.Second)
		claimed(t, ss[0], alone(minute(2), Skip), Won)
	})
}

// A store that does not say what time it is cannot say who is alive.
func TestAStoreWithoutAClock(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Date"] = nil
		w.WriteHeader(http.StatusNotFound)
		w.Write(errorXML("NoSuchKey"))
	}))
	defer server.Close()
	_, err := storeAt(t, server.URL, "i").Claim(t.Context(), Request{Job: "job", Slot: time.Now(), Window: time.Second / 2})
	if !errors.Is(err, ErrMisconfigured) || !strings.Contains(err.Error(), "without a Date") {
		t.Error(err)
	}
}

// What is written is never larger than what is read, however much output there is and whatever JSON makes of it.
func TestOutputIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ss := fleet(t, 1)
		for i := range keptRuns {
			claimed(t, ss[0], beside(minute(i)), Won)
			output := strings.Repeat("\x01", 3*maxOutput) + "é the end"
			if err := ss[0].Finish(t.Context(), "job", minute(i), Result{Outcome: strings.Repeat("\x02", 300), Output: output}); err != nil {
				t.Fatal(err)
			}
		}
		r, err := ss[0].Read(t.Context(), "job")
		if err != nil || len(r.Runs) != keptRuns {
			t.Fatal(err)
		}
		if out := r.Runs[0].Output; len(out) > maxOutput || !strings.HasSuffix(out, "é the end") {
			t.Errorf("%d bytes, %q", len(out), out[max(0, len(out)-20):])
		}
		if r.Runs[keptRuns-1].Output != "" || r.Runs[1].Output == "" {
			t.Error("not the oldest output was dropped")
		}
	})
	if got := (Result{Output: strings.Repeat("é", maxOutput)}).clipped().Output; len(got) > maxOutput || strings.Contains(got, "?") {
		t.Errorf("%d bytes, %.20q", len(got), got)
	}
}

// Whoever may write the bucket fills a register with texts that JSON makes longer, as many as an agent reads: what is
// written back is still read, by this agent and by those before it.
func TestHostileTextsDoNotGrow(t *testing.T) {
	bodies := map[string]string{}
	for name, text := range map[string]string{
		"quotes": `\"`, "backslashes": `\\`, "line separators": "\u2028", "controls": `\u0001`, "markup": "<&>", "no characters": "\xff", "tabs": `\t`,
	} {
		var decoded string
		json.Unmarshal([]byte(`"`+text+`"`), &decoded)
		long := strings.Repeat(text, maxText/len(decoded))
		var runs []string
		size := 0
		for i := range keptRuns {
			fields := fmt.Sprintf(`{"slot":%q,"claimed":"1999-12-31T02:00:00.000000001+23:59","renewed":"1999-12-31T02:00:00.000000001+23:59",`+
				`"limit":"1999-12-31T02:00:00.000000001+23:59","finished":"1999-12-31T02:00:00.000000001+23:59","attempt":-9223372036854775808,"manual":true,`+
				`"nonce":"%s","outcome":"%[2]s"`, minute(-i).Format(time.RFC3339), long)
			for _, key := range []string{"owner", "environment", "command", "replaced_by", "lost_by", "taken_from", "output"} {
				if more := fmt.Sprintf(`,%q:"%s"`, key, long); size+len(fields)+len(more) < (maxRegister-1600)/keptRuns*(i+1) {
					fields += more
				}
			}
			fields += fmt.Sprintf(`,"untold":{"by":"%s"}`, strings.Repeat(text, 10))
			size += len(fields) + 2
			runs = append(runs, fields+"}")
		}
		body := fmt.Sprintf(`{"version":2,"paused":{"by":"%.100s","since":"1999-12-31T02:00:00Z"},"runs":[%s]}`, "ops", strings.Join(runs, ","))
		if len(body) > maxRegister {
			t.Fatalf("%s: the test's own register has %d bytes", name, len(body))
		}
		bodies[name] = body
	}
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf(`{"slot":%q,"nonce":"n"}`, minute(-i).Format(time.RFC3339)))
	}
	bodies["many runs"] = `{"version":2,"paused":{"by":"ops","since":"1999-12-31T02:00:00Z"},"runs":[` + strings.Join(many, ",") + "]}"
	for name, body := range bodies {
		synctest.Test(t, func(t *testing.T) {
			f, ss := fleet(t, 2)
			f.objects = map[string][]byte{registerPath: []byte(body)}
			if err := ss[0].SetPause(t.Context(), "job", nil); err != nil {
				t.Fatal(name, err)
			}
			for i := range 3 {
				claimed(t, ss[i%2], beside(minute(i+1)), Won)
				written := f.objects[registerPath]
				var raw Register
				if err := json.Unmarshal(written, &raw); err != nil || len(written) > maxRegister || len(raw.Runs) != keptRuns {
					t.Fatalf("%s: of %d bytes %d were written, %d runs, %v", name, len(body), len(written), len(raw.Runs), err)
				}
				if i == 0 {
					t.Logf("%s: of %d bytes %d are written", name, len(body), len(written))
				}
			}
		})
	}
}

// Other environments' registers are found with one request to a real gateway, this one's own and locks are not among them,
// and a name comes back as it was.
func TestOthers(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a gateway")
	}
	url := versity.Start(t, testBucket)[0]
	store := func(c Config) *Store {
		base := storeAt(t, url, "i-1").config
		base.Environment, base.Group = c.Environment, c.Group
		s, err := New(base)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	own, worker, shared := store(Config{Environment: "e-abc"}), store(Config{Environment: "prod-worker"}), store(Config{Environment: "e-abc", Group: "blue & green"})
	for _, s := range []*Store{own, worker, shared} {
		for _, job := range []string{"nightly", "größe/ä _20", LockPrefix + "db"} {
			q := Request{Job: job, Slot: firstSlot, Window: window, Command: "abc", Manual: isLock(job)}
			if o, err := s.Claim(t.Context(), q); err != nil || o.State != Won {
				t.Fatal(o, err)
			}
		}
	}
	list, whole, err := own.Others(t.Context())
	var got []string
	for _, o := range list {
		got = append(got, o.Environment+"|"+o.Group+"|"+o.Job)
		r, err := own.ReadOther(t.Context(), o)
		if err != nil || len(r.Runs) != 1 || r.Runs[0].Command != "abc" || time.Since(o.Modified).Abs() > time.Hour {
			t.Errorf("%+v: %+v, %v", o, r, err)
		}
		if want := map[bool]string{true: "e-abc"}[o.Group != ""]; r.Runs[0].Environment != want {
			t.Errorf("ran by %+v", r.Runs[0])
		}
	}
	const want = "|blue & green|größe/ä _20 |blue & green|nightly prod-worker||größe/ä _20 prod-worker||nightly"
	if strings.Join(got, " ") != want || !whole || err != nil {
		t.Errorf("got %q, %v, %v, want %q", got, whole, err, want)
	}
	if _, _, err := storeAt(t, versity.Careless(t), "i").Others(t.Context()); err == nil {
		t.Error("a store that lists nothing is taken for empty")
	}
}

// However many there are, a look ends.
func TestOthersOfAnEndlessBucket(t *testing.T) {
	n := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		if token := r.URL.Query().Get("continuation-token"); n > 1 && token != fmt.Sprint("t&", n-1) {
			t.Errorf("page %d has token %q", n, token)
		}
		fmt.Fprintf(w, `<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t&amp;%d</NextContinuationToken>`, n)
		for i := range 1000 {
			fmt.Fprintf(w, `<Contents><Key>beanstalk-agent/claims/e%d/j%d.json</Key><LastModified>2026-11-30T00:00:00.000Z</LastModified></Contents>`, n, i)
		}
		fmt.Fprint(w, `</ListBucketResult>`)
	}))
	defer server.Close()
	list, whole, err := storeAt(t, server.URL, "i").Others(t.Context())
	if err != nil || whole || len(list) != 1000*maxPages || list[0].Job != "j0" || n != maxPages {
		t.Errorf("%d in %d pages, %v, %v", len(list), n, whole, err)
	}
}

func FuzzNameOf(f *testing.F) {
	f.Add("a_20b", "nightly")
	f.Add("_", "_2")
	f.Add("_2F", "_2f")
	f.Add(".", "_2e")
	f.Fuzz(func(t *testing.T, key, name string) {
		if got, ok := nameOf(key); ok && objectName(got) != key {
			t.Errorf("%q is named %q, whose key is %q", key, got, objectName(got))
		}
		if got, ok := nameOf(objectName(name)); name != "" && (!ok || got != name) {
			t.Errorf("%q comes back as %q", name, got)
		}
	})
}
