package control

import (
	"slices"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
)

// exec starts a command. Detached, it answers with the run. Otherwise the client's connection itself, with its
// descriptors, goes to the supervisor, which answers 101 and speaks the session protocol on it from then on.
func (s *Server) exec(c *call) error {
	var req api.ExecRequest
	if err := c.decode(&req); err != nil {
		return err
	}
	if err := runs.CheckGrace(c.Caller.UID, req.Grace); err != nil {
		return badRequest("%v", err)
	}
	conn, _ := fdconn.FromContext(c.ctx())
	if err := conn.Refused(); err != nil {
		return err
	}
	files := conn.Take()
	defer fdconn.CloseAll(c.UID, files)
	if err := checkExec(req, len(files)); err != nil {
		return err
	}
	start, err := s.Backend.Prepare(c.ctx(), c.Caller, req)
	if err != nil {
		return err
	}
	if req.Mode == api.Detached {
		return answer(c)(start(c.ctx(), runs.Handover{}))
	}
	return c.handOver(func(conn *fdconn.Conn) error {
		_, err := start(c.ctx(), runs.Handover{Conn: conn, Files: files})
		return err
	})
}

func (s *Server) attach(c *call) error {
	var size session.Size
	if err := c.decode(&size); err != nil {
		return err
	}
	run, err := s.runFor(c, maySee)
	if err != nil {
		return err
	}
	return c.handOver(func(conn *fdconn.Conn) error {
		_, err := s.Backend.Runs().Attach(c.ctx(), run.ID, size, runs.Handover{Conn: conn})
		return err
	})
}

// checkExec refuses a request that cannot be started.
func checkExec(r api.ExecRequest, files int) error {
	want := map[string]int{api.Pipes: 3, api.Terminal: 0, api.Detached: 0}
	n, known := want[r.Mode]
	switch {
	case !known:
		return badRequest("unknown mode %q", r.Mode)
	case len(r.Args) == 0 || r.Args[0] == "":
		return badRequest("no command was given")
	case files != n:
		return badRequest("%d descriptors came with the request, expected %d", files, n)
	case slices.ContainsFunc(r.Args, hasNUL) || slices.ContainsFunc(r.Env, hasNUL):
		return badRequest("an argument or variable has a NUL byte, which no program can be given")
	}
	return nil
}

func hasNUL(s string) bool { return slices.Contains([]byte(s), 0) }

// handOver takes the connection from the HTTP server, which then reads it no more, and gives it to f. When f fails,
// its error is the answer on the connection.
func (c *call) handOver(f func(*fdconn.Conn) error) error {
	conn, err := session.Hijack(c.w)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := f(conn); err != nil {
		// A client that is gone needs no answer, and one that reads nothing is not waited for.
		_ = session.WriteRefusal(fdconn.Now{Socket: conn}, c.asError(err))
	}
	return nil
}
