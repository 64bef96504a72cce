package cli

import (
	"errors"
	"net/http"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
)

func newReloadCmd(g *globals) *cobra.Command {
	return post(g, "reload", "look at the application's tree, cron file and environment again now",
		func() (path, done string) {
			return "/v1/reload", "reading the application's tree, cron file and environment again: " +
				"agent status says what was found"
		})
}

// post is a verb whose answer has nothing to print; done says on stderr what it has done, and the way back.
func post(g *globals, use, short string, ask func() (path, done string)) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: arguments, RunE: func(c *cobra.Command, _ []string) error {
		cl, err := g.client()
		if err != nil {
			return err
		}
		path, done := ask()
		err = cl.Post(c.Context(), path, nil, nil)
		if e, ok := errors.AsType[*api.Error](err); ok && e.Status == http.StatusBadRequest {
			return misuse(err)
		} else if err != nil {
			return err
		}
		return printf(g.Err, "%s\n", done)
	}}
}
