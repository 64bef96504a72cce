package collectors

// parseLoadavg returns the first figure of /proc/loadavg: tasks that run, want
// to run or wait for a disk, as a mean over about a minute.
func parseLoadavg(b []byte) (float64, error) {
	line, _ := cutLine(b)
	word, _ := cutWord(line)
	load, ok := fraction(word)
	if !ok {
		return 0, lineError("loadavg", 1, line, "a number first")
	}
	return load, nil
}
