package site

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopGrace is how long a worker may take to finish its requests.
const stopGrace = 5 * time.Second

// runMaster owns the listening socket and keeps the workers running until ctx is done; then it
// stops them and returns when the last one has ended.
func runMaster(ctx context.Context, opt options) error {
	socket, addr, err := listen(opt.listen)
	if err != nil {
		return err
	}
	defer socket.Close()
	// Held open, never written: workers see its end when this process is gone, however it went.
	alive, lifeline, err := os.Pipe()
	if err != nil {
		return err
	}
	defer alive.Close()
	defer lifeline.Close()
	fmt.Fprintf(os.Stderr, "site: serving %s for %s with %d workers\n", addr, strings.Join(opt.hosts, ", "), opt.workers)
	var workers sync.WaitGroup
	for range opt.workers {
		workers.Go(func() { keepWorker(ctx, opt, socket, alive) })
	}
	workers.Wait()
	if path, ok := strings.CutPrefix(opt.listen, "unix:"); ok {
		os.Remove(path)
	}
	return nil
}

// listen returns the socket as a file that can be inherited.
func listen(on string) (*os.File, string, error) {
	if path, ok := strings.CutPrefix(on, "unix:"); ok {
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			return nil, "", err
		}
		defer ln.Close()
		ln.SetUnlinkOnClose(false)
		f, err := ln.File()
		return f, on, err
	}
	ln, err := net.Listen("tcp", on)
	if err != nil {
		return nil, "", err
	}
	defer ln.Close()
	f, err := ln.(*net.TCPListener).File()
	return f, "http://" + ln.Addr().String(), err
}

// keepWorker runs one worker after another until ctx is done.
func keepWorker(ctx context.Context, opt options, socket, alive *os.File) {
	for ctx.Err() == nil {
		err := worker(ctx, opt, socket, alive).Run()
		if ctx.Err() != nil {
			return
		}
		fmt.Fprintln(os.Stderr, "site: a worker ended, starting another:", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func worker(ctx context.Context, opt options, socket, alive *os.File) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Args = append([]string{"site-worker"}, os.Args[1:]...)
	cmd.Env = append(append([]string{}, opt.env...), workerVar+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{socket, alive}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopGrace + time.Second
	return cmd
}
