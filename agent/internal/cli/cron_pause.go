package cli

import (
	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
)

func newCronPauseCmd(g *globals) *cobra.Command {
	return cronSwitch(g, "pause", "start this job no more, on any instance, until resume",
		`Where one instance runs each slot, the pause is in the job's register: every
instance obeys at the job's next slot, also one that is made later, and agent cron
list says on each by whom and since when. Where every instance runs the job
(on: all, or no claim store) it is paused on this one.

--here pauses it on this instance alone; the others go on. It is kept over restarts.

A run in progress goes on. agent cron run runs a paused job.`)
}

func newCronResumeCmd(g *globals) *cobra.Command {
	return cronSwitch(g, "resume", "start this job again",
		`Ends a pause of the job, on every instance and on this one. --here ends only
this instance's own. The job's next slot is the first after now: those that passed
meanwhile do not run.`)
}

func cronSwitch(g *globals, verb, short, long string) *cobra.Command {
	here := false
	c := &cobra.Command{Use: verb + " NAME", Short: short, Long: long, Args: oneID,
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := g.client()
			if err != nil {
				return err
			}
			path := api.Path("cron", args[0], verb)
			if here {
				path += "?here"
			}
			var done api.CronPaused
			if err := cl.Post(c.Context(), path, nil, &done); err != nil {
				return err
			}
			if done.Job == "" { // an older agent says nothing, and pauses on this instance
				done = api.CronPaused{Job: args[0], Paused: verb == "pause", Here: true}
			}
			where, back := "on every instance", ""
			if done.Here {
				where = "on this instance"
			}
			if done.Paused {
				back = "; agent cron resume " + done.Job + " starts it again"
			}
			printf(g.Err, "%s is %sd %s%s\n", done.Job, verb, where, back)
			return nil
		}}
	c.Flags().BoolVar(&here, "here", false, "on this instance alone")
	return c
}
