package cloudwatchfake

import (
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/aws/smithy-go/encoding/cbor"
)

// Fault is a way to misbehave.
type Fault string

// The faults. Each but None ends in something other than a good answer.
const (
	None       Fault = ""           // behave
	Throttle   Fault = "throttle"   // 400 Throttling, nothing applied
	Deny       Fault = "deny"       // 403 AccessDenied, nothing applied
	Internal   Fault = "500"        // 500, nothing applied
	Hang       Fault = "hang"       // no answer for as long as the client waits, nothing applied
	Reset      Fault = "reset"      // the connection is closed without an answer, nothing applied
	AnswerLost Fault = "lost"       // applied, then the connection is closed without an answer
	Answer500  Fault = "applied500" // applied, then 500
	Truncated  Fault = "truncated"  // applied, then an answer that breaks off
)

var denied = refuse(403, "AccessDenied", "User: arn:aws:sts::123456789012:assumed-role/aws-elasticbeanstalk-ec2-role/i-0123456789abcdef0 "+
	"is not authorized to perform: cloudwatch:PutMetricData because no identity-based policy allows the cloudwatch:PutMetricData action")

// Misbehave does f to the next n requests, or to all until the next call when n is negative.
func (s *Server) Misbehave(f Fault, n int) error {
	switch f {
	case None, Throttle, Deny, Internal, Hang, Reset, AnswerLost, Answer500, Truncated:
	default:
		return fmt.Errorf("misbehave as %q: no such fault", f)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault, s.left = f, n
	return nil
}

func (s *Server) takeFault() Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == 0 {
		return None
	}
	s.left--
	return s.fault
}

// applies reports whether a valid request takes effect.
func (f Fault) applies() bool {
	return f == None || f == AnswerLost || f == Answer500 || f == Truncated
}

// refusal is the answer that f puts before any look at the request.
func (f Fault) refusal(*http.Request) *refusal {
	switch f {
	case Throttle:
		return refuse(400, "Throttling", "Rate exceeded")
	case Deny:
		return denied
	case Internal:
		return &refusal{500, "InternalServiceFault", "InternalFailure", "internal error"}
	}
	return nil
}

func (f Fault) status(e *refusal) (int, string) {
	switch {
	case f == Hang || f == Reset || f == AnswerLost:
		return 0, ""
	case f == Answer500:
		return 500, "InternalFailure"
	case e != nil:
		return e.status, e.code
	}
	return 200, ""
}

// reset ends the connection with a TCP reset.
func reset(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		if tcp, ok := conn.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		conn.Close()
	}
}

// answer ends the request as f has it.
func (f Fault) answer(w http.ResponseWriter, r *http.Request, e *refusal) {
	switch f {
	case Hang:
		select {
		case <-r.Context().Done():
		case <-time.After(time.Minute):
		}
		reset(w)
		return
	case Reset, AnswerLost:
		reset(w)
		return
	case Answer500:
		(&refusal{500, "InternalServiceFault", "InternalFailure", "internal error"}).write(w)
		return
	case Truncated:
		w.Header().Set("Content-Length", "100")
		w.Write([]byte{0xbf})
		panic(http.ErrAbortHandler)
	}
	if e != nil {
		e.write(w)
		return
	}
	w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
	w.Header().Set("Content-Type", "application/cbor")
	w.Write(cbor.Encode(cbor.Map{}))
}
