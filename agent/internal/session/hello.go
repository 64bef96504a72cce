package session

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/fdconn"
)

// Hello is the run's side's first message, in a header of its response.
type Hello struct {
	Run      string `json:"run"`
	Terminal bool   `json:"terminal,omitzero"` // output comes in frames; otherwise on the client's own descriptors
	Attached bool   `json:"attached,omitzero"` // the run existed before: its scroll-back comes first
	Ended    bool   `json:"ended,omitzero"`    // and it has ended: its last output comes, then its exit
}

const helloHeader = "Agent-Session"

// WriteHello answers the HTTP request that was read on w, and begins the session.
func WriteHello(w io.Writer, h Hello) error {
	p, err := json.Marshal(h)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"+
		"Upgrade: %s\r\n%s: %s\r\n\r\n", Protocol, helloHeader, p)
	return err
}

// Refusal is a failure with what to do about it. As JSON it is the body of every answer but 101.
type Refusal struct {
	Message string `json:"error"`          // one line
	Hint    string `json:"hint,omitempty"` // what to do about it, one thing a line
	Exit    int    `json:"code,omitempty"` // what a client exits with: 125, 126 or 127
	Status  int    `json:"-"`              // HTTP
}

func (e *Refusal) Error() string { return e.Message }

// Hints says what to do about it.
func (e *Refusal) Hints() []string {
	if e.Hint == "" {
		return nil
	}
	return strings.Split(e.Hint, "\n")
}

// WriteRefusal answers a request on a connection that was hijacked from its http.Server. Its defaults are status
// 500 and exit code 125.
func WriteRefusal(w io.Writer, e *Refusal) error {
	body := *e
	body.Exit = cmp.Or(e.Exit, 125)
	p, err := json.Marshal(body)
	if err != nil {
		return err
	}
	status := e.Status
	if status < 400 {
		status = http.StatusInternalServerError
	}
	_, err = fmt.Fprintf(w, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"+
		"Connection: close\r\n\r\n%s", status, http.StatusText(status), len(p), p)
	return err
}

// Conn is a session from the client's end.
type Conn struct {
	Hello Hello

	conn   *net.UnixConn
	reader *bufio.Reader
	pipes  pipes
}

// Open sends req over c, with files attached to its first byte, and waits for the answer. The body must
// fit into memory. A refusal is a *Refusal. The caller keeps the files, and may close them when Open
// returns; c belongs to the session, and is closed on error. A terminal among the files is not sent: the run
// gets a pipe in its place, and Run copies.
func Open(c *net.UnixConn, req *http.Request, files ...int) (*Conn, error) {
	return open(c, req, files, func(files []int) error {
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", Protocol)
		var b bytes.Buffer
		if err := req.Write(&b); err != nil {
			return fmt.Errorf("write request: %w", err)
		}
		err := fdconn.Send(c, b.Bytes(), files...)
		if err != nil && !errors.Is(err, syscall.EPIPE) { // who is refused is answered before all of it is read
			return fmt.Errorf("send request: %w", err)
		}
		return nil
	})
}

// Local is a session with a run of this very process: start gets its end of a connection, and the files for the run,
// none of which is a terminal. All stay the caller's.
func Local(start func(conn *os.File, files []int) error, files ...int) (*Conn, error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, fmt.Errorf("make a connection: %w", err)
	}
	far, near := os.NewFile(uintptr(ends[0]), "run"), os.NewFile(uintptr(ends[1]), "client")
	defer far.Close()
	defer near.Close()
	c, err := net.FileConn(near)
	if err != nil {
		return nil, fmt.Errorf("make a connection: %w", err)
	}
	return open(c.(*net.UnixConn), nil, files, func(files []int) error { return start(far, files) })
}

// open starts the run by send and reads the answer.
func open(c *net.UnixConn, req *http.Request, files []int, send func(files []int) error) (*Conn, error) {
	s := &Conn{conn: c, reader: bufio.NewReader(c)}
	files, err := s.pipes.standIn(files)
	if err == nil {
		err = send(files)
	}
	s.pipes.handedOver()
	if err == nil {
		err = s.readAnswer(req)
	}
	if err != nil {
		s.pipes.abandon()
		c.Close()
		return nil, err
	}
	return s, nil
}

func (c *Conn) readAnswer(req *http.Request) error {
	resp, err := http.ReadResponse(c.reader, req)
	if err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("the connection was closed before an answer came")
		}
		return fmt.Errorf("read answer: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return readRefusal(resp)
	}
	if got := resp.Header.Get("Upgrade"); got != Protocol {
		return fmt.Errorf("open session: the other side speaks %q, this client %q", got, Protocol)
	}
	if err := json.Unmarshal([]byte(resp.Header.Get(helloHeader)), &c.Hello); err != nil {
		return fmt.Errorf("parse session header: %w", err)
	}
	return nil
}

func readRefusal(resp *http.Response) error {
	e := &Refusal{Exit: 125}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, MaxPayload))
	if err := json.Unmarshal(b, e); err != nil || e.Message == "" {
		e.Message = fmt.Sprintf("the agent answered %q", resp.Status)
	}
	e.Status = resp.StatusCode
	return e
}

// Close closes the connection. A run with a terminal goes on; one without is ended, as when the client dies.
func (c *Conn) Close() error { return c.conn.Close() }

// Hijack takes the connection of a request from its http.Server, whose body must have been read. Call it
// before the connection is handed to the supervisor: until then the server reads from it. The caller
// answers (the supervisor's Hello, or WriteRefusal) and closes.
func Hijack(w http.ResponseWriter) (*fdconn.Conn, error) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("take over connection: %w", err)
	}
	fc, ok := c.(*fdconn.Conn)
	if !ok {
		c.Close()
		return nil, errors.New("take over connection: it is not a unix socket of ours")
	}
	if rw.Reader.Buffered() > 0 {
		const early = "bytes were sent before the answer"
		WriteRefusal(fdconn.Now{Socket: fc}, &Refusal{Status: http.StatusBadRequest, Message: early})
		c.Close()
		return nil, errors.New("take over connection: " + early)
	}
	return fc, nil
}
