package supervisor

import (
	"context"
	"os/exec"
	"testing"

	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
)

// What the supervisor adds to fork and exec: a session's whole life, without the client's own start.
func BenchmarkExecTrue(b *testing.B) {
	d := start(b)
	req := argv("true")
	null := devNull(b)
	b.ReportAllocs()
	for b.Loop() {
		s, err := openSession(d.Client, func(h runs.Handover) error {
			h.Files = []int{null, null, null}
			_, err := d.Start(context.Background(), req, h)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
		if code, err := s.Run(b.Context(), session.Options{}); code != 0 || err != nil {
			b.Fatal(code, err)
		}
	}
}

func BenchmarkForkExecTrue(b *testing.B) {
	for b.Loop() {
		if err := exec.Command("true").Run(); err != nil {
			b.Fatal(err)
		}
	}
}

// Reason: pebble's exec grows slower with its history.
func BenchmarkStartWithHistory(b *testing.B) {
	for _, n := range []int{0, 1000} {
		b.Run(map[int]string{0: "none", 1000: "1000 runs"}[n], func(b *testing.B) {
			d := start(b)
			req := argv("true")
			req.IO = runs.IOSpool
			for range n {
				d.Start(b.Context(), req, runs.Handover{})
			}
			b.ResetTimer()
			for b.Loop() {
				run, err := d.Start(b.Context(), req, runs.Handover{})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := d.Wait(b.Context(), run.ID); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
