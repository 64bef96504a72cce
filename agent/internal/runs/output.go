package runs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// followPause is how often a spool that is followed is looked at.
const followPause = 100 * time.Millisecond

// OutputReader reads a spool from its beginning, with one line of ours in place of what was cut from its middle. At the
// present end it returns io.EOF, and goes on from there when there is more. It is for one goroutine at a time.
type OutputReader struct {
	f       *os.File
	at      int64
	pending []byte // words of ours that have not been read yet
	ends    bool   // a Read ends with errCut where something was cut, without words of ours
}

var errCut = errors.New("output was cut here")

// output opens a run's spool.
func (c *Client) output(ctx context.Context, id string) (Run, *OutputReader, error) {
	run, err := c.Get(ctx, id)
	if err != nil {
		return run, nil, err
	}
	r, err := OpenOutput(run)
	return run, r, err
}

// OpenOutput opens a run's spool, which only the supervisor's user may do. A run without one is fs.ErrNotExist.
func OpenOutput(run Run) (*OutputReader, error) {
	if run.Output == "" {
		return nil, fmt.Errorf("open output of run %s: its output was not kept: %w", run.ID, os.ErrNotExist)
	}
	f, err := os.Open(run.Output)
	if err != nil {
		return nil, fmt.Errorf("open output: %w", err)
	}
	return &OutputReader{f: f}, nil
}

// Close closes the file.
func (r *OutputReader) Close() error { return r.f.Close() }

// Read reads what follows.
func (r *OutputReader) Read(p []byte) (int, error) {
	if len(r.pending) == 0 {
		if err := r.skipHole(); err != nil {
			return 0, err
		}
	}
	if len(r.pending) > 0 {
		n := copy(p, r.pending)
		r.pending = r.pending[n:]
		return n, nil
	}
	if left := dataEnd(r.f, r.at) - r.at; int64(len(p)) > left {
		p = p[:max(left, 0)]
	}
	n, err := r.f.ReadAt(p, r.at)
	r.at += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (r *OutputReader) skipHole() error {
	info, err := r.f.Stat()
	if err != nil {
		return err
	}
	next, ok := nextData(r.f, r.at)
	if r.ends && (info.Size() < r.at || ok && next > r.at) {
		return errCut
	}
	if info.Size() < r.at { // cut off at the end, see spool.bound: what follows comes after the head
		r.pending = []byte("\n[agent: output was cut here]\n")
		r.at = info.Size()
	}
	if r.at >= info.Size() || !ok {
		return io.EOF
	}
	if next > r.at {
		r.pending = fmt.Appendf(nil, "\n[agent: %d bytes cut here]\n", next-r.at)
		r.at = next
	}
	return nil
}

// Tail moves to the last n lines of what is there, counted in the last 64 kB for each hundred lines and at
// most in the last 16 MB, so that a large spool is not read into memory.
func (r *OutputReader) Tail(lines int) error {
	info, err := r.f.Stat()
	if err != nil {
		return err
	}
	start := max(0, info.Size()-int64(min(lines/100+1, 256))*(64<<10))
	if next, ok := nextData(r.f, start); ok {
		start = next
	}
	r.at, err = lastLines(r.f, start, info.Size(), lines)
	return err
}

// lastLines returns where the last n lines between start and end begin. A last line without its newline counts. It
// reads backwards, in pieces: many callers may ask for many lines at once.
func lastLines(r io.ReaderAt, start, end int64, n int) (int64, error) {
	buf := make([]byte, min(64<<10, end-start))
	for first := true; end > start; first = false {
		b := buf[:min(int64(len(buf)), end-start)]
		if got, err := r.ReadAt(b, end-int64(len(b))); errors.Is(err, io.EOF) && got < len(b) {
			return start, nil // it was cut meanwhile
		} else if got < len(b) {
			return start, err
		}
		for i := len(b); i > 0; i-- {
			if b[i-1] != '\n' || first && i == len(b) {
				continue
			}
			if n--; n == 0 {
				return end - int64(len(b)-i), nil
			}
		}
		end -= int64(len(b))
	}
	return start, nil
}

// Logs copies a run's output to w. With follow it goes on until the run has ended and all is copied. lines
// above 0 begins with the last so many.
func (c *Client) Logs(ctx context.Context, w io.Writer, id string, lines int, follow bool) error {
	run, r, err := c.output(ctx, id)
	if err != nil {
		return err
	}
	defer r.Close()
	if lines > 0 {
		if err := r.Tail(lines); err != nil {
			return err
		}
	}
	return c.copy(ctx, w, run, r, follow)
}

// Position says where an output is to be read from.
type Position struct {
	At    int64 // a place in the spool, which may have been cut there since
	Lines int   // above 0: the last so many lines instead
}

// Follow copies a run's output to w from a position on, until the run has ended or to where its output was cut. It
// calls begin first with the place of the first byte, so that the caller knows where to go on after an error.
func (c *Client) Follow(ctx context.Context, w io.Writer, id string, from Position, begin func(at int64)) error {
	run, r, err := c.output(ctx, id)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := r.seek(from); err != nil {
		return err
	}
	begin(r.at)
	if err := c.copy(ctx, w, run, r, true); !errors.Is(err, errCut) {
		return err
	}
	return nil
}

// seek moves to a position, or to what comes after it where it was cut.
func (r *OutputReader) seek(p Position) error {
	r.ends = true
	if p.Lines > 0 {
		return r.Tail(p.Lines)
	}
	info, err := r.f.Stat()
	if err != nil {
		return err
	}
	r.at = min(max(p.At, 0), info.Size())
	if next, ok := nextData(r.f, r.at); ok {
		r.at = next
	}
	return nil
}

// copy copies what is there, and with follow what a live run adds, until a copy that began after its end has found
// nothing more.
func (c *Client) copy(ctx context.Context, w io.Writer, run Run, r *OutputReader, follow bool) error {
	if !follow || !run.Live() {
		_, err := io.Copy(w, r)
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		_, err := c.Wait(ctx, run.ID)
		ended <- err
	}()
	defer func() { <-ended }()
	defer cancel()
	tick := time.NewTicker(followPause)
	defer tick.Stop()
	for last := false; ; {
		if _, err := io.Copy(w, r); err != nil || last {
			return err
		}
		select {
		case err := <-ended:
			ended <- err // for the deferred receive
			if err != nil {
				return errors.Join(err, context.Cause(ctx))
			}
			last = true
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
