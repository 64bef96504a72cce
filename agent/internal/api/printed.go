package api

import (
	"bytes"
	"encoding/json"
	"time"
)

// Names are fields that a verb prints with --json by another name than the socket carries, where clients and agents of
// every version know the old one. Keys are paths, such as ".jobs[].name".
type Names map[string]string

// Printed has the names of each verb's --json. One fact has one name in all of them: packaging/docs/cli.md lists them.
var Printed = map[string]Names{
	"cron list": {".jobs[].name": "job", ".jobs[].runs": "program", ".jobs[].running[].since": "started"},

	"cron list --cost": {".jobs[].name": "job"},
	"metrics --cost":   {".dollars_metrics": "metrics_dollars"},
	"capacity": {".why": "reasons", ".target": "target_share", ".used": "used_share",
		".settings[].value": "set_to"},

	"health":           {".host": "host_header", ".draining[].told": "answered_503"},
	"health --history": {"[].host": "host_header"},
	"health --as-load-balancer": {".asks[].host": "host_header", ".verdict": "application",
		".verdict.host": "host_header", ".draining[].told": "answered_503"},
}

// Rename gives the fields of a JSON value their printed names. Their order stays.
func (n Names) Rename(text []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var out bytes.Buffer
	if err := n.value(d, &out, ""); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func (n Names) value(d *json.Decoder, out *bytes.Buffer, path string) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	open, ok := token.(json.Delim)
	if !ok {
		return scalar(out, token)
	}
	out.WriteByte(byte(open))
	for i := 0; d.More(); i++ {
		if i > 0 {
			out.WriteByte(',')
		}
		below := path + "[]"
		if open == '{' {
			key, err := d.Token()
			if err != nil {
				return err
			}
			name := key.(string) // as a JSON object's keys are
			below = path + "." + name
			if to := n[below]; to != "" {
				name = to
			}
			if err := scalar(out, name); err != nil {
				return err
			}
			out.WriteByte(':')
		}
		if err := n.value(d, out, below); err != nil {
			return err
		}
	}
	end, err := d.Token()
	if err != nil {
		return err
	}
	out.WriteByte(byte(end.(json.Delim)))
	return nil
}

func scalar(out *bytes.Buffer, v any) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	out.Truncate(out.Len() - 1) // the newline
	return nil
}

// PrintedRun is a run as ps and cron history print it. The socket has the supervisor's record of it.
type PrintedRun struct {
	ID    string `json:"id"`
	Kind  string `json:"kind"`
	Name  string `json:"name"`
	Job   string `json:"job,omitempty"` // where Kind is cron
	State string `json:"state"`

	// Of a run that has ended.
	Result     string    `json:"result,omitempty"`
	ExitCode   *int      `json:"exit_code,omitempty"`
	Signal     int       `json:"signal,omitempty"`
	OOM        bool      `json:"oom,omitempty"`
	TimedOut   bool      `json:"timed_out,omitempty"`
	StoppedBy  string    `json:"stopped_by,omitempty"`
	LeftBehind int       `json:"left_behind,omitempty"`
	Ended      time.Time `json:"ended,omitzero"`

	Started    time.Time `json:"started,omitzero"`
	Took       float64   `json:"took_seconds"`
	CPU        float64   `json:"cpu_seconds,omitempty"`
	PeakMemory uint64    `json:"peak_memory_bytes,omitempty"`
	PID        int       `json:"pid,omitempty"`
	User       string    `json:"user,omitempty"`
	UID        uint32    `json:"uid"`
	Dir        string    `json:"dir,omitempty"`
	IO         string    `json:"io"`

	// Who asked for it, and why.
	Caller     *PrintedCaller `json:"caller,omitempty"`
	Reason     string         `json:"reason,omitempty"`
	Slot       time.Time      `json:"slot,omitzero"`
	Attempt    int            `json:"attempt,omitempty"`
	ChosenUser string         `json:"chosen_user,omitempty"`
	Shared     bool           `json:"shared,omitempty"`
	Detached   bool           `json:"detached,omitempty"`
	Attached   bool           `json:"attached,omitempty"`
	Lock       string         `json:"lock,omitempty"`

	Host       string `json:"host,omitempty"`
	Register   string `json:"register,omitempty"`
	AppVersion string `json:"app_version,omitempty"`
	Supervisor string `json:"supervisor_version,omitempty"`

	Output      string       `json:"output,omitempty"`
	OutputBytes int64        `json:"output_bytes,omitempty"`
	Truncated   bool         `json:"truncated,omitempty"`
	Args        []string     `json:"args,omitempty"`
	AllArgs     *PrintedArgs `json:"all_args,omitempty"`
}

// PrintedCaller is who asked for a run.
type PrintedCaller struct {
	UID   uint32 `json:"uid"`
	PID   int    `json:"pid,omitempty"`
	Login string `json:"login,omitempty"`
	From  string `json:"logged_in_as,omitempty"`
}

// PrintedArgs describes arguments that are too long to be shown whole.
type PrintedArgs struct {
	Count  int    `json:"count"`
	Bytes  int    `json:"size_bytes"`
	SHA256 string `json:"sha256"`
}

// PrintedElsewhere is a run of another instance as cron history prints it: what the job's register has of it, under the
// names of a PrintedRun.
type PrintedElsewhere struct {
	Kind        string     `json:"kind"`
	Name        string     `json:"name"`
	Job         string     `json:"job"`
	Result      string     `json:"result,omitempty"`
	Started     time.Time  `json:"started"`
	Ended       *time.Time `json:"ended,omitempty"`
	Took        float64    `json:"took_seconds"`
	Reason      string     `json:"reason,omitempty"`
	Slot        time.Time  `json:"slot"`
	Attempt     int        `json:"attempt"`
	Host        string     `json:"host"`
	Environment string     `json:"environment,omitempty"`
	Tail        string     `json:"tail,omitempty"`
}

// PrintedVersion is what version prints.
type PrintedVersion struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}
