// Package cloudwatchfake answers as CloudWatch does to an unmodified SDK client that puts metrics, and to an unmodified
// AWS command line that reads them back.
//
// PutMetricData is accepted in the protocol the Go SDK speaks (Smithy RPC v2, CBOR, gzip), with the documented limits
// enforced all or nothing. ListMetrics and GetMetricStatistics are answered in the one Debian's awscli speaks
// (awsQuery), and PutMetricData as it and the CloudWatch agent send it. On demand it throttles, fails, hangs, resets, denies, and applies a request whose answer it then loses.
//
// What it cannot prove. It is ours, so it shows that the client and these rules agree, not that the rules are AWS's:
// nothing here says in which order AWS checks, which words and codes it uses where its documents name none, what it
// does at a limit the documents do not state, how it throttles, or what IAM decides. It checks the form, the scope and
// the date of a signature, not the signature. It keeps everything in memory, for ever, and aggregates at once.
package cloudwatchfake

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/smithy-go/encoding/cbor"
)

const (
	putPath   = "/service/GraniteServiceVersion20100801/operation/PutMetricData"
	maxBody   = 1 << 20
	skewLimit = 5 * time.Minute // of a signature's date
)

// Point is one datum that was accepted.
type Point struct {
	Namespace  string            `json:"namespace"`
	Name       string            `json:"name"`
	Unit       string            `json:"unit"`
	Dimensions map[string]string `json:"dimensions"`
	Time       time.Time         `json:"time"`
	Values     []float64         `json:"values"`
	Counts     []float64         `json:"counts"`
	Resolution int               `json:"resolution"`
}

// Request is one PutMetricData as it came, answered or not.
type Request struct {
	At       time.Time `json:"at"`
	Body     []byte    `json:"-"` // as sent, before gunzip
	Gzip     bool      `json:"gzip"`
	Datums   int       `json:"datums"`
	Applied  bool      `json:"applied"`
	Status   int       `json:"status"`    // 0: none was sent
	Signer   string    `json:"signer"`    // the key's id
	SignedIn string    `json:"signed_in"` // the region
	Code     string    `json:"code,omitempty"`
}

// Server is the fake. The zero value is ready; it is an http.Handler and safe for concurrent use.
type Server struct {
	// Optional. Now is the service's clock; nil: time.Now. Set before use.
	Now func() time.Time

	// Optional. Namespace, when set, is the only one that may be put, as an IAM condition would have it.
	Namespace string

	// Optional. Refuse reports datums that are to be refused beyond the documented rules. Set before use.
	Refuse func(Point) bool

	mu       sync.Mutex
	fault    Fault
	left     int // requests fault still applies to; negative: all
	points   []Point
	requests []Request
}

// Points returns what was accepted so far, in order.
func (s *Server) Points() []Point {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Point{}, s.points...)
}

// Requests returns every PutMetricData so far, in order.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request{}, s.requests...)
}

// ServeHTTP answers PutMetricData, the command line's queries, and under /-/ the test's own wishes: GET /-/points,
// GET /-/requests, POST /-/fault?kind=throttle&n=3 (n absent: until the next).
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat))
	w.Header().Set("X-Amzn-Requestid", "00000000-0000-0000-0000-000000000000")
	switch r.URL.Path {
	case putPath:
		s.put(w, r)
	case "/-/points":
		json.NewEncoder(w).Encode(s.Points())
	case "/-/requests":
		json.NewEncoder(w).Encode(s.Requests())
	case "/-/fault":
		s.setFault(w, r)
	case "/":
		s.query(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (s *Server) setFault(w http.ResponseWriter, r *http.Request) {
	n := -1
	if v := r.FormValue("n"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil {
			http.Error(w, "n is not a number", http.StatusBadRequest)
			return
		}
	}
	if err := s.Misbehave(Fault(r.FormValue("kind")), n); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

func (s *Server) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// put handles one PutMetricData: read whole, checked whole, then applied whole or not at all.
func (s *Server) put(w http.ResponseWriter, r *http.Request) {
	// The limit on what is read is far above the one that is enforced, so that a too large request is answered.
	raw, err := io.ReadAll(io.LimitReader(r.Body, 8*maxBody))
	if err != nil {
		return // the client went away
	}
	rec := Request{At: s.now(), Body: raw, Gzip: r.Header.Get("Content-Encoding") == "gzip"}
	rec.Signer, rec.SignedIn = scope(r.Header.Get("Authorization"))
	fault := s.takeFault()
	points, refusal := s.check(r, raw)
	if early := fault.refusal(r); early != nil {
		refusal = early
	}
	rec.Datums = len(points)
	if refusal == nil && fault.applies() {
		rec.Applied = true
	}
	rec.Status, rec.Code = fault.status(refusal)
	s.note(rec, points)
	fault.answer(w, r, refusal)
}

// scope returns whose key signed, and for which region.
func scope(auth string) (key, region string) {
	_, credential, _ := strings.Cut(auth, "Credential=")
	if parts := strings.Split(credential, "/"); len(parts) > 2 {
		return parts[0], parts[2]
	}
	return "", ""
}

func (s *Server) note(rec Request, points []Point) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, rec)
	if rec.Applied {
		s.points = append(s.points, points...)
	}
}

// refusal is an error as the service words it.
type refusal struct {
	status  int
	shape   string // __type
	code    string // of the awsQuery protocol that came before, sent along for old clients
	message string
}

func (e *refusal) Error() string { return e.code + ": " + e.message }

func refuse(status int, code, format string, args ...any) *refusal {
	return &refusal{status, code, code, fmt.Sprintf(format, args...)}
}

// write answers in the client's protocol.
func (e *refusal) write(w http.ResponseWriter) {
	fault := "Sender"
	if e.status >= 500 {
		fault = "Receiver"
	}
	w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
	w.Header().Set("Content-Type", "application/cbor")
	w.Header().Set("X-Amzn-Query-Error", e.code+";"+fault)
	w.WriteHeader(e.status)
	w.Write(cbor.Encode(cbor.Map{
		"__type":  cbor.String("com.amazonaws.cloudwatch#" + e.shape),
		"message": cbor.String(e.message),
	}))
}

// check returns the request's datums, or why all of them are refused.
func (s *Server) check(r *http.Request, raw []byte) ([]Point, *refusal) {
	if e := s.checkHead(r); e != nil {
		return nil, e
	}
	body, e := inflate(r, raw)
	if e != nil {
		return nil, e
	}
	v, err := cbor.Decode(body)
	if err != nil {
		return nil, refuse(400, "SerializationException", "%v", err)
	}
	points, err := decodePut(v)
	if err != nil {
		return nil, refuse(400, "SerializationException", "%v", err)
	}
	if e := validate(points, s.now()); e != nil {
		return points, e
	}
	if s.Namespace != "" && points[0].Namespace != s.Namespace {
		return points, denied
	}
	if s.Refuse != nil && slices.ContainsFunc(points, s.Refuse) {
		return points, invalid("one of the metrics is refused")
	}
	return points, nil
}

func (s *Server) checkHead(r *http.Request) *refusal {
	for _, h := range [][2]string{{"Smithy-Protocol", "rpc-v2-cbor"}, {"Content-Type", "application/cbor"}, {"Accept", "application/cbor"}} {
		if got := r.Header.Get(h[0]); got != h[1] {
			return refuse(400, "UnknownOperationException", "header %s is %q, must be %q", h[0], got, h[1])
		}
	}
	if r.Method != http.MethodPost {
		return refuse(405, "MethodNotAllowed", "%s", r.Method)
	}
	auth := r.Header.Get("Authorization")
	if !strings.HasPrefix(auth, "AWS4-HMAC-SHA256 Credential=") || !strings.Contains(auth, "/monitoring/aws4_request,") {
		return refuse(403, "MissingAuthenticationToken", "no signature for monitoring")
	}
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		return refuse(400, "IncompleteSignature", "no date")
	}
	if skew := s.now().Sub(at); skew.Abs() > skewLimit {
		return refuse(403, "RequestTimeTooSkewed", "the request's date differs from the service's by %v", skew)
	}
	return nil
}

func inflate(r *http.Request, raw []byte) ([]byte, *refusal) {
	body := raw
	switch enc := r.Header.Get("Content-Encoding"); enc {
	case "":
	case "gzip":
		z, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			return nil, refuse(400, "SerializationException", "gzip: %v", err)
		}
		if body, err = io.ReadAll(io.LimitReader(z, 8*maxBody)); err != nil {
			return nil, refuse(400, "SerializationException", "gzip: %v", err)
		}
	default:
		return nil, refuse(400, "SerializationException", "content encoding %q", enc)
	}
	// The documents say 1 MB for the POST, and do not say whether before or after gzip: the stricter reading is used.
	if len(body) > maxBody {
		return nil, refuse(http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "%d bytes", len(body))
	}
	return body, nil
}
