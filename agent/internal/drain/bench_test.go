package drain

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
)

// BenchmarkTerminationPoll is what the watch costs every five seconds, the other side included.
func BenchmarkTerminationPoll(b *testing.B) {
	f := &fakeMetadata{token: "t", paths: map[string]string{"autoscaling/target-lifecycle-state": "InService"}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resp, err := f.RoundTrip(r)
		if err != nil {
			b.Error(err)
			return
		}
		w.WriteHeader(resp.StatusCode)
		io.Copy(w, resp.Body)
	}))
	b.Cleanup(s.Close)
	watch := &TerminationWatch{Endpoint: s.URL, Log: slog.New(slog.DiscardHandler), OnNotice: func(Termination) {}}
	watch.init()
	b.ReportAllocs()
	for b.Loop() {
		if err := watch.poll(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
