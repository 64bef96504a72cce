package app

import (
	"context"
	"fmt"
)

// ProcessType is PROCESS_TYPE of its environment. Several environments may be made of one bundle, which differ by it:
// "" (not set) and web answer requests, any other works behind them.
func (a *App) ProcessType(ctx context.Context) (string, error) {
	env, err := a.env.Resolve(ctx)
	if err != nil {
		return "", err
	}
	v, _ := env.Lookup("PROCESS_TYPE")
	return v, nil
}

// Process is an application that answers no requests.
type Process struct {
	Known   bool // Running is
	Running bool
	Text    string
}

// Worker looks at the process of an application that answers no requests, and returns nil for one that does or may.
// Off Beanstalk it is not known which process that is.
func (a *App) Worker(ctx context.Context) *Process {
	kind, err := a.ProcessType(ctx)
	unit := a.Facts().WebUnit
	if err != nil || kind == "" || kind == "web" || unit == "" {
		return nil
	}
	is := fmt.Sprintf("PROCESS_TYPE is %.40q, which answers no requests", kind)
	pids, err := a.inst.WebPIDs(ctx)
	switch {
	case err != nil:
		return &Process{Text: fmt.Sprintf("%s; its process is not known: %v", is, err)}
	case len(pids) == 0:
		return &Process{Known: true, Text: fmt.Sprintf("%s; no process of %s runs", is, unit)}
	}
	return &Process{Known: true, Running: true, Text: fmt.Sprintf("%s; process %d of %s runs", is, pids[0], unit)}
}
