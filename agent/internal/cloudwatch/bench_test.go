package cloudwatch

import (
	"fmt"
	"testing"
	"time"

	"beanstalk-agent/collectors"
)

// hostBatch is what one tick of sixty series brings.
func hostBatch(at time.Time) collectors.Batch {
	b := collectors.Batch{At: at}
	for i := range 60 {
		b.Samples = append(b.Samples, sample(fmt.Sprintf("metric_%d", i), float64(i), "group", "web"))
	}
	return b
}

// filled is a publisher with a minute of five-second samples.
func filled(b testing.TB) *Publisher {
	p := newPublisher(b, config())
	batch := hostBatch(noon)
	for i := range 12 {
		batch.At = noon.Add(time.Duration(i) * 5 * time.Second)
		for j := range batch.Samples {
			batch.Samples[j].Value += float64(j % 3)
		}
		p.Add(batch)
	}
	return p
}

// A tick must allocate nothing: it comes every five seconds for months.
func BenchmarkAdd(b *testing.B) {
	p, batch := newPublisher(b, config()), hostBatch(noon)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		p.Add(batch)
		if i++; i%12 == 0 {
			for _, w := range p.aggregate.take(noon.Add(time.Hour), false) {
				p.aggregate.recycle(w)
			}
		}
	}
}

func TestSteadyAddAllocatesNothing(t *testing.T) {
	p, batch := newPublisher(t, config()), hostBatch(noon)
	minute := func() {
		for range 12 {
			p.Add(batch)
		}
		for _, w := range p.aggregate.take(noon.Add(time.Hour), false) {
			p.aggregate.recycle(w)
		}
	}
	minute()
	if n := testing.AllocsPerRun(20, minute); n > 1 { // the slice that take returns
		t.Errorf("a minute of steady ticks allocates %v times", n)
	}
}

func BenchmarkDatums(b *testing.B) {
	p := filled(b)
	b.ReportAllocs()
	for b.Loop() {
		p.Preview()
	}
}

func BenchmarkEncodeRecord(b *testing.B) {
	ds := filled(b).Preview().Datums
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		rec, err := encodeRecord("App", noon, ds)
		if err != nil {
			b.Fatal(err)
		}
		n = len(rec)
	}
	b.ReportMetric(float64(n), "bytes/record")
}

func BenchmarkDecodeRecord(b *testing.B) {
	rec, err := encodeRecord("App", noon, filled(b).Preview().Datums)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, _, err := decodeRecord(rec); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkInput(b *testing.B) {
	ds := filled(b).Preview().Datums
	b.ReportAllocs()
	for b.Loop() {
		input("App", noon, ds)
	}
}
