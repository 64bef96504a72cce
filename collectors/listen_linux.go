package collectors

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Listen reads the accept queue of one listening socket, by socket diagnostics.
// Where those are not to be had it reads /proc/net, once a minute only, since
// the kernel walks every connection for it: 1 to 30 ms against 0.02.
type Listen struct {
	cfg   ListenConfig
	label []Label
	diag  diagConn
	out   []Sample

	found listenQueue
	file  socketFile // what UnixPath is just now
	estab uint64     // connections seen by the walk at hand

	eachListener, eachConn func(*diagSocket) // methods, bound once

	noDiag    error     // why socket diagnostics are not used
	nextProc  time.Time // when /proc/net may be read again
	nextConns time.Time
}

// socketFile is the file a UNIX socket is bound to: what the kernel knows it
// by, whatever path was used.
type socketFile struct{ ino, dev uint32 }

// NewListen returns a Listen; it opens nothing before its first Collect.
func NewListen(cfg ListenConfig) *Listen {
	cfg.complete()
	if cfg.Proc == nil {
		cfg.Proc = os.DirFS("/proc")
	}
	l := &Listen{cfg: cfg, label: groupLabel(cfg.Name)}
	l.eachListener, l.eachConn = l.listener, l.connection
	return l
}

// Name is "listen", and the group's name.
func (l *Listen) Name() string {
	if l.cfg.Name == "" {
		return "listen"
	}
	return "listen " + l.cfg.Name
}

// Close gives back the netlink socket.
func (l *Listen) Close() error {
	l.diag.close()
	return nil
}

// Collect reads the queue. Without a listener it is ErrNoData: nobody can be
// waiting, and a backlog of 0 would look healthy.
func (l *Listen) Collect(context.Context) ([]Sample, error) {
	l.out = l.out[:0]
	if l.cfg.Port == 0 && l.cfg.UnixPath == "" {
		return nil, errors.New("read backlog: neither a port nor a socket path is given")
	}
	now := time.Now()
	if l.noDiag != nil {
		return l.out, l.fromProc(now)
	}
	err := l.listeners()
	if err != nil && diagUnusable(err) {
		l.noDiag = err
		return l.out, l.fromProc(now)
	}
	if err != nil {
		return nil, err
	}
	if l.found.listeners == 0 {
		return nil, l.nobody()
	}
	l.samples(l.found)
	return l.out, l.connections(now)
}

// listeners adds up the listening sockets. A UNIX socket's file may have been
// made anew, so nothing found means looking at the path once more.
func (l *Listen) listeners() error {
	l.found = listenQueue{}
	if l.cfg.Port != 0 {
		return l.diag.tcp(l.cfg.Port, 1<<stateListen, l.eachListener)
	}
	err := l.diag.unixSockets(1<<stateListen, l.eachListener)
	if err != nil || l.found.listeners > 0 || !l.file.stat(l.cfg.UnixPath) {
		return err
	}
	return l.diag.unixSockets(1<<stateListen, l.eachListener)
}

func (l *Listen) listener(s *diagSocket) {
	if s.state == stateListen && l.ours(s) {
		l.found.listeners++
		l.found.backlog += uint64(s.queue)
		l.found.limit += uint64(s.limit)
	}
}

func (l *Listen) ours(s *diagSocket) bool {
	if l.cfg.Port != 0 {
		return s.port == l.cfg.Port
	}
	return l.file.is(s)
}

// connections counts what is in flight. A TCP connection that still waits in the
// backlog is established for the kernel; a UNIX one it leaves out.
func (l *Listen) connections(now time.Time) (err error) {
	if l.cfg.Connections < 0 || now.Before(l.nextConns) {
		return nil
	}
	l.nextConns, l.estab = now.Add(l.cfg.Connections), 0
	if l.cfg.Port != 0 {
		err = l.diag.tcp(l.cfg.Port, 1<<stateEstab, l.eachConn)
	} else {
		err = l.diag.unixSockets(1<<stateEstab, l.eachConn)
	}
	if err != nil {
		return err
	}
	flight := l.estab
	if l.cfg.Port != 0 {
		flight -= min(flight, l.found.backlog)
	}
	l.out = append(l.out, Sample{"listen_connections", Count, float64(flight), l.label})
	return nil
}

func (l *Listen) connection(s *diagSocket) {
	if s.state == stateEstab && l.ours(s) {
		l.estab++
	}
}

// fromProc reads /proc/net; between two readings there is nothing to say.
func (l *Listen) fromProc(now time.Time) error {
	if now.Before(l.nextProc) {
		return nil
	}
	l.nextProc = now.Add(time.Minute)
	files := []string{"net/tcp", "net/tcp6"}
	if l.cfg.Port == 0 {
		files = []string{"net/unix"}
	}
	l.found = listenQueue{}
	for _, name := range files {
		err := l.scan(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // no IPv6
			return fmt.Errorf("%w; and %w", l.noDiag, err)
		}
	}
	if l.found.listeners == 0 {
		return l.nobody()
	}
	l.samples(l.found)
	return nil
}

func (l *Listen) scan(name string) error {
	f, err := l.cfg.Proc.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Scan() // the heading
	for n := 2; lines.Scan(); n++ {
		if err := l.line(lines.Bytes()); err != nil {
			return fmt.Errorf("read %s: line %d: %w", name, n, err)
		}
	}
	return lines.Err()
}

func (l *Listen) line(text []byte) error {
	if l.cfg.Port != 0 {
		s, err := parseTCPLine(text)
		if err == nil && s.state == stateListen && s.port == l.cfg.Port {
			l.found.listeners++
			l.found.backlog += uint64(s.queue)
		}
		return err
	}
	s, err := parseUnixLine(text)
	if err != nil || string(s.path) != l.cfg.UnixPath {
		return err
	}
	switch {
	case s.listen:
		l.found.listeners++
	case s.inode == 0:
		l.found.backlog++
	}
	return nil
}

func (l *Listen) nobody() error {
	if l.cfg.Port != 0 {
		return fmt.Errorf("%w: nobody listens on port %d", ErrNoData, l.cfg.Port)
	}
	return fmt.Errorf("%w: nobody listens on %q", ErrNoData, l.cfg.UnixPath)
}

// stat looks the path up and reports whether it is another file than before.
func (f *socketFile) stat(path string) bool {
	old := *f
	*f = socketFile{}
	if info, err := os.Stat(path); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			// The kernel's own dev_t, which it sends, is not the one stat gives.
			f.dev = unix.Major(st.Dev)<<20 | unix.Minor(st.Dev)
			f.ino = uint32(st.Ino)
		}
	}
	return *f != old && *f != socketFile{}
}

func (f *socketFile) is(s *diagSocket) bool {
	return f.ino != 0 && s.vfsIno == f.ino && s.vfsDev == f.dev
}

// diagUnusable reports whether asking again is useless: the kernel was built
// without it, or the address family is forbidden to us.
func diagUnusable(err error) bool {
	return isNoFamily(err) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPROTONOSUPPORT)
}

func isNoFamily(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EINVAL)
}
