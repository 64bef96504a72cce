package scheduler

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// tenThousand is a cron.yaml as a large application might have it: n jobs over a few
// hundred schedules and some zones.
func tenThousand(n int) string {
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"}
	var b strings.Builder
	b.WriteString("version: 1\ncron:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - name: job-%d\n    schedule: \"%d %d * * *\"\n    command: python manage.py job --n %d\n    timezone: %s\n    overlap: skip\n",
			i, i%60, i%24, i, zones[i%len(zones)])
	}
	return b.String()
}

func tenThousandLines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%d %d * * * python manage.py job --n %d\n", i%60, i%24, i)
	}
	return b.String()
}

func BenchmarkParseYAML10000(b *testing.B) {
	data := []byte(tenThousand(10_000))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("cron.yaml", data, ParseOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseCrontab10000(b *testing.B) {
	data := []byte(tenThousandLines(10_000))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("crontab", data, ParseOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoad10000(b *testing.B) {
	tab := mustParse(b, "cron.yaml", tenThousand(10_000))
	b.ReportAllocs()
	for b.Loop() {
		New(Config{}).SetTable(tab)
	}
}

// BenchmarkEntryMemory reports what one job costs at rest, its text included.
func BenchmarkEntryMemory(b *testing.B) {
	const n = 10_000
	data := []byte(tenThousand(n))
	live := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for b.Loop() {
		before := live()
		tab, err := Parse("cron.yaml", data, ParseOptions{})
		if err != nil {
			b.Fatal(err)
		}
		parsed := live()
		s := New(Config{})
		s.SetTable(tab)
		clear(s.dirty) // goes to Save, once
		tab = Table{}
		b.ReportMetric(float64(parsed-before)/n, "B/parsed-job")
		b.ReportMetric(float64(live()-before)/n, "B/job")
		runtime.KeepAlive(s)
	}
}

func BenchmarkNext(b *testing.B) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		b.Fatal(err)
	}
	for _, expr := range []string{"* * * * *", "30 2 * * *", "*/5 9-17 * * mon-fri", "0 0 1 1 *", "@every 90s"} {
		b.Run(strings.ReplaceAll(expr, " ", "_"), func(b *testing.B) {
			s, err := parseSchedule(expr, false, berlin)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			t := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
			for b.Loop() {
				t = s.Next(t)
			}
		})
	}
}

// BenchmarkFire measures the scheduler's own work for one run, a thousand jobs being due
// in each second of a clock that the benchmark turns.
func BenchmarkFire(b *testing.B) {
	const jobs = 1000
	var text strings.Builder
	text.WriteString("cron:\n")
	for i := range jobs {
		fmt.Fprintf(&text, "- {name: j%d, schedule: '* * * * * *', seconds: true, command: x}\n", i)
	}
	now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	var ran atomic.Int64
	s := New(Config{
		Runner: runnerFunc(func(context.Context, Firing) error { ran.Add(1); return nil }),
		Now:    func() time.Time { return now },
		Save:   func(map[string]SavedJob) error { return nil },
	})
	s.SetTable(mustParse(b, "cron.yaml", text.String()))
	s.start(b.Context())
	b.ReportAllocs()
	rounds := 0
	for b.Loop() {
		now = now.Add(time.Second)
		s.mono = time.Time{} // the clock is turned, not stepped
		s.tick()
		s.runs.Wait()
		s.saveNow()
		rounds++
	}
	if ran.Load() != int64(rounds*jobs) {
		b.Fatalf("%d runs in %d seconds, want %d each", ran.Load(), rounds, jobs)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(ran.Load()), "ns/run")
}

// BenchmarkLateness reports how long after the second a run reaches the Runner, on the
// real clock: one second an iteration, so run it with -benchtime 30x on an idle machine.
func BenchmarkLateness(b *testing.B) {
	late := make(chan time.Duration)
	s := New(Config{Runner: runnerFunc(func(_ context.Context, f Firing) error {
		late <- time.Since(f.Due)
		return nil
	})})
	s.SetTable(mustParse(b, "cron.yaml", "cron:\n- {name: a, schedule: '* * * * * *', seconds: true, command: x, overlap: allow}\n"))
	ctx, cancel := context.WithCancel(b.Context())
	var all []time.Duration
	var done sync.WaitGroup
	done.Go(func() { s.Run(ctx) })
	for b.Loop() {
		all = append(all, <-late)
	}
	cancel()
	go func() {
		for range late {
		}
	}()
	done.Wait()
	close(late)
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "median-µs")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
}
