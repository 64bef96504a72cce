// Demo shows the whole product on this machine, with Go and nothing else:
//
//	go run ./packaging/demo
//
// It starts the agent beside a small web application that refuses a wrong Host
// and redirects plain http, and shows what each of the agent's jobs makes of it.
// Everything it writes is in one temporary directory, removed at the end.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"beanstalk-agent/packaging/demo/site"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "site" {
		os.Exit(site.Main(os.Args[2:], os.Environ()))
	}
	once := flag.Bool("once", false, "end after showing everything, instead of at Ctrl-C")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := demo(ctx, *once); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// host is the only name that the demo's application answers to.
const host = "www.example.com"

// stage is what the demo has set up: a directory and the processes in it.
type stage struct {
	dir, agent, socket string
	sitePort, health   int
	procs              []*exec.Cmd
}

func demo(ctx context.Context, once bool) error {
	dir, err := os.MkdirTemp("", "agent-demo-")
	if err != nil {
		return err
	}
	s := &stage{dir: dir, agent: filepath.Join(dir, "agent"), socket: filepath.Join(dir, "agent.sock")}
	defer s.strike()
	if err := s.build(ctx); err != nil {
		return err
	}
	if err := s.start(ctx); err != nil {
		return err
	}
	if err := s.show(ctx); err != nil {
		return err
	}
	if once {
		return nil
	}
	heading("Your turn: in another terminal")
	fmt.Printf("  . %s/env    # finds agent and its socket\n", s.dir)
	for _, cmd := range []string{"exec -- sh -c 'echo $GREETING'", "exec -- sh", "status", "env", "cron list", "logs -f greet"} {
		fmt.Println("  agent", cmd)
	}
	fmt.Println("\nCtrl-C ends the demo.")
	<-ctx.Done()
	return nil
}

// build writes the application's files and builds the agent.
func (s *stage) build(ctx context.Context) error {
	var err error
	if s.sitePort, err = freePort(); err != nil {
		return err
	}
	if s.health, err = freePort(); err != nil {
		return err
	}
	app := filepath.Join(s.dir, "app")
	files := map[string]string{
		"app/.env": fmt.Sprintf("GREETING=\"hello from .env: it's $5 & 100%% #safe\"\nPORT=%d\nALLOWED_HOSTS=%s\nHEALTH_HOST=%[2]s\n", s.sitePort, host),
		"app/cron.yaml": `version: 1
cron:
  - name: greet
    schedule: "@every 3s"
    command: echo "$GREETING"
`,
		"env":        fmt.Sprintf("export PATH='%s':\"$PATH\" AGENT_SOCKET='%s' AGENT_CONFIG=\n", s.dir, s.socket),
		"agent.yaml": fmt.Sprintf("state_dir: %s/state\nhealth: {listen: '127.0.0.1:%d'}\nmetrics: {sample: 1s, send: off}\ncron: {claims: off}\n", s.dir, s.health),
	}
	if err := os.Mkdir(app, 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	fmt.Println("building the agent …")
	c := exec.CommandContext(ctx, "go", "build", "-o", s.agent, "beanstalk-agent/agent")
	c.Stderr = os.Stderr
	return c.Run()
}

func (s *stage) start(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	web := exec.Command(self, "site")
	web.Env = append(os.Environ(), fmt.Sprintf("PORT=%d", s.sitePort), "ALLOWED_HOSTS="+host, "WEB_CONCURRENCY=3")
	agent := exec.Command(s.agent, "run", "--app", filepath.Join(s.dir, "app"), "--socket", s.socket, "--config", filepath.Join(s.dir, "agent.yaml"))
	for _, p := range []struct {
		cmd *exec.Cmd
		log string
	}{{web, "site.log"}, {agent, "agent.log"}} {
		log, err := os.Create(filepath.Join(s.dir, p.log))
		if err != nil {
			return err
		}
		defer log.Close()
		p.cmd.Stdout, p.cmd.Stderr = log, log
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is ours to pass on, in order
		if err := p.cmd.Start(); err != nil {
			return err
		}
		s.procs = append(s.procs, p.cmd)
	}
	return s.until(ctx, "the application and the agent to answer", func() bool {
		return s.run(ctx, "health") == nil
	})
}

// strike ends everything, the last started first, and removes every trace.
func (s *stage) strike() {
	for i := len(s.procs) - 1; i >= 0; i-- {
		p := s.procs[i]
		_ = p.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(10*time.Second, func() { _ = p.Process.Kill() })
		_ = p.Wait() // its exit status is no news here
		kill.Stop()
	}
	os.RemoveAll(s.dir)
}

func (s *stage) show(ctx context.Context) error {
	heading("The application, asked as a load balancer asks")
	if err := s.ask("directly, Host: 10.0.0.5", s.sitePort, "/health", "10.0.0.5", ""); err != nil {
		return err
	}
	if err := s.ask("directly, right Host, plain http", s.sitePort, "/health", host, ""); err != nil {
		return err
	}
	if err := s.ask("through the agent, Host: 10.0.0.5", s.health, "/agent-health", "10.0.0.5", "asked with the right one"); err != nil {
		return err
	}

	heading("A cron job, with a variable of .env (agent logs greet)")
	if err := s.until(ctx, "the job's first run", func() bool { return s.run(ctx, "logs", "greet") == nil }); err != nil {
		return err
	}
	if err := s.print(ctx, "logs", "greet"); err != nil {
		return err
	}

	heading("A command as the application would run it (agent exec -- sh -c …; exit status 7)")
	err := s.print(ctx, "exec", "--", "sh", "-c", `echo "$GREETING"; exit 7`)
	if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 7 {
		return fmt.Errorf("exec: expected exit status 7, have %v", err)
	}
	fmt.Println("  exit status 7")

	heading("Metrics of memory and of the web processes (agent metrics --once)")
	return s.metrics(ctx)
}

var figures = []string{"mem_used_percent", "swap_used_percent", "disk_used_percent", "group_processes", "group_memory_pss", "group_memory_largest", "listen_backlog"}

// metrics prints the few figures that a newcomer looks for, without their
// dimensions, which would not fit on a line; all is in agent metrics --once.
func (s *stage) metrics(ctx context.Context) error {
	var shown []string
	err := s.until(ctx, "the figures of the web processes", func() bool {
		out, err := s.command(ctx, "metrics", "--once").Output()
		shown = nil
		for l := range strings.Lines(string(out)) {
			f := strings.Fields(l)
			if len(f) > 2 && slices.Contains(figures, f[0]) {
				shown = append(shown, fmt.Sprintf("  %-22s %10s %s\n", f[0], f[1], f[2]))
			}
		}
		return err == nil && len(shown) >= len(figures)
	})
	fmt.Print(strings.Join(shown, ""))
	return err
}

// ask makes one request and prints what came back.
func (s *stage) ask(what string, port int, page, host, note string) error {
	req, err := http.NewRequest("GET", fmt.Sprintf("http://127.0.0.1:%d%s", port, page), nil)
	if err != nil {
		return err
	}
	req.Host = host
	c := http.Client{Timeout: 5 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	colour := 31
	if resp.StatusCode == 200 {
		colour = 32
	}
	fmt.Printf("  %-36s %s  %s\n", what, paint(colour, resp.Status), note)
	return nil
}

func (s *stage) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, s.agent, append([]string{"--socket", s.socket}, args...)...)
}

func (s *stage) run(ctx context.Context, args ...string) error { return s.command(ctx, args...).Run() }

// print runs a verb and shows its output, indented.
func (s *stage) print(ctx context.Context, args ...string) error {
	out, err := s.command(ctx, args...).CombinedOutput()
	for l := range strings.Lines(string(out)) {
		fmt.Print("  ", l)
	}
	return err
}

// until waits for a condition; when it does not come, the logs say why.
func (s *stage) until(ctx context.Context, what string, ok func() bool) error {
	limit := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-limit:
			log, _ := os.ReadFile(filepath.Join(s.dir, "agent.log"))
			return fmt.Errorf("waited in vain for %s; the agent's log:\n%s", what, log)
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// freePort asks the kernel for a port. Somebody else may take it before we use
// it; a demo can live with that.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func heading(text string) { fmt.Printf("\n%s\n", paint(1, text)) }

// paint gives text a colour on a terminal, unless NO_COLOR is set.
func paint(code int, text string) string {
	if os.Getenv("NO_COLOR") != "" || !term.IsTerminal(int(os.Stdout.Fd())) {
		return text
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", code, text)
}
