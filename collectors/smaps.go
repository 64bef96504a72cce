package collectors

import "errors"

// smaps is what we use of /proc/PID/smaps_rollup, in bytes. See the kernel's
// Documentation/filesystems/proc.rst.
type smaps struct {
	pss     uint64 // each page divided by the number of processes that map it
	anon    uint64 // the part of pss that is no file; since Linux 5.4
	private uint64 // pages no other process maps
	hasAnon bool
}

func parseSmapsRollup(b []byte) (s smaps, err error) {
	var hasPSS bool
	for n := 1; len(b) > 0; n++ {
		var line []byte
		line, b = cutLine(b)
		key, rest := cutWord(line)
		var to *uint64
		switch string(key) {
		case "Pss:":
			to, hasPSS = &s.pss, true
		case "Pss_Anon:":
			to, s.hasAnon = &s.anon, true
		case "Private_Clean:", "Private_Dirty:":
			to = &s.private
		default:
			continue
		}
		word, _ := cutWord(rest)
		kB, ok := number(word)
		if !ok || kB > 1<<50 {
			return smaps{}, lineError("smaps_rollup", n, line, "a number of kB")
		}
		*to += kB << 10
	}
	if !hasPSS {
		return smaps{}, errors.New("read smaps_rollup: no Pss line")
	}
	return s, nil
}
