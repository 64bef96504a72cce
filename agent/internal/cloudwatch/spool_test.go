package cloudwatch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"beanstalk-agent/collectors"
)

func openTestSpool(t *testing.T, dir string, limit int64) *spool {
	t.Helper()
	s, err := openSpool(dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func someDatums() []Datum {
	return []Datum{
		{"mem_used_percent", "Percent", map[string]string{"EnvironmentName": "shop"}, 15, []float64{10, 20}, []float64{1, 1}},
		{"m", "None", map[string]string{}, 0.1, []float64{0.1}, []float64{3}},
	}
}

func TestRecordComesBackEqual(t *testing.T) {
	rec, err := encodeRecord("App", noon, someDatums())
	if err != nil {
		t.Fatal(err)
	}
	ns, at, ds, err := decodeRecord(rec)
	if err != nil || ns != "App" || !at.Equal(noon) || !reflect.DeepEqual(ds, someDatums()) {
		t.Errorf("got %q, %v, %+v, %v", ns, at, ds, err)
	}
}

// A power loss leaves files short, empty or full of zeros; each must be refused, never sent in part.
func TestDamagedRecordsAreRefused(t *testing.T) {
	rec, _ := encodeRecord("App", noon, someDatums())
	for i := range rec {
		if _, _, _, err := decodeRecord(rec[:i]); err == nil {
			t.Fatalf("accepted the first %d of %d bytes", i, len(rec))
		}
		bad := bytes.Clone(rec)
		bad[i] ^= 0x20
		if _, _, _, err := decodeRecord(bad); err == nil {
			t.Fatalf("accepted a changed byte %d", i)
		}
	}
	if _, _, _, err := decodeRecord(make([]byte, 4096)); err == nil {
		t.Error("accepted zeros")
	}
}

// FuzzDecodeRecord: a disk may give back anything. What is accepted is whole, can be sent, and kept again.
func FuzzDecodeRecord(f *testing.F) {
	rec, _ := encodeRecord("App", noon, someDatums())
	f.Add(rec)
	f.Add([]byte(recordHead + "00000000 0\n"))
	_, body, _ := bytes.Cut(rec, []byte("\n")) // sealed below
	f.Add(body)
	for _, text := range []string{
		`{"namespace":"App","at":1,"datums":[{"n":"m","u":"Percent","d":{"A":"b"},"v":[1,2],"c":[2,1e-3]}]}`,
		`{"namespace":"App","at":1,"datums":[{"n":"m","u":"None","d":null,"v":[1]}]}{}`,
		`{"namespace":"App","at":9223372036854775807,"datums":[{"n":"m","u":"None","d":{},"v":[1e300,-1e300]}]}`,
		`{"namespace":"App","at":1,"datums":[{"n":"m","u":"None","d":{},"v":[1,2],"c":[1]}]}`,
		`{"namespace":"AWS/EC2","at":1,"datums":[{"n":"","u":"x","d":{":a":""},"v":[],"c":[0]}]}`,
		`{"namespace":"App","at":1,"datums":[{"n":"\ud800","u":"None","d":{},"v":[5e-324],"c":[1]}]}`,
		`{"namespace":"App","at":1,"datums":[{"n":"m","u":"None","d":{},"v":[1,2],"c":[-0,-1]}]}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		check := func(b []byte) {
			ns, at, ds, err := decodeRecord(b)
			if err != nil {
				return
			}
			if _, body, _ := bytes.Cut(b, []byte("\n")); !json.Valid(body) {
				t.Fatalf("%q was taken for a whole record", body)
			}
			for _, d := range ds {
				if len(d.Counts) != len(d.Values) || slices.ContainsFunc(d.Counts, func(n float64) bool { return !(n > 0) }) || math.IsNaN(d.Value) || math.IsInf(d.Value, 0) {
					t.Fatalf("accepted %+v", d)
				}
			}
			for _, part := range requests(ds) {
				again, err := encodeRecord(ns, at, part)
				if err != nil {
					t.Fatal(err)
				}
				ns2, at2, back, err := decodeRecord(again)
				if err != nil || ns2 != ns || !at2.Equal(at) || !reflect.DeepEqual(back, part) {
					t.Fatalf("got %q, %v, %+v, %v, want %q, %v, %+v", ns2, at2, back, err, ns, at, part)
				}
				input(ns, at, part)
			}
		}
		check(b)
		check(sealed(b)) // past the checksum, where the parser is
	})
}

func FuzzEntryName(f *testing.F) {
	f.Add("000000000001-1795348800-12.new")
	f.Add("000000000001-1795348800-12.sent3")
	f.Fuzz(func(t *testing.T, name string) {
		if e, ok := parseEntry(name); ok && (e.name() != name || e.datums <= 0 || strings.Contains(name, "/")) {
			t.Errorf("%q was taken for %q", name, e.name())
		}
	})
}

// sealed puts a right head before a body.
func sealed(body []byte) []byte {
	return append(fmt.Appendf(nil, "%s%08x %d\n", recordHead, crc32.Checksum(body, castagnoli), len(body)), body...)
}

func TestSpoolSurvivesAndRemembers(t *testing.T) {
	dir := t.TempDir()
	s := openTestSpool(t, dir, 1<<20)
	a, _ := s.put(noon, 3, []byte("a"))
	b, _ := s.put(noon.Add(time.Minute), 4, []byte("bb"))
	s.mark(b, 2)
	os.WriteFile(filepath.Join(dir, ".tmp-x"), nil, 0o600)
	os.WriteFile(filepath.Join(dir, "README"), []byte("not ours"), 0o600)

	s = openTestSpool(t, dir, 1<<20)
	if len(s.entries) != 2 || s.disk != 3 || s.entries[0].seq != a.seq || s.entries[1].ambiguous != 2 || s.entries[1].datums != 4 || !s.entries[0].at.Equal(noon) {
		t.Fatalf("got %+v", s.entries)
	}
	c, _ := s.put(noon, 1, []byte("c"))
	if c.seq <= b.seq {
		t.Errorf("sequence %d after %d", c.seq, b.seq)
	}
	s.remove(s.entries[0])
	if rec, err := s.load(s.entries[0]); err != nil || string(rec) != "bb" {
		t.Errorf("got %q, %v", rec, err)
	}
	files, _ := os.ReadDir(dir)
	if len(files) != 3 {
		t.Errorf("%d files: want two batches and the stranger's", len(files))
	}
	for _, f := range files {
		if info, _ := f.Info(); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f.Name(), info.Mode())
		}
	}
}

func TestSpoolOrder(t *testing.T) {
	s := openTestSpool(t, t.TempDir(), 1<<20)
	old, _ := s.put(noon, 1, []byte("x"))
	mid, _ := s.put(noon.Add(time.Minute), 1, []byte("x"))
	s.startInterval()
	fresh, _ := s.put(noon.Add(2*time.Minute), 1, []byte("x"))
	now := noon.Add(3 * time.Minute)
	for _, want := range []*entry{fresh, old, mid} {
		got := s.pick(now)
		if got != want {
			t.Fatalf("picked %v, want %v", got, want)
		}
		got.tried = true
		if again := s.pick(now); got != mid && again != old {
			t.Fatalf("after %v failed picked %v", got, again)
		}
		s.remove(got)
	}
	s.put(now.Add(3*time.Hour), 1, []byte("x"))
	if got := s.pick(now); got != nil {
		t.Errorf("picked %v, which CloudWatch would refuse as of the future", got)
	}
	if got := s.pick(now.Add(2 * time.Hour)); got == nil {
		t.Error("a batch of the future is never sent")
	}
}

// Whatever the clock does, an interval ends: none is held open by a time that does not come again.
func TestClockSteps(t *testing.T) {
	add := func(f *aggregate, at time.Time) { f.add(at, sample("m", 1)) }
	starts := func(ws []*window) (out []string) {
		for _, w := range ws {
			out = append(out, w.start.Format("15:04"))
		}
		return out
	}
	for _, tt := range []struct {
		name string
		at   []time.Duration // of samples, from noon
		now  time.Duration
		want []string
	}{
		{"none", []time.Duration{0, 30 * time.Second}, time.Minute, []string{"12:00"}},
		{"an hour ahead", []time.Duration{0, time.Hour}, time.Hour + 5*time.Second, []string{"12:00"}},
		{"an hour back", []time.Duration{0, -time.Hour}, -time.Hour + 5*time.Second, []string{"12:00"}},
		{"back within the minute", []time.Duration{40 * time.Second, 10 * time.Second}, 20 * time.Second, nil},
		{"there and back", []time.Duration{0, time.Hour, 5 * time.Second}, 65 * time.Second, []string{"12:00", "13:00"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newAggregate(time.Minute)
			for _, d := range tt.at {
				add(f, noon.Add(d))
			}
			if got := starts(f.take(noon.Add(tt.now), false)); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("closed %v, want %v", got, tt.want)
			}
		})
	}
	p := newPublisher(t, config())
	p.next.boundary = noon.Add(time.Hour)
	if !p.intervalOver(noon) {
		t.Error("an interval that ends an hour after the clock was stepped back stays open")
	}
}

// A state directory that cannot be made costs the spool, not the metrics.
func TestNoDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		file := filepath.Join(t.TempDir(), "file")
		os.WriteFile(file, nil, 0o600)
		w.config.SpoolDir = filepath.Join(file, "spool")
		p, stop := w.start()
		w.sample(p, 3*time.Minute)
		time.Sleep(10 * time.Second)
		stop()
		w.check(p)
		if !strings.Contains(w.logs.String(), "not a directory") {
			t.Errorf("it is not logged: %s", &w.logs)
		}
	})
}

// Files that are not ours to send are dropped with their reason, and do not stop the others.
func TestUnreadableAndOldRecordsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := openTestSpool(t, w.config.SpoolDir, 1<<20)
		s.put(time.Now(), 7, []byte("torn"))
		old := time.Now().Add(-15 * 24 * time.Hour)
		rec, _ := encodeRecord("BeanstalkAgent", old, someDatums())
		s.put(old, 2, rec)
		p, stop := w.start()
		w.sample(p, 3*time.Minute)
		time.Sleep(10 * time.Second)
		stop()
		if s := p.Status(); s.Dropped != 9 || s.Spooled != 0 || len(w.arrived()) != len(w.added) || w.count("metrics_dropped") != 9 {
			t.Errorf("got %+v, published %v", s, w.count("metrics_dropped"))
		}
		for _, r := range w.fake.Requests() { // an old datum is known to be refused: it is not tried
			if r.Status != 200 {
				t.Errorf("a request was answered %d %s", r.Status, r.Code)
			}
		}
	})
}

func TestRequestsStayWithinLimits(t *testing.T) {
	var ds []Datum
	values := make([]float64, maxValues)
	for range 1500 {
		ds = append(ds, Datum{Name: "m", Unit: "None", Values: values[:1], Counts: values[:1]})
	}
	for range 1500 {
		ds = append(ds, Datum{Name: "m", Unit: "None", Values: values, Counts: values})
	}
	total := 0
	for _, part := range requests(ds) {
		size := 0
		for _, d := range part {
			size += d.size()
		}
		if len(part) > maxDatums || size > maxBody {
			t.Errorf("a request of %d datums, %d bytes", len(part), size)
		}
		total += len(part)
	}
	if total != len(ds) || requests(nil) != nil {
		t.Errorf("%d of %d datums", total, len(ds))
	}
}

func TestOwnSeriesCostNothingInPeace(t *testing.T) {
	p := newPublisher(t, config())
	p.Add(collectors.Batch{At: noon, Samples: []collectors.Sample{sample("m", 1)}})
	p.mu.Lock()
	p.addOwnLocked(p.aggregate.newest())
	p.mu.Unlock()
	if n := len(p.Preview().Datums); n != 1 {
		t.Errorf("%d series, want the sampled one", n)
	}
}
