package session

import (
	"bytes"
	"slices"
	"strconv"
)

// Screen follows the escape sequences of a terminal's output that switch modes, to undo them when a
// client detaches and redo them when one attaches. The zero value is a terminal in its usual state. Feed
// it all output, in pieces of any size.
type Screen struct {
	seq   []byte       // an incomplete sequence: ESC [ ? digits
	modes map[int]bool // those not in their usual state
}

// usual is the state of the modes that programs switch (xterm's ctlseqs, "DEC Private Mode Set"): cursor
// keys, cursor, mouse, focus, alternate screen, bracketed paste. Others are ignored.
var usual = map[int]bool{
	1: false, 25: true, 47: false, 1000: false, 1002: false, 1003: false, 1004: false, 1005: false, 1006: false,
	1015: false, 1047: false, 1049: false, 2004: false,
}

// maxSeq bounds a sequence: a longer one is not of this kind.
const maxSeq = 32

// Feed follows p and calls main with the pieces of it for the main screen: those for the alternate one,
// of a full-screen program, are of no use in a scroll-back. main may be nil.
func (s *Screen) Feed(p []byte, main func([]byte)) {
	if main == nil {
		main = func([]byte) {}
	}
	start := 0 // of the bytes not passed to main yet
	for i := 0; i < len(p); {
		if len(s.seq) == 0 {
			next := bytes.IndexByte(p[i:], 0x1b)
			if next < 0 {
				break
			}
			i += next
		}
		was := s.Alternate()
		s.step(p[i])
		i++
		if now := s.Alternate(); now != was {
			if now {
				main(p[start:i]) // the switch itself is undone by Undo and redone by Redo
			}
			start = i
		}
	}
	if !s.Alternate() && start < len(p) {
		main(p[start:])
	}
}

// step follows one byte of a sequence ESC [ ? n ; n … h or l.
func (s *Screen) step(b byte) {
	switch n := len(s.seq); {
	case b == 0x1b:
		s.seq = append(s.seq[:0], b)
	case n == 1 && b == '[', n == 2 && b == '?', n >= 3 && n < maxSeq && (b >= '0' && b <= '9' || b == ';'):
		s.seq = append(s.seq, b)
	case n >= 3 && (b == 'h' || b == 'l'):
		s.set(s.seq[3:], b == 'h')
		s.seq = s.seq[:0]
	case n == 1 && b == 'c': // full reset
		s.modes, s.seq = nil, s.seq[:0]
	default:
		s.seq = s.seq[:0]
	}
}

func (s *Screen) set(params []byte, on bool) {
	for param := range bytes.SplitSeq(params, []byte(";")) {
		mode, err := strconv.Atoi(string(param))
		normal, known := usual[mode]
		switch {
		case err != nil || !known:
		case on == normal:
			delete(s.modes, mode)
		case s.modes == nil:
			s.modes = map[int]bool{mode: on}
		default:
			s.modes[mode] = on
		}
	}
}

// Alternate reports whether the alternate screen is shown.
func (s *Screen) Alternate() bool { return s.modes[47] || s.modes[1047] || s.modes[1049] }

// Undo returns the sequences that put a terminal back in its usual state; nil when it is.
func (s *Screen) Undo() []byte {
	var b []byte
	for _, mode := range s.changed() {
		b = appendMode(b, mode, usual[mode])
	}
	if b != nil {
		b = append(b, "\x1b[0m"...)
	}
	return b
}

// Redo returns the sequences that put a terminal from its usual state into this one.
func (s *Screen) Redo() (b []byte) {
	for _, mode := range s.changed() {
		b = appendMode(b, mode, s.modes[mode])
	}
	return b
}

func (s *Screen) changed() []int {
	changed := make([]int, 0, len(s.modes))
	for mode := range s.modes {
		changed = append(changed, mode)
	}
	slices.Sort(changed)
	return changed
}

func appendMode(b []byte, mode int, on bool) []byte {
	b = append(b, "\x1b[?"...)
	b = strconv.AppendInt(b, int64(mode), 10)
	if on {
		return append(b, 'h')
	}
	return append(b, 'l')
}
