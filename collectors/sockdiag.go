package collectors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
)

// The wire format of the kernel's socket diagnostics (sock_diag(7), linux/inet_diag.h, linux/unix_diag.h). Numbers are
// in the host's byte order but for ports, which are big-endian.
const (
	nlmsgHeader   = 16
	nlmsgError    = 2
	nlmsgDone     = 3
	sockDiagType  = 20    // SOCK_DIAG_BY_FAMILY
	dumpRequest   = 0x301 // NLM_F_REQUEST | NLM_F_DUMP
	familyUnix    = 1
	familyInet    = 2
	familyInet6   = 10
	stateEstab    = 1
	stateListen   = 10
	inetRequest   = nlmsgHeader + 56
	inetAnswer    = 72
	unixRequest   = nlmsgHeader + 24
	unixAnswer    = 16
	unixShowName  = 1 << 0
	unixShowVFS   = 1 << 1
	unixShowQueue = 1 << 4
	unixShowUID   = 1 << 6 // since Linux 5.3; older kernels leave it out
	unixAttrName  = 0
	unixAttrVFS   = 1
	unixAttrQueue = 4
	unixAttrUID   = 7
)

// diagSocket is one socket of an answer.
type diagSocket struct {
	family uint8
	port   uint16 // TCP only
	state  uint8
	queue  uint32 // a listener's connections not accepted yet
	limit  uint32 // how many there may be before the kernel refuses
	inode  uint32
	uid    uint32 // who made it; unknownUID where the kernel does not say
	path   []byte // UNIX only; in the reply's own bytes
	vfsIno uint32 // of the file a UNIX socket is bound to, 0 if none
	vfsDev uint32 // in the kernel's own encoding
}

// unknownUID is no user's number.
const unknownUID = 1<<32 - 1

// putInetRequest asks for TCP sockets on a local port: the kernel sends only those, and with stateListen it looks at
// listeners only, however many connections there are.
func putInetRequest(b *[inetRequest]byte, family uint8, port uint16, states uint32) {
	*b = [inetRequest]byte{}
	putHeader(b[:], inetRequest)
	b[16] = family
	b[17] = syscall.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[20:], states)
	binary.BigEndian.PutUint16(b[24:], port)
}

// putUnixRequest asks for UNIX sockets; the kernel cannot filter them by path.
func putUnixRequest(b *[unixRequest]byte, states uint32) {
	*b = [unixRequest]byte{}
	putHeader(b[:], unixRequest)
	b[16] = familyUnix
	binary.NativeEndian.PutUint32(b[20:], states)
	binary.NativeEndian.PutUint32(b[28:], unixShowName|unixShowVFS|unixShowQueue|unixShowUID)
}

func putHeader(b []byte, length uint32) {
	binary.NativeEndian.PutUint32(b[0:], length)
	binary.NativeEndian.PutUint16(b[4:], sockDiagType)
	binary.NativeEndian.PutUint16(b[6:], dumpRequest)
}

// errShortReply is a reply whose lengths do not fit together.
var errShortReply = errors.New("read sock_diag: the reply is cut short")

// parseDiag hands every socket of one reply to each, in s, which each must not keep, and reports whether the dump is
// over. A refusal by the kernel is a syscall.Errno within the error.
func parseDiag(b []byte, s *diagSocket, each func(*diagSocket)) (done bool, err error) {
	for len(b) >= nlmsgHeader {
		size := int(binary.NativeEndian.Uint32(b))
		if size < nlmsgHeader || size > len(b) {
			return false, errShortReply
		}
		body := b[nlmsgHeader:size]
		switch binary.NativeEndian.Uint16(b[4:]) {
		case nlmsgDone:
			return true, nil
		case nlmsgError:
			return true, diagRefusal(body)
		case sockDiagType:
			if !s.parse(body) {
				return false, errShortReply
			}
			each(s)
		}
		b = b[min(align4(size), len(b)):]
	}
	if len(b) > 0 {
		return false, errShortReply
	}
	return false, nil
}

func diagRefusal(body []byte) error {
	if len(body) < 4 {
		return errShortReply
	}
	code := int32(binary.NativeEndian.Uint32(body))
	if code == 0 {
		return nil
	}
	return fmt.Errorf("ask sock_diag: %w", syscall.Errno(-code))
}

func (s *diagSocket) parse(b []byte) bool {
	*s = diagSocket{uid: unknownUID}
	if len(b) == 0 {
		return false
	}
	if b[0] == familyUnix {
		return s.parseUnix(b)
	}
	if len(b) < inetAnswer {
		return false
	}
	s.family, s.state = b[0], b[1]
	s.port = binary.BigEndian.Uint16(b[4:])
	s.queue = binary.NativeEndian.Uint32(b[56:])
	s.limit = binary.NativeEndian.Uint32(b[60:])
	s.uid = binary.NativeEndian.Uint32(b[64:])
	s.inode = binary.NativeEndian.Uint32(b[68:])
	return true
}

func (s *diagSocket) parseUnix(b []byte) bool {
	if len(b) < unixAnswer {
		return false
	}
	s.family, s.state = b[0], b[2]
	s.inode = binary.NativeEndian.Uint32(b[4:])
	for b = b[unixAnswer:]; len(b) >= 4; {
		size := int(binary.NativeEndian.Uint16(b))
		if size < 4 || size > len(b) {
			return false
		}
		s.attribute(binary.NativeEndian.Uint16(b[2:]), b[4:size])
		b = b[min(align4(size), len(b)):]
	}
	return len(b) == 0
}

func (s *diagSocket) attribute(kind uint16, v []byte) {
	switch {
	case kind == unixAttrName:
		s.path = bytes.TrimRight(v, "\x00") // which older kernels count in: 6.1 does
	case kind == unixAttrVFS && len(v) >= 8:
		s.vfsIno = binary.NativeEndian.Uint32(v)
		s.vfsDev = binary.NativeEndian.Uint32(v[4:])
	case kind == unixAttrQueue && len(v) >= 8:
		s.queue = binary.NativeEndian.Uint32(v)
		s.limit = binary.NativeEndian.Uint32(v[4:])
	case kind == unixAttrUID && len(v) >= 4:
		s.uid = binary.NativeEndian.Uint32(v)
	}
}

func align4(n int) int { return (n + 3) &^ 3 }
