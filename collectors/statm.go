package collectors

import "os"

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
