package collectors

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Ports finds the TCP ports on which processes listen. It looks at the processes' descriptors again only when they, or
// the host's listeners, are others than before: a server may have thousands. Both may be as many as the application
// likes, so each is bounded, and a look keeps its pace. The zero value is ready; it is not safe for concurrent use.
type Ports struct {
	diag diagConn
	proc fs.FS // nil: /proc
	pace pace

	pids      []int
	listeners map[uint32]uint16 // ports by the socket's inode
	last      []uint16
	cut       error // of the last look
}

const (
	maxListeners = 1 << 16 // of the host; more are in no order: then none is known
	maxListening = 64      // processes that are looked at: a server's workers all have its listener
	maxOpen      = 10_000  // descriptors of one
	maxLinks     = 30_000  // of all of them: some 60 ms
)

// Of returns the ports in ascending order, none for nil; with ErrCut there may be others. Processes that may not be
// looked at count for nothing. Within the pause after a look it is that look's answer.
func (p *Ports) Of(ctx context.Context, pids []int) ([]uint16, error) {
	if !p.pace.open(time.Now()) {
		return slices.Clone(p.last), p.cut
	}
	steps := 0
	defer func() { p.pace.after(time.Now(), steps) }()
	if len(pids) > maxListening {
		pids = pids[:maxListening]
	}
	now, err := p.listening()
	steps += len(now)
	if err != nil {
		p.pids, p.last, p.cut = nil, nil, err
		return nil, err
	}
	if !maps.Equal(now, p.listeners) || !slices.Equal(pids, p.pids) {
		p.listeners, p.pids = now, slices.Clone(pids)
		var read int
		p.last, read, p.cut = p.look(ctx)
		steps += read
	}
	return slices.Clone(p.last), p.cut
}

// listening returns the listeners of the host.
func (p *Ports) listening() (map[uint32]uint16, error) {
	found := map[uint32]uint16{}
	err := p.diag.tcp(tcpFamilies, 0, 1<<stateListen, func(s *diagSocket) {
		if s.state == stateListen && len(found) <= maxListeners {
			found[s.inode] = s.port
		}
	})
	if len(found) > maxListeners {
		return found, fmt.Errorf("%w: more than %d listening sockets", ErrCut, maxListeners)
	}
	return found, err
}

// Close gives the connection to the kernel back.
func (p *Ports) Close() error {
	p.diag.close()
	return nil
}

// look returns the ports of the processes, and how many descriptors it has read. One that ctx ends is made again.
func (p *Ports) look(ctx context.Context) (ports []uint16, read int, err error) {
	if p.proc == nil {
		p.proc = os.DirFS("/proc")
	}
	found := map[uint16]bool{}
	for _, pid := range p.pids {
		if read == maxLinks {
			err = fmt.Errorf("%w: more than %d descriptors of the web process's processes", ErrCut, maxLinks)
			break
		}
		if err = context.Cause(ctx); err != nil {
			p.pids = nil
			break
		}
		read += p.add(found, strconv.Itoa(pid)+"/fd", min(maxOpen, maxLinks-read))
	}
	return slices.Sorted(maps.Keys(found)), read, err
}

// add adds the ports of one process, by at most so many of its descriptors, and returns how many it has read.
func (p *Ports) add(found map[uint16]bool, dir string, most int) (read int) {
	open, err := p.proc.Open(dir)
	if err != nil {
		return 0
	}
	defer open.Close()
	list, ok := open.(fs.ReadDirFile)
	for ok && read < most {
		fds, err := list.ReadDir(min(descriptorsRead, most-read))
		for _, fd := range fds {
			link, err := fs.ReadLink(p.proc, dir+"/"+fd.Name())
			number, socket := strings.CutPrefix(strings.TrimSuffix(link, "]"), "socket:[")
			inode, bad := strconv.ParseUint(number, 10, 32)
			if err != nil || !socket || bad != nil {
				continue
			}
			if port, listens := p.listeners[uint32(inode)]; listens {
				found[port] = true
			}
		}
		if read += len(fds); err != nil {
			break
		}
	}
	return read
}
