// Package planted is the one secret of all tests.
//
// A test puts it wherever the product handles something that nobody may read: values of an application's
// environment, addresses of notices, headers, keys. What is printed and logged by all tests, and by the programs
// they start, is searched for it: see packaging/testbed/overhear. So a test writes the product's logs where they are
// seen (Log), compares values without printing them, and names them by their variable.
package planted

import (
	"io"
	"log/slog"
	"testing"
)

// Value is in every such secret. Nothing that quotes or encodes text as JSON, as a URL or as a Go string changes it.
const Value = "planted-5c1e"

// Log is for what takes a logger in a test: all levels, into the test's own output, which is shown when it fails, and
// into those that the test looks at itself.
func Log(t testing.TB, also ...io.Writer) *slog.Logger {
	w := io.MultiWriter(append(also, t.Output())...)
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
