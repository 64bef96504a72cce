package collectors

import (
	"bytes"
	"errors"
)

// netSocket is one line of /proc/net/tcp, tcp6 or unix, what the kernel tells
// where socket diagnostics are not to be had.
type netSocket struct {
	port   uint16 // TCP only
	state  uint8
	queue  uint32 // TCP listeners only: connections not accepted yet
	uid    uint32 // TCP only
	inode  uint64
	path   []byte // UNIX only
	listen bool   // UNIX only: the line is a listener's
}

// parseTCPLine reads a line such as
//
//	0: 0100007F:1F40 00000000:0000 0A 00000000:00000007 00:00000000 00000000 0 0 4242 1 …
func parseTCPLine(line []byte) (s netSocket, err error) {
	bad := errors.New("want sl, local address:port, remote, state, tx:rx …")
	_, rest := cutWord(line)
	local, rest := cutWord(rest)
	_, rest = cutWord(rest)
	state, rest := cutWord(rest)
	queues, rest := cutWord(rest)
	for range 2 { // timer, retransmits
		_, rest = cutWord(rest)
	}
	uid, rest := cutWord(rest)
	_, rest = cutWord(rest) // timeout
	inode, _ := cutWord(rest)
	_, portHex, ok1 := bytes.Cut(local, []byte{':'})
	_, rxHex, ok2 := bytes.Cut(queues, []byte{':'})
	port, ok3 := hexNumber(portHex)
	st, ok4 := hexNumber(state)
	rx, ok5 := hexNumber(rxHex)
	ino, ok6 := number(inode)
	who, ok7 := number(uid)
	if !(ok1 && ok2 && ok3 && ok4 && ok5 && ok6 && ok7) || port > 0xffff || st > 0xff || who > unknownUID {
		return s, bad
	}
	return netSocket{port: uint16(port), state: uint8(st), queue: rx, uid: uint32(who), inode: ino}, nil
}

// parseUnixLine reads a line such as
//
//	0000000000000000: 00000002 00000000 00010000 0001 01 4242 /run/app.sock
//
// Its flags have bit 16 (SO_ACCEPTCON) for a listener. A connection that waits
// to be accepted is a line of its own, with the listener's path and inode 0.
func parseUnixLine(line []byte) (s netSocket, err error) {
	_, rest := cutWord(line)
	for range 2 { // references, protocol
		_, rest = cutWord(rest)
	}
	flags, rest := cutWord(rest)
	_, rest = cutWord(rest)
	state, rest := cutWord(rest)
	inode, path := cutWord(rest)
	fl, ok1 := hexNumber(flags)
	st, ok2 := hexNumber(state)
	ino, ok3 := number(inode)
	if !(ok1 && ok2 && ok3) || st > 0xff {
		return s, errors.New("want num, refs, protocol, flags, type, state, inode, path")
	}
	return netSocket{state: uint8(st), inode: ino, path: path, listen: fl&0x10000 != 0}, nil
}

func hexNumber(b []byte) (n uint32, ok bool) {
	if len(b) == 0 || len(b) > 8 {
		return 0, false
	}
	for _, c := range b {
		var d byte
		switch {
		case c >= '0' && c <= '9':
			d = c - '0'
		case c >= 'A' && c <= 'F':
			d = c - 'A' + 10
		case c >= 'a' && c <= 'f':
			d = c - 'a' + 10
		default:
			return 0, false
		}
		n = n<<4 | uint32(d)
	}
	return n, true
}
