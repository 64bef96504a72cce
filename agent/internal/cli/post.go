package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/cron"
)

type postOptions struct {
	target, path, host, task, at string
	headers                      []string
}

// newPostCmd is what a url: job runs, as the application's user: one POST as
// Beanstalk's worker daemon makes it. It is not for a shell.
func newPostCmd(g *globals) *cobra.Command {
	var o postOptions
	c := &cobra.Command{Use: "post", Hidden: true, Args: cobra.MaximumNArgs(1),
		Short: "POST to the application as a worker tier's daemon does",
		RunE: func(c *cobra.Command, args []string) error {
			o.fromEnv()
			if len(args) > 0 { // by an agent that is older than this binary
				o.path = args[0]
			}
			out := g.output(false)
			defer out.Close()
			return o.post(c.Context(), out)
		}}
	f := c.Flags()
	f.StringVar(&o.task, "task", "", "X-Aws-Sqsd-Taskname")
	f.StringVar(&o.at, "scheduled-at", "", "X-Aws-Sqsd-Scheduled-At")
	return c
}

func (o *postOptions) fromEnv() {
	o.target, o.path, o.host = os.Getenv(cron.PostTarget), os.Getenv(cron.PostPath), os.Getenv(cron.PostHost)
	if h := os.Getenv(cron.PostHeaders); h != "" {
		o.headers = strings.Split(h, "\n")
	}
}

// post fails when the answer is not 200, as the daemon counts it (Developer
// Guide, "Worker environments"). The time limit is the run's own.
func (o *postOptions) post(ctx context.Context, out io.Writer) error {
	// No proxy: the application's HTTP_PROXY is in this environment, and the headers are for the application alone.
	transport := &http.Transport{}
	client := http.Client{Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	base := o.target
	if socket, ok := strings.CutPrefix(o.target, "unix:"); ok {
		base = "http://localhost"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+o.path, nil)
	if err != nil {
		return withoutAddress(err)
	}
	for _, h := range o.headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	req.Host = o.host
	req.Header.Set("User-Agent", "aws-sqsd/agent")
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Aws-Sqsd-Taskname", o.task)
	req.Header.Set("X-Aws-Sqsd-Scheduled-At", o.at)
	req.Header.Set("X-Aws-Sqsd-Sender-Id", "agent")
	resp, err := client.Do(req)
	if err != nil {
		return withoutAddress(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(out, resp.Body); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the application answered %s", resp.Status)
	}
	return nil
}

// withoutAddress is err without the address, whose query may be a secret: it becomes part of the job's output.
func withoutAddress(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	return fmt.Errorf("post to the application: %w", err)
}
