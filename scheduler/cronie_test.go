package scheduler

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// testdata/cronie.tsv has what cronie itself makes of expressions whose fields of days restrict in every way: its
// load_entry and the condition of its find_jobs (commit 5f9f16b, 2025-12-05), asked for each minute of six years from
// 2026 on, the first eight as Unix times; "err" where it refuses the line.
func TestDaysAsCronieHasThem(t *testing.T) {
	f, err := os.Open("testdata/cronie.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		expr, want, _ := strings.Cut(lines.Text(), "\t")
		s, err := parseSchedule(expr, false, time.UTC)
		if want == "err" || err != nil {
			if (want == "err" || want == "") != (err != nil) {
				t.Errorf("%q: %v, cronie: %q", expr, err, want)
			}
			continue
		}
		end := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(366 * 6 * 24 * time.Hour)
		var got []string
		for at := s.Next(time.Date(2025, 12, 31, 23, 59, 59, 0, time.UTC)); len(got) < 8 && !at.IsZero() && at.Before(end); at = s.Next(at) {
			got = append(got, strconv.FormatInt(at.Unix(), 10))
		}
		if strings.Join(got, ",") != want {
			t.Errorf("%q: %v, cronie: %s", expr, got, want)
		}
	}
}
