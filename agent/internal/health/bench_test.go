package health

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func benchChecker(b *testing.B, lifetime time.Duration) *Checker {
	b.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	b.Cleanup(s.Close)
	c, err := New(Config{Target: s.URL, Host: host("www.example.com"), Headers: production, Lifetime: lifetime, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// BenchmarkKeptVerdict is what almost every check costs.
func BenchmarkKeptVerdict(b *testing.B) {
	c := benchChecker(b, time.Hour)
	c.Check(b.Context())
	b.ReportAllocs()
	for b.Loop() {
		if !c.Check(b.Context()).Healthy {
			b.Fatal("unhealthy")
		}
	}
}

// BenchmarkProbe is one whole probe, the application's side included.
func BenchmarkProbe(b *testing.B) {
	c := benchChecker(b, -1)
	b.ReportAllocs()
	for b.Loop() {
		if v := c.Check(b.Context()); !v.Healthy {
			b.Fatal(v.Reason)
		}
	}
}
