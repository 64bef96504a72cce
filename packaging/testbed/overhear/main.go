// Overhear reads what `go test -json` prints, shows what `go test` would show, and fails when the planted secret is
// in anything that a test, or a program it started, printed or logged, whether the test passes or not:
//
//	go test -json ./... | go run ./packaging/testbed/overhear
//
// It also shows which tests took long: the gate has a budget, and each of them a share of it.
//
// A test that failed of itself is not searched: it may say what it got. It fails the gate, or is run again.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"beanstalk-agent/packaging/testbed/planted"
)

func main() {
	leaks, err := overhear(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "overhear:", err)
	}
	if err != nil || leaks > 0 {
		os.Exit(1)
	}
}

// event is a line of `go test -json`: see `go doc test2json`.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64 // seconds
}

// long is how many seconds of a test are shown.
const long = 5

// heard is what was printed in a package whose tests run: by whom, in order.
type heard struct {
	lines []event
	ended map[string]string // how each test ended
	slow  []string
}

// overhear returns how many tests let the secret be seen.
func overhear(in io.Reader, out io.Writer) (leaks int, err error) {
	packages := map[string]*heard{}
	for d := json.NewDecoder(in); ; {
		var e event
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			return leaks, nil
		} else if err != nil {
			return leaks, err
		}
		p := packages[e.Package]
		if p == nil {
			p = &heard{ended: map[string]string{}}
			packages[e.Package] = p
		}
		switch e.Action {
		case "build-output":
			fmt.Fprint(out, e.Output)
		case "output":
			p.lines = append(p.lines, e)
		case "pass", "fail", "skip":
			p.ended[e.Test] = e.Action
			if e.Elapsed >= long && e.Test != "" && !strings.Contains(e.Test, "/") {
				p.slow = append(p.slow, fmt.Sprintf("    \t%.0f s %s\n", e.Elapsed, e.Test))
			}
			if e.Test == "" {
				p.show(out)
				leaks += p.search(out, e.Package)
				delete(packages, e.Package)
			}
		}
	}
}

// show prints a package's one line when it passed, and else what was printed by what did not pass.
func (p *heard) show(out io.Writer) {
	for _, l := range p.lines {
		ended := p.ended[l.Test] // "": the program ended in the middle of it
		switch framing := strings.HasPrefix(l.Output, "=== "); {
		case ended == "fail" && !framing, ended == "" && !framing,
			l.Test == "" && (strings.HasPrefix(l.Output, "ok  \t") || strings.HasPrefix(l.Output, "?   \t")):
			fmt.Fprint(out, l.Output)
		}
	}
	fmt.Fprint(out, strings.Join(p.slow, ""))
}

// search tells each test that let the secret be seen. Long lines come in pieces.
func (p *heard) search(out io.Writer, name string) (leaks int) {
	said := map[string]*strings.Builder{}
	for _, l := range p.lines {
		if said[l.Test] == nil {
			said[l.Test] = &strings.Builder{}
		}
		said[l.Test].WriteString(l.Output)
	}
	for test, text := range said {
		before, after, found := strings.Cut(text.String(), planted.Value)
		if !found || test != "" && p.ended[test] == "fail" {
			continue
		}
		leaks++
		before, after = before[strings.LastIndex(before, "\n")+1:], strings.SplitAfterN(after, "\n", 2)[0]
		fmt.Fprintf(out, "ci: a planted value is seen in the output of %s %s:\n    %s\n", name, test, strings.TrimSpace(before+planted.Value+after))
	}
	return leaks
}
