package collectors

import (
	"cmp"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Ports finds the TCP ports on which processes listen. It looks at the processes' descriptors again only when they, or
// the host's listeners, are others than before, and seldom where that takes long: a server may have thousands, and
// anybody can make a listener that comes and goes. The zero value is ready; it is not safe for
// concurrent use.
type Ports struct {
	diag      diagConn
	pids      []int
	listeners []listener // by inode
	last      []uint16
	notBefore time.Time // the next look
}

// listener is a listening socket of the host.
type listener struct {
	inode uint32
	port  uint16
}

const (
	maxListening = 64                    // processes that are looked at: a server's workers all have its listener
	maxOpen      = 10_000                // descriptors of one
	maxLooked    = 20_000                // of all: of more workers the first ones tell
	maxListeners = 65_536                // of the host
	lookShare    = 20                    // a look is followed by so many times its length without one,
	quickLook    = 50 * time.Millisecond // if it was longer
)

// Of returns the ports in ascending order, none for nil. Processes that may not be looked at count for nothing.
func (p *Ports) Of(pids []int) ([]uint16, error) {
	if len(pids) > maxListening {
		pids = pids[:maxListening]
	}
	var now []listener
	err := p.diag.tcp(tcpFamilies, 0, 1<<stateListen, func(s *diagSocket) {
		if s.state == stateListen && len(now) < maxListeners {
			now = append(now, listener{s.inode, s.port})
		}
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(now, func(a, b listener) int { return cmp.Compare(a.inode, b.inode) })
	began := time.Now()
	if same := slices.Equal(now, p.listeners) && slices.Equal(pids, p.pids); !same && !began.Before(p.notBefore) {
		p.listeners, p.pids = now, slices.Clone(pids)
		p.look()
		if took := time.Since(began); took > quickLook {
			p.notBefore = began.Add((1 + lookShare) * took)
		}
	}
	return slices.Clone(p.last), nil
}

// look finds the ports of the processes.
func (p *Ports) look() {
	ports := map[uint16]bool{}
	left := maxLooked
	for _, pid := range p.pids {
		if left -= p.add(pid, min(left, maxOpen), ports); left <= 0 {
			break
		}
	}
	p.last = slices.Sorted(maps.Keys(ports))
}

// Close gives the connection to the kernel back.
func (p *Ports) Close() error {
	p.diag.close()
	return nil
}

// add adds the ports of one process, of whose descriptors it looks at most so many. It returns how many there were.
func (p *Ports) add(pid, most int, ports map[uint16]bool) (looked int) {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	f, err := os.Open(dir)
	if err != nil {
		return 0
	}
	defer f.Close()
	names, _ := f.Readdirnames(most)
	for _, name := range names {
		link, err := os.Readlink(dir + "/" + name)
		number, socket := strings.CutPrefix(strings.TrimSuffix(link, "]"), "socket:[")
		inode, bad := strconv.ParseUint(number, 10, 32)
		if err != nil || !socket || bad != nil {
			continue
		}
		byInode := func(l listener, inode uint32) int { return cmp.Compare(l.inode, inode) }
		if i, ok := slices.BinarySearchFunc(p.listeners, uint32(inode), byInode); ok {
			ports[p.listeners[i].port] = true
		}
	}
	return len(names)
}
