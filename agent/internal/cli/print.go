package cli

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// Most of what is printed was written by others: the application, who may run commands, a bucket, AWS. A terminal obeys
// some characters, and a line break makes a line that looks like ours. So nothing is printed but by this file, which
// TestOnlyPrintPrints sees to, and what a run wrote by terminal.go.

// shown is text with every character that is not shown as itself in Go's notation: \x1b, \n, \u202e. Text that has
// none is returned as it is.
func shown(text string) string {
	if !strings.ContainsFunc(text, hidden) {
		return text
	}
	var b strings.Builder
	for _, r := range strings.Split(text, "") { // an invalid byte is one of its own
		if c, _ := utf8.DecodeRuneInString(r); hidden(c) {
			r = strconv.Quote(r)
			r = r[1 : len(r)-1]
		}
		b.WriteString(r)
	}
	return b.String()
}

func hidden(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }

// printf is fmt.Fprintf with every value shown. Only the format has line breaks.
func printf(w io.Writer, format string, values ...any) error {
	for i, v := range values {
		values[i] = value{v}
	}
	_, err := fmt.Fprintf(w, format, values...)
	return err
}

type value struct{ any }

func (v value) Format(s fmt.State, verb rune) {
	text := fmt.Sprintf(fmt.FormatString(s, verb), v.any)
	if _, ours := v.any.(clean); !ours {
		text = shown(text)
	}
	io.WriteString(s, text)
}

// clean is text that printf leaves as it is: it has been shown, and has colours of ours.
type clean string

// table writes rows in aligned columns.
func table(w io.Writer, header []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(header, "\t"))
	for _, r := range rows {
		for i, cell := range r {
			r[i] = shown(cell)
		}
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	return t.Flush()
}

// paint shows text in a colour where f is a terminal and NO_COLOR is unset. Codes: 31 red, 32 green, 33 yellow, 2 dim.
func paint(f *os.File, code int, text string) clean {
	text = shown(text)
	if os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" || !term.IsTerminal(int(f.Fd())) {
		return clean(text)
	}
	return clean(fmt.Sprintf("\x1b[%dm%s\x1b[0m", code, text))
}

// ago is the time since t in one unit that suits its size.
func ago(t time.Time) string {
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// megabytes prints an amount of memory; 0 is not known.
func megabytes(n uint64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f MB", float64(n)/(1<<20))
}
