package supervisor

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/runs"
)

// maxBody bounds a request: an environment and an argv together stay below 2 MiB in the kernel.
const maxBody = 8 << 20

// maxMessage bounds the text of a refusal, which quotes what was asked for.
const maxMessage = 2 << 10

// guard closes descriptors that the handler did not take. Callers of another user do not come so far: see Serve.
func guard(h func(http.ResponseWriter, *http.Request) *runs.Refused) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := fdconn.FromContext(r.Context())
		if !ok {
			http.Error(w, "not a connection of ours", http.StatusInternalServerError)
			return
		}
		defer func() { fdconn.CloseAll(c.Peer().UID, c.Take()) }()
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if e := h(w, r); e != nil {
			fail(w, e)
		}
	})
}

func fail(w http.ResponseWriter, e *runs.Refused) {
	e.Code, e.Message = cmp.Or(e.Code, command.CodeRefused), runs.Brief(e.Message, maxMessage)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(cmp.Or(e.Status, http.StatusInternalServerError))
	json.NewEncoder(w).Encode(e)
}

func reply(w http.ResponseWriter, v any) *runs.Refused {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
	return nil
}

// decode reads a body that has no field unknown to us: one that is, may be a limit we would not keep.
func decode(r *http.Request, v any) *runs.Refused {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil && !errors.Is(err, io.EOF) {
		return &runs.Refused{Status: 400, Message: fmt.Sprintf("read request: %v", err),
			Hint: "the agent may be newer than the supervisor: systemctl status agent-runs"}
	}
	io.Copy(io.Discard, r.Body) // to the end, so that every descriptor has arrived
	return nil
}

func misuse(format string, args ...any) *runs.Refused {
	return &runs.Refused{Status: 400, Code: command.CodeRefused, Message: fmt.Sprintf(format, args...)}
}

func denied(format string, args ...any) *runs.Refused {
	return &runs.Refused{
		Status: 403, Code: command.CodeRefused, Kind: runs.KindDenied, Message: fmt.Sprintf(format, args...),
	}
}

func callerGone() *runs.Refused {
	return &runs.Refused{Status: 408, Message: "the caller has gone: nothing was started"}
}
