package runs

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Errors that a caller may want to tell apart. They arrive wrapped in *Refused.
var (
	ErrExists   = errors.New("a run with this id exists")
	ErrLocked   = errors.New("the lock is held")
	ErrUnknown  = errors.New("no such run")
	ErrEnded    = errors.New("the run has ended")
	ErrNoAttach = errors.New("the run has no terminal")
	ErrDenied   = errors.New("not allowed")
	ErrClosing  = errors.New("the supervisor is shutting down")
)

// Values of Refused.Kind.
const (
	KindExists   = "exists"
	KindLocked   = "locked"
	KindUnknown  = "unknown"
	KindEnded    = "ended"
	KindNoAttach = "no terminal"
	KindDenied   = "denied"
	KindClosing  = "closing"
)

var errorKinds = map[string]error{
	KindExists: ErrExists, KindLocked: ErrLocked, KindUnknown: ErrUnknown, KindEnded: ErrEnded,
	KindNoAttach: ErrNoAttach, KindDenied: ErrDenied, KindClosing: ErrClosing,
	KindNoLease: ErrNoLease, KindLapsed: ErrLapsed,
}

// Refused is the supervisor's answer when it did not do what it was asked: the body of every response that
// is no success.
type Refused struct {
	Message string `json:"error"`
	Hint    string `json:"hint,omitempty"`
	Code    int    `json:"code,omitempty"` // what a client exits with: 125, 126 or 127
	Kind    string `json:"kind,omitempty"` // which of the Err… it is
	Run     *Run   `json:"run,omitempty"`  // the run in the way, for ErrLocked and ErrExists
	Status  int    `json:"-"`              // of the response; 0: 500
}

func (e *Refused) Error() string { return e.Message }

// Unwrap returns the Err… of its kind, or nil.
func (e *Refused) Unwrap() error { return errorKinds[e.Kind] }

func refused(resp *http.Response) error {
	e := &Refused{}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err := json.Unmarshal(text, e); err != nil || e.Message == "" {
		e.Message = fmt.Sprintf("the supervisor answered %q", resp.Status)
	}
	e.Code, e.Status = cmp.Or(e.Code, 125), resp.StatusCode
	e.knowsLease()
	return e
}
