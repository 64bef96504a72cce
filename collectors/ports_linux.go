package collectors

import (
	"os"
	"slices"
	"strconv"
	"strings"
)

// Ports finds the TCP ports on which processes listen. It looks at the processes' descriptors again only when they, or
// the host's listeners, are others than before: a server may have thousands. The zero value is ready; it is not safe
// for concurrent use.
type Ports struct {
	diag      diagConn
	pids      []int
	listeners []listener
	last      []uint16
}

// listener is a listening socket of the host.
type listener struct {
	inode uint32
	port  uint16
}

const (
	maxListening = 64     // processes that are looked at: a server's workers all have its listener
	maxOpen      = 10_000 // descriptors of one
)

// Of returns the ports in ascending order, none for nil. Processes that may not be looked at count for nothing.
func (p *Ports) Of(pids []int) ([]uint16, error) {
	if len(pids) > maxListening {
		pids = pids[:maxListening]
	}
	var now []listener
	err := p.diag.tcp(tcpFamilies, 0, 1<<stateListen, func(s *diagSocket) {
		if s.state == stateListen {
			now = append(now, listener{s.inode, s.port})
		}
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(now, func(a, b listener) int { return int(a.inode) - int(b.inode) })
	if !slices.Equal(now, p.listeners) || !slices.Equal(pids, p.pids) {
		p.listeners, p.pids, p.last = now, slices.Clone(pids), nil
		for _, pid := range pids {
			p.add(pid)
		}
		slices.Sort(p.last)
	}
	return slices.Clone(p.last), nil
}

// Close gives the connection to the kernel back.
func (p *Ports) Close() error {
	p.diag.close()
	return nil
}

// add adds the ports of one process.
func (p *Ports) add(pid int) {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	names, _ := f.Readdirnames(maxOpen)
	for _, name := range names {
		link, err := os.Readlink(dir + "/" + name)
		number, socket := strings.CutPrefix(strings.TrimSuffix(link, "]"), "socket:[")
		inode, bad := strconv.ParseUint(number, 10, 32)
		if err != nil || !socket || bad != nil {
			continue
		}
		for _, l := range p.listeners {
			if l.inode == uint32(inode) && !slices.Contains(p.last, l.port) {
				p.last = append(p.last, l.port)
			}
		}
	}
}
