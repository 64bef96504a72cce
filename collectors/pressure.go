package collectors

import "bytes"

// pressure is one file under /proc/pressure: for how long some, or all,
// runnable tasks waited for the resource. See Documentation/accounting/psi.rst.
type pressure struct{ some, full stall }

type stall struct {
	avg10 float64 // percent of the last ten seconds
	total uint64  // µs since boot
	has   bool    // cpu has no full line before Linux 5.13
}

func parsePressure(b []byte) (p pressure, err error) {
	for n := 1; len(b) > 0; n++ {
		var line []byte
		line, b = cutLine(b)
		kind, rest := cutWord(line)
		to := &p.some
		switch string(kind) {
		case "some":
		case "full":
			to = &p.full
		default:
			continue
		}
		if !to.parse(rest) {
			return p, lineError("pressure", n, line, "avg10= and total= with numbers")
		}
	}
	return p, nil
}

func (s *stall) parse(words []byte) bool {
	var avg, total bool
	for len(words) > 0 {
		var word []byte
		word, words = cutWord(words)
		if v, ok := bytes.CutPrefix(word, []byte("avg10=")); ok {
			s.avg10, avg = fraction(v)
		} else if v, ok := bytes.CutPrefix(word, []byte("total=")); ok {
			s.total, total = number(v)
		}
	}
	s.has = avg && total
	return s.has
}
