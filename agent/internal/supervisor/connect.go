package supervisor

import (
	"net"

	"beanstalk-agent/agent/internal/runs"
)

// connect makes a run's streams of what was handed over. It takes the files over: on refusal they are
// closed.
func (s *server) connect(body runs.StartBody, l *live, files []int) (streams, *runs.Refused) {
	want := 0
	if body.HasConn {
		want++
	}
	if body.IO == runs.IOPipes {
		want += 3
	}
	if len(files) != want {
		closeFiles(files)
		return nil, misuse("%d descriptors came with the request, expected %d", len(files), want)
	}
	var conn net.Conn
	if body.HasConn {
		c, err := connOf(files[0])
		if err != nil {
			closeFiles(files[1:])
			return nil, misuse("take over the client's connection: %v", err)
		}
		conn, files = c, files[1:]
	}
	io, err := s.streamsFor(body, l, conn, files)
	if err != nil {
		closeFiles(files)
		if conn != nil {
			conn.Close()
		}
		return nil, &runs.Refused{Status: 500, Message: err.Error()}
	}
	return io, nil
}

func (s *server) streamsFor(body runs.StartBody, l *live, conn net.Conn, files []int) (streams, error) {
	switch body.IO {
	case runs.IOPipes:
		return &piped{fds: [3]int(files), conn: conn}, nil
	case runs.IOTerminal:
		return openTerminal(body, conn)
	default:
		p, err := openSpool(s.store.path(l.id, "output"), body.MaxOutput)
		if err != nil {
			return nil, err
		}
		p.conn = conn
		return p, nil
	}
}
