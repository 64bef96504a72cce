package platform

import "testing"

// BenchmarkDetect is part of the time from start to ready.
func BenchmarkDetect(b *testing.B) {
	root := tree(b, al2023)
	b.ReportAllocs()
	for b.Loop() {
		if f := Detect(b.Context(), Options{Root: root}); !f.Beanstalk {
			b.Fatal(f)
		}
	}
}
