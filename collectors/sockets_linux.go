package collectors

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// listenSocket looks at the listening sockets of one port or path, by socket diagnostics. Where those are not to be had
// (a module that is not loaded, a unit without AF_NETLINK) it reads /proc/net, once a minute only, since the kernel
// walks every connection for it: 1 to 30 ms against 0.02.
type listenSocket struct {
	port uint16
	path string // a UNIX socket's, when port is 0
	proc fs.FS

	counts func(uid uint32) bool // nil: everybody's do

	diag   diagConn
	file   socketFile // what path is just now
	byName bool       // the kernel's number for that file is not stat's: an overlay

	nextStat time.Time // when to look at the path again, though that file has a listener

	pace  pace        // of looks
	seen  int         // sockets, by the look at hand
	found listenQueue // by the look at hand
	named listenQueue // those bound to a file of that name, whether it is the same or not
	estab uint64      // connections seen by the count at hand

	eachListener, eachConn func(*diagSocket) // methods, bound once

	noDiag   error     // why socket diagnostics were not used last time
	nextProc time.Time // when to look again after that
}

// listenQueue is the sum over the listeners found.
type listenQueue struct {
	backlog  uint64   // connections not accepted yet
	limit    uint64   // how many there may be; 0: not known
	inodes   []uint32 // one for each listener
	families []uint8  // theirs, each once; empty when they came from /proc/net
}

// tcpFamilies are all that may listen on a port.
var tcpFamilies = []uint8{familyInet, familyInet6}

// errPause says that /proc/net was read less than a minute ago.
var errPause = errors.New("not now")

// errMany says that it is too early for another look at so many sockets.
var errMany = fmt.Errorf("%w: too many sockets to read them at each tick", ErrCut)

// maxInodes bounds the listeners of one port or path that are told apart: a port has as many as 127/8 has addresses.
const maxInodes = 1000

func newListenSocket(port uint16, path string, counts func(uid uint32) bool, proc fs.FS) *listenSocket {
	l := &listenSocket{port: port, path: path, counts: counts, proc: proc}
	l.eachListener, l.eachConn = l.listener, l.connection
	return l
}

// look finds the listeners as they are now, in l.found. It returns errPause or errMany
// when it is too early to look again.
func (l *listenSocket) look(now time.Time) error {
	if now.Before(l.nextProc) {
		return errPause
	}
	if !l.pace.open(now) {
		return errMany
	}
	l.seen = 0
	defer func() { l.pace.after(now, l.seen) }()
	if l.port == 0 && !now.Before(l.nextStat) {
		l.nextStat = now.Add(time.Minute)
		l.file.stat(l.path)
	}
	defer func() { slices.Sort(l.found.inodes) }() // the kernel's order is any
	err := l.byDiag()
	if err == nil || !diagUnusable(err) {
		l.noDiag = nil
		return err
	}
	l.noDiag, l.nextProc = err, now.Add(time.Minute)
	if err := l.byProc(); err != nil {
		return fmt.Errorf("%w; and %w", l.noDiag, err)
	}
	return nil
}

// byDiag asks the kernel. A UNIX listener is known by its file, since the path may lead there through links and an old
// server may still listen on a file that was replaced; or else, on an overlay, where the kernel and stat count files
// differently, by its name.
func (l *listenSocket) byDiag() error {
	l.clear()
	if l.port != 0 {
		return l.diag.tcp(tcpFamilies, l.port, 1<<stateListen, l.eachListener)
	}
	err := l.diag.unixSockets(1<<stateListen, l.eachListener)
	if err == nil && len(l.found.inodes) == 0 && l.file.stat(l.path) { // made anew
		l.clear()
		err = l.diag.unixSockets(1<<stateListen, l.eachListener)
	}
	if l.byName = err == nil && len(l.found.inodes) == 0 && len(l.named.inodes) > 0; l.byName {
		l.found, l.named = l.named, l.found
	}
	return err
}

func (l *listenSocket) clear() {
	l.found = listenQueue{inodes: l.found.inodes[:0], families: l.found.families[:0]}
	l.named = listenQueue{inodes: l.named.inodes[:0], families: l.named.families[:0]}
}

func (l *listenSocket) listener(s *diagSocket) {
	l.seen++
	switch {
	case s.state != stateListen, !l.ours(s.uid):
	case l.port != 0 && s.port == l.port, l.port == 0 && l.file.is(s):
		l.found.add(s)
	case l.port == 0 && string(s.path) == l.path:
		l.named.add(s)
	}
}

// ours reports whether a socket of this user counts.
func (l *listenSocket) ours(uid uint32) bool {
	return l.counts == nil || uid == unknownUID || l.counts(uid)
}

func (q *listenQueue) add(s *diagSocket) {
	q.backlog += uint64(s.queue)
	q.limit += uint64(s.limit)
	q.addInode(s.inode)
	if !slices.Contains(q.families, s.family) {
		q.families = append(q.families, s.family)
	}
}

func (q *listenQueue) addInode(inode uint32) {
	if len(q.inodes) < maxInodes {
		q.inodes = append(q.inodes, inode)
	}
}

// inFlight counts the connections that were accepted, after a look. A TCP connection that still waits in the backlog is
// established for the kernel; a UNIX one it leaves out. It is asked for in the listeners' own families only, which
// accepted connections have too, an IPv4 client of an IPv6 listener included: the kernel walks its whole table of
// connections for each.
func (l *listenSocket) inFlight() (n uint64, err error) {
	l.estab = 0
	if l.port == 0 {
		err = l.diag.unixSockets(1<<stateEstab, l.eachConn)
		return l.estab, err
	}
	err = l.diag.tcp(l.found.families, l.port, 1<<stateEstab, l.eachConn)
	return l.estab - min(l.estab, l.found.backlog), err
}

func (l *listenSocket) connection(s *diagSocket) {
	ours := s.port == l.port
	if l.port == 0 {
		ours = l.file.is(s) || l.byName && string(s.path) == l.path
	}
	if ours && s.state == stateEstab {
		l.estab++
	}
}

func (l *listenSocket) byProc() error {
	l.clear()
	files := []string{"net/tcp", "net/tcp6"}
	if l.port == 0 {
		files = []string{"net/unix"}
	}
	for _, name := range files {
		err := l.scan(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // no IPv6
			return err
		}
	}
	return nil
}

func (l *listenSocket) scan(name string) error {
	f, err := l.proc.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Scan() // the heading
	for n := 2; lines.Scan(); n++ {
		l.seen++
		if err := l.line(lines.Bytes()); err != nil {
			return fmt.Errorf("read %s: line %d: %w", name, n, err)
		}
	}
	return lines.Err()
}

func (l *listenSocket) line(text []byte) error {
	if l.port != 0 {
		s, err := parseTCPLine(text)
		if err == nil && s.state == stateListen && s.port == l.port && l.ours(s.uid) {
			l.found.backlog += uint64(s.queue)
			l.found.addInode(uint32(s.inode))
		}
		return err
	}
	s, err := parseUnixLine(text)
	if err != nil || string(s.path) != l.path {
		return err
	}
	switch {
	case s.listen:
		l.found.addInode(uint32(s.inode))
	case s.inode == 0:
		l.found.backlog++
	}
	return nil
}

func (l *listenSocket) close() { l.diag.close() }

// socketFile is the file a UNIX socket is bound to: what the kernel knows it by, whatever path was used.
type socketFile struct{ ino, dev uint32 }

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

// diagUnusable reports whether there are no socket diagnostics here: a kernel without them, a module that cannot be
// loaded, an address family that is forbidden to us.
func diagUnusable(err error) bool {
	return isNoFamily(err) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) ||
		errors.Is(err, unix.EPROTONOSUPPORT)
}

func isNoFamily(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EINVAL)
}
