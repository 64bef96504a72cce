package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/launch"
	"beanstalk-agent/agent/internal/supervisor"
)

type psOptions struct {
	kind, name string
	all, json  bool
	n          int
}

func newPsCmd(g *globals) *cobra.Command {
	var o psOptions
	c := &cobra.Command{Use: "ps", Short: "what runs now: cron jobs, sessions, commands", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.print(c, g) }}
	c.Flags().BoolVarP(&o.all, "all", "a", false, "also what ended, newest first")
	c.Flags().StringVar(&o.kind, "kind", "", "only cron or exec")
	c.Flags().IntVarP(&o.n, "number", "n", 50, "with --all: how many")
	c.Flags().BoolVar(&o.json, "json", false, "print JSON")
	return c
}

// list asks for the runs that the options choose.
func (o *psOptions) list(c *cobra.Command, g *globals) ([]supervisor.Run, error) {
	cl, err := g.client()
	if err != nil {
		return nil, err
	}
	q := url.Values{"kind": {o.kind}, "name": {o.name}}
	if o.all { // of what runs, all is shown
		q.Set("all", "1")
		q.Set("n", strconv.Itoa(o.n))
	}
	list := []supervisor.Run{}
	err = cl.Get(c.Context(), "/v1/runs?"+q.Encode(), &list)
	return list, err
}

func (o *psOptions) print(c *cobra.Command, g *globals) error {
	list, err := o.list(c, g)
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(g.out, list)
	}
	var rows [][]string
	for _, r := range list {
		rows = append(rows, runRow(r))
	}
	return table(g.out, []string{"ID", "KIND", "NAME", "USER", "PID", "STARTED", "TOOK", "STATE", "PEAK"}, rows)
}

func runRow(r supervisor.Run) []string {
	return []string{r.ID, r.Kind, r.Name, r.User, strconv.Itoa(r.PID), r.Started.Local().Format("01-02 15:04:05"), tookOf(r), launch.Describe(r), megabytes(r.PeakMemory)}
}

func tookOf(r supervisor.Run) string {
	if r.Ended.IsZero() {
		return ago(r.Started)
	}
	return r.Took().Round(10 * time.Millisecond).String()
}

func newLogsCmd(g *globals) *cobra.Command {
	var followIt bool
	var lines int
	c := &cobra.Command{Use: "logs ID|JOB", Short: "the output of a run, or of a job's newest run", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := g.client()
			if err != nil {
				return err
			}
			id, err := newest(c.Context(), cl, args[0])
			if err != nil {
				return err
			}
			if followIt {
				return follow(c.Context(), cl, id, g.out)
			}
			out, err := cl.Stream(c.Context(), fmt.Sprintf("%s?lines=%d", api.Path("runs", id, "output"), lines))
			if err != nil {
				return err
			}
			defer out.Close()
			_, err = io.Copy(g.out, out)
			return err
		}}
	c.Flags().IntVarP(&lines, "lines", "n", 0, "only the last so many lines")
	c.Flags().BoolVarP(&followIt, "follow", "f", false, "go on until the run ends")
	return c
}

// newest returns the id of the run that what names: an id, or a job's name.
func newest(ctx context.Context, cl *api.Client, what string) (string, error) {
	var r supervisor.Run
	err := cl.Get(ctx, api.Path("runs", what), &r)
	if err == nil {
		return r.ID, nil
	}
	var list []supervisor.Run
	if cl.Get(ctx, "/v1/runs?all=1&n=1&name="+url.QueryEscape(what), &list) == nil && len(list) > 0 {
		return list[0].ID, nil
	}
	return "", err
}

// follow copies a run's output until the run ends; an agent that restarts
// meanwhile is asked again from where the output stood.
func follow(ctx context.Context, cl *api.Client, id string, w io.Writer) error {
	var written int64
	return cl.Wait(ctx, patience, func(ctx context.Context) error {
		out, err := cl.Stream(ctx, api.Path("runs", id, "output")+"?follow")
		if err != nil {
			return err
		}
		defer out.Close()
		if _, err := io.CopyN(io.Discard, out, written); err != nil {
			return err
		}
		n, err := io.Copy(w, out)
		written += n
		return err
	})
}

// patience is how long a waiting verb bears an agent that does not answer: a
// restart takes one second, an upgrade a few.
const patience = 30 * time.Second

func newWaitCmd(g *globals) *cobra.Command {
	return &cobra.Command{Use: "wait ID", Short: "wait for a run to end; exit with its exit status", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := g.client()
			if err != nil {
				return exitIf(125, err)
			}
			return waitFor(c.Context(), g, cl, args[0])
		}}
}

// waitFor waits for a run and passes its exit status on.
func waitFor(ctx context.Context, g *globals, cl *api.Client, id string) error {
	var r supervisor.Run
	err := cl.Wait(ctx, patience, func(ctx context.Context) error {
		return cl.Get(ctx, api.Path("runs", id, "wait"), &r)
	})
	if err != nil {
		return exitIf(125, err)
	}
	if r.ExitCode != 0 {
		fmt.Fprintf(g.err, "%s %s: %s\n", r.Name, r.ID, launch.Describe(r))
	}
	return exitWith(r.ExitCode)
}

func newStopCmd(g *globals) *cobra.Command {
	var req api.StopRequest
	c := &cobra.Command{Use: "stop ID", Short: "end a run and everything it started: TERM, grace, KILL", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := g.client()
			if err != nil {
				return err
			}
			return cl.Post(c.Context(), api.Path("runs", args[0], "stop"), req, nil)
		}}
	c.Flags().DurationVar(&req.Grace, "grace", 0, "between TERM and KILL (default: the run's own, 5s)")
	return c
}
