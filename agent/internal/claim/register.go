package claim

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	registerVersion = 1
	maxRegister     = 64 << 10 // bytes
	maxOutcome      = 200      // bytes
	maxText         = 255      // bytes of what no agent writes longer
)

// keptRuns is how many slots a register lists. A job every minute on instances whose clocks differ by three minutes
// either way needs seven; with fewer, an instance with a slow clock does not know whether its slot ran.
const keptRuns = 16

// Run is one claimed slot.
type Run struct {
	Slot     time.Time `json:"slot"`
	Owner    string    `json:"owner"`
	Nonce    string    `json:"nonce"`
	Claimed  time.Time `json:"claimed"`
	Finished time.Time `json:"finished,omitzero"`
	Outcome  string    `json:"outcome,omitempty"` // "" until it has ended
}

// Register lists a job's last slots, newest first.
type Register struct {
	Version int    `json:"version"`
	Job     string `json:"job"`
	Runs    []Run  `json:"runs"`
}

// register is a Register with the tag that the next write must name: absent when there is no object yet, "" when it has
// not been read.
type register struct {
	Register
	tag string
}

const absent = "absent"

// decide returns the outcome of a claim according to the register; no state means that the slot is free.
func (r register) decide(slot time.Time, nonce string) Outcome {
	o := Outcome{}
	for _, run := range r.Runs {
		switch {
		case !run.Slot.Equal(slot):
			if run.Outcome == "" {
				o.Unfinished = append(o.Unfinished, run)
			} else if o.Before.Nonce == "" && run.Slot.Before(slot) {
				o.Before = run
			}
		case run.Nonce == nonce:
			o.State = Won
		default:
			o.State, o.By = Lost, run
		}
	}
	if n := len(r.Runs); o.State == "" && n >= keptRuns && slot.Before(r.Runs[n-1].Slot) {
		o.State, o.By = Superseded, r.Runs[0]
	}
	return o
}

// maxAhead is how far in the future a claim may be by the store's clock: no instance claims a slot before it is due,
// but clocks differ a little.
const maxAhead = 5 * time.Minute

// ahead returns the first run that is claimed in the future. No agent writes such a run: whoever does would keep all
// instances from the job's slots, without a word.
func (r Register) ahead(now time.Time) (Run, bool) {
	for _, run := range r.Runs {
		if limit := now.Add(maxAhead); run.Slot.After(limit) || run.Claimed.After(limit) {
			return run, true
		}
	}
	return Run{}, false
}

// with returns r with run added in its place. The oldest go when there are too many.
func (r register) with(run Run) register {
	runs := append(slices.Clone(r.Runs), run)
	slices.SortStableFunc(runs, func(a, b Run) int { return b.Slot.Compare(a.Slot) })
	r.Runs = runs[:min(len(runs), keptRuns)]
	r.Version = registerVersion
	return r
}

// parseRegister accepts registers of this version, also with more fields. It refuses a damaged one: to take it for
// empty would run a slot twice.
func parseRegister(b []byte) (Register, error) {
	var r Register
	if len(b) > maxRegister {
		return r, fmt.Errorf("it has more than %d bytes", maxRegister)
	}
	if err := json.Unmarshal(b, &r); err != nil { // not a Decoder, whose More is false before a brace too many
		return Register{}, err
	}
	if r.Version != registerVersion {
		return Register{}, fmt.Errorf("it has version %d and this agent knows %d", r.Version, registerVersion)
	}
	for i, run := range r.Runs {
		if run.Slot.IsZero() || run.Nonce == "" || i > 0 && !run.Slot.Before(r.Runs[i-1].Slot) {
			return Register{}, fmt.Errorf("run %d has no slot, no nonce, or is out of order", i+1)
		}
		if len(run.Owner) > maxText || len(run.Nonce) > maxText || len(run.Outcome) > maxText {
			return Register{}, fmt.Errorf("run %d has a text of more than %d bytes", i+1, maxText)
		}
	}
	return r, nil
}

func (r Register) encode() ([]byte, error) {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encode the register: %w", err)
	}
	return append(b, '\n'), nil
}

// objectName is a job's name as part of a key: letters, digits, dots and hyphens stay, every other byte becomes _XX, so
// that no two jobs share one and no server needs to agree on escaping.
func objectName(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' && i > 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String()
}
