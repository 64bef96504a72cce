// Package site is the web application of the demo: what a team might run on Beanstalk, in small.
//
// It refuses a Host that is not in ALLOWED_HOSTS (400) and redirects plain http (301), so that a
// load balancer's own health check fails on it. It runs as a master with a few worker processes
// that share one listening socket, each taking a fixed number of requests at a time, so that
// process groups, shared memory and a backlog are there to be measured.
package site

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

// workerVar marks a worker process in its environment. The listener is its descriptor 3; 4 is a
// pipe that ends when the master does.
const workerVar = "DEMO_SITE_WORKER"

type options struct {
	listen  string
	workers int
	threads int
	hosts   []string
	env     []string
}

// Main runs the site until SIGTERM or an interrupt and returns its exit status. args are the
// arguments after the verb; env is the environment as os.Environ gives it: ALLOWED_HOSTS (comma
// separated, default www.example.com), PORT (8000) and WEB_CONCURRENCY (3 workers) are read from it.
//
// Workers are this executable started again with the arguments this process has (os.Args), so
// whatever led to Main has to lead there again.
func Main(args, env []string) int {
	opt, err := parse(args, env, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	run := runMaster
	if lookup(env, workerVar) != "" {
		run = runWorker
	}
	if err := run(ctx, opt); err != nil {
		fmt.Fprintln(os.Stderr, "error: site:", err)
		return 1
	}
	return 0
}

func parse(args, env []string, stderr io.Writer) (options, error) {
	opt := options{env: env, hosts: strings.Split(cmp.Or(lookup(env, "ALLOWED_HOSTS"), "www.example.com"), ",")}
	for i := range opt.hosts {
		opt.hosts[i] = strings.TrimSpace(opt.hosts[i])
	}
	workers, err := strconv.Atoi(cmp.Or(lookup(env, "WEB_CONCURRENCY"), "3"))
	if err != nil {
		workers = 0 // told below, with what was expected
	}
	flags := flag.NewFlagSet("site", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&opt.listen, "listen", net.JoinHostPort("127.0.0.1", cmp.Or(lookup(env, "PORT"), "8000")), "`address` to serve, or unix:/path.sock")
	flags.IntVar(&opt.workers, "workers", workers, "worker processes")
	flags.IntVar(&opt.threads, "threads", 4, "requests that one worker takes at a time; others wait in the socket's backlog")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	if flags.NArg() > 0 || opt.workers < 1 || opt.workers > 64 || opt.threads < 1 {
		fmt.Fprintln(stderr, "error: site: want no arguments, 1 to 64 workers (-workers or WEB_CONCURRENCY) and at least 1 thread")
		return options{}, errors.New("misuse")
	}
	return opt, nil
}

// lookup returns the last value of name in env.
func lookup(env []string, name string) (value string) {
	for _, entry := range env {
		if v, ok := strings.CutPrefix(entry, name+"="); ok {
			value = v
		}
	}
	return value
}
