package collectors

import (
	"bytes"
	"errors"
	"os"
)

// parsePIDs appends the numbers of a cgroup.procs (one a line) or a children file (all in one line) to pids. 0, a
// process of another PID namespace, is left out.
func parsePIDs(b []byte, pids []int) ([]int, error) {
	for n := 1; len(b) > 0; n++ {
		var line []byte
		line, b = cutLine(b)
		for len(line) > 0 {
			var word []byte
			word, line = cutWord(line)
			if len(word) == 0 {
				break // trailing blanks
			}
			pid, ok := number(word)
			if !ok || pid >= 1<<31 {
				return pids, lineError("process list", n, word, "a process number")
			}
			if pid > 0 {
				pids = append(pids, int(pid))
			}
		}
	}
	return pids, nil
}

// parseKeyed returns the number after key in a file of "key number" lines, as memory.stat and cpu.stat are.
func parseKeyed(b []byte, key string) (n uint64, found bool, err error) {
	for i := 1; len(b) > 0; i++ {
		var line []byte
		line, b = cutLine(b)
		word, rest := cutWord(line)
		if string(word) != key {
			continue
		}
		n, ok := number(rest)
		if !ok {
			return 0, false, lineError(key, i, line, "a number")
		}
		return n, true, nil
	}
	return 0, false, nil
}

// parseProcCgroup returns the cgroup of a process, without the leading slash, from the text of its /proc/PID/cgroup:
// systemd's own hierarchy on version 1, the only one on version 2. See cgroups(7).
func parseProcCgroup(b []byte) string {
	var unified string
	for len(b) > 0 {
		var line []byte
		line, b = cutLine(b)
		_, rest, ok1 := bytes.Cut(line, []byte{':'})
		controllers, name, ok2 := bytes.Cut(rest, []byte{':'})
		if !ok1 || !ok2 {
			continue
		}
		name = bytes.TrimPrefix(name, []byte{'/'})
		switch {
		case string(controllers) == "name=systemd" && len(name) > 0:
			return string(name)
		case len(controllers) == 0:
			unified = string(name)
		}
	}
	return unified
}

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

// smaps is what we use of /proc/PID/smaps_rollup, in bytes. See the kernel's Documentation/filesystems/proc.rst.
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

// parseStatm returns the resident and the file-backed or shared part of it, in
// bytes: the second and third of /proc/PID/statm's numbers of pages.
func parseStatm(b []byte) (rss, shared float64, err error) {
	line, _ := cutLine(b)
	_, rest := cutWord(line)
	resident, rest := cutWord(rest)
	file, _ := cutWord(rest)
	r, ok1 := number(resident)
	s, ok2 := number(file)
	if !ok1 || !ok2 || s > r {
		return 0, 0, lineError("statm", 1, line, "size, resident and shared pages")
	}
	page := float64(os.Getpagesize())
	return page * float64(r), page * float64(s), nil
}

// vmstat is what we use of /proc/vmstat: counters since boot.
type vmstat struct {
	swapIn, swapOut uint64 // pages
	oomKills        uint64 // processes, those killed within a cgroup's limit too
	hasOOM          bool   // since Linux 4.13
}

func parseVmstat(b []byte) (v vmstat, err error) {
	for n := 1; len(b) > 0; n++ {
		var line []byte
		line, b = cutLine(b)
		key, rest := cutWord(line)
		var to *uint64
		switch string(key) {
		case "pswpin":
			to = &v.swapIn
		case "pswpout":
			to = &v.swapOut
		case "oom_kill":
			to, v.hasOOM = &v.oomKills, true
		default:
			continue
		}
		count, ok := number(rest)
		if !ok {
			return v, lineError("vmstat", n, line, "a number")
		}
		*to = count
	}
	return v, nil
}
