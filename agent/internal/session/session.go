// Package session is the protocol between a client and its run, without the agent.
//
// Contract. The client sends one HTTP request to the agent, with its descriptors attached to the first
// byte, and nothing after it. The supervisor, which has the connection by the time the run exists, answers
//
//	HTTP/1.1 101 Switching Protocols
//	Connection: Upgrade
//	Upgrade: agent-session/1
//	Agent-Session: {"run":"ID", …}          a Hello
//
// and from then on both sides send frames. Any other status is a refusal with a JSON body (Refusal), the
// connection is closed after it, and no command was started. The last frame of a session is Exit, after
// all output; a connection that ends without one means that the other side died.
//
// A frame is a type byte, a length of three bytes, most significant first, and so many bytes. Frames of
// an unknown type are skipped, so that either side may be newer.
package session

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Protocol is the token of the Upgrade header. A new one is needed only when old frames change meaning.
const Protocol = "agent-session/1"

// Type is the kind of a frame.
type Type byte

// Frames of the client.
const (
	Input  Type = 'i' // bytes for the terminal
	EOF    Type = 'e' // end of input
	Resize Type = 'r' // two numbers of two bytes: rows, columns
	Signal Type = 's' // one byte: a signal's number on this system
	Detach Type = 'd' // leave the session running
)

// Frames of the run's side.
const (
	Output Type = 'o' // bytes from the terminal
	Notice Type = 'n' // text for the user, for stderr
	Exited Type = 'x' // JSON Exit; the last frame
)

// MaxPayload bounds a frame: a peer that claims more is not speaking our protocol.
const MaxPayload = 64 << 10

const headerSize = 4

// AppendFrame appends a frame to b. A payload above MaxPayload is a bug of the caller's and panics.
func AppendFrame(b []byte, t Type, payload []byte) []byte {
	if len(payload) > MaxPayload {
		panic(fmt.Sprintf("session: payload of %d bytes", len(payload)))
	}
	n := len(payload)
	b = append(b, byte(t), byte(n>>16), byte(n>>8), byte(n))
	return append(b, payload...)
}

// WriteFrame writes a frame with one Write, so that frames of several goroutines do not mix where the
// writer serialises writes.
func WriteFrame(w io.Writer, t Type, payload []byte) error {
	_, err := w.Write(AppendFrame(make([]byte, 0, headerSize+len(payload)), t, payload))
	return err
}

// Reader reads frames. The zero value with R set is ready; one goroutine at a time.
type Reader struct {
	R io.Reader // required; read in small pieces, so give it something buffered where that matters

	header  [headerSize]byte
	payload []byte
}

// Next returns the next frame; its payload is valid until the call after. At a clean end the error is
// io.EOF, within a frame io.ErrUnexpectedEOF.
func (r *Reader) Next() (Type, []byte, error) {
	if _, err := io.ReadFull(r.R, r.header[:]); err != nil {
		return 0, nil, err
	}
	n := int(r.header[1])<<16 | int(r.header[2])<<8 | int(r.header[3])
	if n > MaxPayload {
		return 0, nil, fmt.Errorf("read frame: %d bytes announced, at most %d are allowed", n, MaxPayload)
	}
	if cap(r.payload) < n {
		r.payload = make([]byte, n)
	}
	p := r.payload[:n]
	if _, err := io.ReadFull(r.R, p); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return Type(r.header[0]), p, nil
}

// Exit is how the session's run ended.
type Exit struct {
	Run        string        `json:"run"`
	Code       int           `json:"code"` // the client's exit code, DESIGN §6
	Signal     int           `json:"signal,omitzero"`
	OOM        bool          `json:"oom,omitzero"`
	PeakMemory uint64        `json:"peak_memory,omitzero"` // bytes
	TimedOut   bool          `json:"timed_out,omitzero"`
	Took       time.Duration `json:"took_ns,omitzero"`
	Detached   bool          `json:"detached,omitzero"` // the run goes on: this client was detached
	Message    string        `json:"message,omitzero"`  // for stderr, when there is something to say
}

// ParseExit reads the payload of an Exited frame.
func ParseExit(p []byte) (Exit, error) {
	var e Exit
	if err := json.Unmarshal(p, &e); err != nil {
		return Exit{}, fmt.Errorf("parse exit frame: %w", err)
	}
	return e, nil
}

// WriteExit writes the last frame.
func WriteExit(w io.Writer, e Exit) error {
	p, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return WriteFrame(w, Exited, p)
}

// Size is a terminal's size in characters.
type Size struct {
	Rows uint16 `json:"rows,omitzero"`
	Cols uint16 `json:"cols,omitzero"`
}

// AppendSize encodes the payload of a Resize frame.
func AppendSize(b []byte, s Size) []byte {
	return append(b, byte(s.Rows>>8), byte(s.Rows), byte(s.Cols>>8), byte(s.Cols))
}

// ParseSize reads the payload of a Resize frame.
func ParseSize(p []byte) (Size, bool) {
	if len(p) < 4 {
		return Size{}, false
	}
	return Size{Rows: uint16(p[0])<<8 | uint16(p[1]), Cols: uint16(p[2])<<8 | uint16(p[3])}, true
}
