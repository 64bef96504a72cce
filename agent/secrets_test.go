package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"beanstalk-agent/agent/internal/cli"
	"beanstalk-agent/packaging/testbed/planted"
)

// captureDir is where all output of the agent in a script is kept: the errors,
// notes and log lines of every process of it, and the data of every verb whose
// data is not values. A supervisor has no environment, so the place is found
// from the socket's.
const captureDir = "said"

// withCapture is the agent as the scripts run it: main, with its output captured.
func withCapture() {
	args, std := os.Args[1:], cli.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	dir := filepath.Join(filepath.Dir(os.Getenv("AGENT_SOCKET")), captureDir)
	if i := slices.Index(args, "supervise"); i >= 0 {
		dir = filepath.Join(filepath.Dir(args[slices.Index(args, "--socket")+1]), captureDir)
	}
	file, err := os.CreateTemp(dir, fmt.Sprintf("%d-", os.Getpid()))
	if err != nil || slices.Contains(args, "--direct") { // becomes the command: nobody would copy what that says
		os.Exit(cli.Main(args, std, programs(clock)))
	}
	fmt.Fprintf(file, "%q\n", redact(args))
	var ends []func()
	var end func()
	std.Err, end = copied(std.Err, file)
	ends = append(ends, end)
	if !saysValues(args) {
		std.Out, end = copied(std.Out, file)
		ends = append(ends, end)
	}
	code := cli.Main(args, std, programs(clock))
	for _, end := range ends {
		end()
	}
	os.Exit(code)
}

// redact leaves out what a script itself typed.
func redact(args []string) []string {
	var out []string
	for _, a := range args {
		if bytes.Contains([]byte(a), []byte(planted.Value)) {
			a = "…"
		}
		out = append(out, a)
	}
	return out
}

// saysValues reports whether a verb's data are the application's: its
// environment, or what its commands print. The scripts look at those themselves.
func saysValues(args []string) bool {
	return slices.ContainsFunc(args, func(a string) bool { return slices.Contains([]string{"exec", "attach", "logs", "run", "env"}, a) })
}

// copied is a file whose bytes go to two.
func copied(to, and *os.File) (w *os.File, end func()) {
	r, w, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(io.MultiWriter(to, and), r)
	}()
	return w, func() { w.Close(); <-done }
}

// hear shows what an agent logged to a file in the test's own output, which the gate
// searches.
func hear(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	t.Output().Write(text)
}

// plant puts the secret where the application's environment is.
func plant(file string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintf(f, "\nPLANTED=%s\n", planted.Value)
	return err
}

// checkSilence tells every place below dir where the secret is and others than
// the agent's own user could read it, and every word of the agent that has it.
// It returns how much was said, so that silence of the test itself is seen.
func checkSilence(t *testing.T, dir string) (words int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		said := filepath.Base(filepath.Dir(path)) == captureDir
		if said {
			words += info.Size()
		}
		text, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(text, []byte(planted.Value)) {
			return err
		}
		if said {
			t.Errorf("the agent says a value:\n%s", text)
		} else if info.Mode()&0o077 != 0 {
			t.Errorf("%s holds a value and is %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return words
}

// unseen: no process shows the value of PS on its command line, where every user
// of the host would see it. (Who gives a value by -e shows that one.)
func unseen(ts *testscript.TestScript, neg bool, args []string) {
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	ts.Check(err)
	for _, path := range lines {
		if b, err := os.ReadFile(path); err == nil && bytes.Contains(b, []byte(planted.Value+"-ps")) {
			ts.Fatalf("a command line shows a value: that of %s", path)
		}
	}
}
