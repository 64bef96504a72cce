package supervisor

import (
	"bytes"

	"beanstalk-agent/agent/internal/session"
)

// scrollbackMax bounds what is kept of a terminal's output, for a client that attaches.
const scrollbackMax = 64 << 10

// scrollback is the end of what a terminal showed on its main screen, and the modes it is in. It grows as
// needed: a session that prints a prompt holds a few hundred bytes.
type scrollback struct {
	text   []byte
	screen session.Screen
}

func (s *scrollback) add(p []byte) { s.screen.Feed(p, s.keep) }

func (s *scrollback) keep(p []byte) {
	if len(s.text)+len(p) > scrollbackMax+scrollbackMax/4 { // a quarter of slack, so that not every write moves all
		s.text = append(s.text, p...)
		s.text = append(s.text[:0], tail(s.text, scrollbackMax)...)
		return
	}
	s.text = append(s.text, p...)
}

// tail returns at most n bytes of the end of p, from the beginning of a line: a cut within an escape
// sequence or a character would show as garbage.
func tail(p []byte, n int) []byte {
	if len(p) <= n {
		return p
	}
	p = p[len(p)-n:]
	if i := bytes.IndexByte(p, '\n'); i >= 0 {
		return p[i+1:]
	}
	return p
}

// last is what a terminal showed last on its main screen, once the program has ended: no mode is redone.
func (s *scrollback) last() []byte { return tail(s.text, scrollbackMax) }

// replay is what makes a client's terminal look as it would had it been there.
func (s *scrollback) replay() []byte {
	b := append([]byte("\x1b[0m"), tail(s.text, scrollbackMax)...)
	return append(b, s.screen.Redo()...)
}
