package launch

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"time"

	"beanstalk-agent/agent/internal/supervisor"
)

// Outputs reads what runs wrote to their spools. The agent reads the files
// itself: nobody stands between a run and its file, nor between it and a reader.
type Outputs struct {
	Dir  string // the supervisor's state directory
	Runs interface {
		Get(ctx context.Context, id string) (supervisor.Run, error)
	}
}

// Open returns a run's output from its first kept byte; with follow its Read
// waits for more until the run has ended or ctx is done. The caller closes it.
func (o Outputs) Open(ctx context.Context, id string, follow bool) (io.ReadCloser, error) {
	run, err := o.Runs.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(o.Dir, "runs", run.ID, "output"))
	if err != nil {
		return nil, err
	}
	if !follow {
		return f, nil
	}
	return &follower{File: f, ctx: ctx, outputs: o, id: run.ID}, nil
}

// follower is a file that ends when its run does.
type follower struct {
	*os.File
	ctx     context.Context
	outputs Outputs
	id      string
	ended   bool
}

// lookAgain is how soon new output is seen.
const lookAgain = 100 * time.Millisecond

func (f *follower) Read(p []byte) (int, error) {
	for {
		n, err := f.File.Read(p)
		if n > 0 || err != io.EOF || f.ended {
			return n, err
		}
		run, err := f.outputs.Runs.Get(f.ctx, f.id)
		if err != nil {
			return 0, err
		}
		if f.ended = !run.Live(); f.ended {
			continue // what was written between the read and the end
		}
		select {
		case <-f.ctx.Done():
			return 0, f.ctx.Err()
		case <-time.After(lookAgain):
		}
	}
}
