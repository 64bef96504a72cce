package claim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
)

const (
	registerVersion = 2
	maxRegister     = 64 << 10 // bytes
	maxOutcome      = 200      // bytes
	maxOutput       = 2 << 10  // bytes
	maxText         = 255      // bytes of what no agent writes longer
)

// A lease lasts from the write of its owner. Until in the register is later by the grace and a margin: for what two
// clocks differ in ten minutes, and for a second that Date cuts off. They are variables for tests that have no minutes.
var (
	lease  = 5 * time.Minute
	margin = 30 * time.Second
)

// RenewEvery is how often the owner of a run renews its lease.
const RenewEvery = 100 * time.Second

// keptRuns is how many slots a register lists. A job every minute on instances whose clocks differ by three minutes
// either way needs seven; with fewer, an instance with a slow clock does not know whether its slot ran.
const keptRuns = 16

// Run is one claimed slot. All its times but Slot are by the store's clock.
type Run struct {
	Slot        time.Time `json:"slot"`
	Owner       string    `json:"owner"`
	Environment string    `json:"environment,omitempty"` // of the owner, where several share the register
	Nonce       string    `json:"nonce"`
	Claimed     time.Time `json:"claimed"`          // its last attempt, when there were several
	Manual      bool      `json:"manual,omitempty"` // by a user: Slot has a fraction of a second, as no job's has
	Attempt     int       `json:"attempt,omitempty"`
	Command     string    `json:"command,omitempty"` // a hash of what it runs

	// Written by the owner while it runs. Nothing of the run is left after Until. Limit is the time that Until never
	// passes; zero when the job has no time limit. A run without Until keeps no other from starting.
	Renewed time.Time `json:"renewed,omitzero"`
	Until   time.Time `json:"until,omitzero"`
	Limit   time.Time `json:"limit,omitzero"`

	// Written by others while it runs, or when it is lost.
	ReplacedBy string `json:"replaced_by,omitempty"` // the instance that asks its owner to end it
	LostBy     string `json:"lost_by,omitempty"`     // mark of the process that noted its loss
	TakenFrom  string `json:"taken_from,omitempty"`  // the instance that lost it; Owner runs it again

	Untold *Untold `json:"untold,omitempty"` // its loss, or TakenFrom's, or that it is missed, is to be reported

	// Written at its end.
	Finished time.Time `json:"finished,omitzero"`
	Outcome  string    `json:"outcome,omitempty"` // "" until it has ended
	Output   string    `json:"output,omitempty"`
}

// Untold is on a run of which something is to be reported: By does, the mark of a process. Once it has, it takes this
// away again (Told). Where it does not, its instance has died, or S3 is away for it: another looks and reports. An
// agent that does not know of this takes it away with its next write.
type Untold struct {
	By    string    `json:"by"`
	Since time.Time `json:"since"` // by the store's clock
}

// left is how long others leave the report to its process. A second report is better than none.
func (u *Untold) left(now time.Time) time.Duration { return u.Since.Add(lease).Sub(now) }

// untoldOf is what stays to be reported when the run turns out not to be lost: the loss that it was taken over for.
func (r Run) untoldOf() *Untold {
	if r.LostBy != "" || r.isMissed() || r.TakenFrom == "" {
		return nil
	}
	return r.Untold
}

// Pause keeps every instance from claiming scheduled slots of a job.
type Pause struct {
	By    string    `json:"by"`
	Since time.Time `json:"since"` // by the store's clock
}

// Register lists a job's last slots, newest first.
type Register struct {
	Version int    `json:"version"`
	Job     string `json:"job"`
	Paused  *Pause `json:"paused,omitempty"`
	Runs    []Run  `json:"runs"`
}

// register is a Register with the tag that the next write must name: absent when there is no object yet, "" when it has
// not been read.
type register struct {
	Register
	tag string
}

const absent = "absent"

// live reports whether the run may still be in progress at now, a time that the store's clock has reached.
func (r Run) live(now time.Time) bool {
	return r.Outcome == "" && !r.Until.IsZero() && !now.After(r.Until)
}

// expired reports whether the run's owner has neither finished it nor renewed its lease in time.
func (r Run) expired(now time.Time) bool {
	return r.Outcome == "" && !r.Until.IsZero() && now.After(r.Until)
}

// Live returns the runs that may be in progress at now, newest first. The time is Store.Now's.
func (r Register) Live(now time.Time) []Run {
	return slices.DeleteFunc(slices.Clone(r.Runs), func(run Run) bool { return !run.live(now) })
}

// Limits of the times in a register, by the store's clock. No instance claims a slot before it is due, but clocks
// differ a little. No agent writes an Until that far away: whoever does would keep a job from running.
const (
	maxAhead = 5 * time.Minute
	maxUntil = time.Hour + maxAhead
)

// ahead returns the first run that is claimed in the future, or that pretends to be alive for too long. No agent writes
// such a run: whoever does would keep all instances from the job's slots, without a word.
func (r Register) ahead(now time.Time) (Run, bool) {
	for _, run := range r.Runs {
		limit := now.Add(maxAhead)
		if run.Slot.After(limit) || run.Claimed.After(limit) || run.Until.After(now.Add(maxUntil)) {
			return run, true
		}
	}
	return Run{}, false
}

// find returns the index of a slot's run, or -1.
func (r Register) find(slot time.Time) int {
	return slices.IndexFunc(r.Runs, func(run Run) bool { return run.Slot.Equal(slot) })
}

// clone returns r with runs of its own, to be changed.
func (r Register) clone() Register {
	r.Runs = slices.Clone(r.Runs)
	r.Version = registerVersion
	return r
}

// add adds a run in its place. The oldest go when there are too many.
func (r *Register) add(run Run) {
	runs := append(r.Runs, run)
	slices.SortStableFunc(runs, func(a, b Run) int { return b.Slot.Compare(a.Slot) })
	r.Runs = runs[:min(len(runs), keptRuns)]
}

// parseRegister accepts registers of this version, also with more fields, and of the one before. It refuses a damaged
// one: to take it for empty would run a slot twice.
func parseRegister(b []byte) (Register, error) {
	var r Register
	if len(b) > maxRegister {
		return r, fmt.Errorf("it has more than %d bytes", maxRegister)
	}
	var v struct{ Version int }
	if json.Unmarshal(b, &v) == nil && v.Version > registerVersion { // whose shape is not known
		const why = "it has version %d and this agent knows %d: a newer agent%s has written it, upgrade this one"
		return r, fmt.Errorf(why, v.Version, registerVersion, writer(b))
	}
	if err := json.Unmarshal(b, &r); err != nil { // not a Decoder, whose More is false before a brace too many
		return Register{}, fmt.Errorf("it is no register: %w", err)
	}
	if r.Version != 1 && r.Version != registerVersion {
		return Register{}, fmt.Errorf("it is no register: version %d", r.Version)
	}
	for i, run := range r.Runs {
		if run.Slot.IsZero() || run.Nonce == "" || i > 0 && !run.Slot.Before(r.Runs[i-1].Slot) {
			return Register{}, fmt.Errorf("run %d has no slot, no nonce, or is out of order", i+1)
		}
		if run.tooLong() {
			return Register{}, fmt.Errorf("run %d has a text of more than %d bytes", i+1, maxText)
		}
		r.Runs[i].clean()
	}
	if r.Paused != nil {
		if len(r.Paused.By) > maxText {
			return Register{}, fmt.Errorf("it is paused by a text of more than %d bytes", maxText)
		}
		r.Paused.By = printed(r.Paused.By)
	}
	if r.Version == 1 {
		r.upgrade()
	}
	return r, nil
}

// writer names the owner of the newest run in a register of a later version, if that has one in the same place.
func writer(b []byte) string {
	var r struct{ Runs []struct{ Owner string } }
	if json.Unmarshal(b, &r) != nil || len(r.Runs) == 0 || r.Runs[0].Owner == "" {
		return ""
	}
	return ", perhaps " + oneLine(r.Runs[0].Owner, 100) + ","
}

func (r Run) tooLong() bool {
	all := []string{r.Owner, r.Environment, r.Nonce, r.Command, r.ReplacedBy, r.LostBy, r.TakenFrom, r.Outcome}
	if r.Untold != nil {
		all = append(all, r.Untold.By)
	}
	long := func(s string) bool { return len(s) > maxText }
	return slices.ContainsFunc(all, long) || len(r.Output) > 4*maxOutput // JSON may have made three of each byte
}

// clean replaces characters that no agent writes and that JSON makes longer. What is written back then never outgrows
// maxRegister: keptRuns of the longest texts are some 50 kB.
func (r *Run) clean() {
	names := []*string{&r.Owner, &r.Environment, &r.Nonce, &r.Command, &r.ReplacedBy, &r.LostBy, &r.TakenFrom}
	if r.LostBy == "" && r.TakenFrom == "" && !r.isMissed() {
		r.Untold = nil // no process would take it away
	}
	if r.Untold != nil {
		names = append(names, &r.Untold.By)
	}
	for _, name := range names {
		*name = plain(*name)
	}
	r.Outcome = printed(r.Outcome)
}

// leaseOfVersion1 is how long a run that an agent of version 1 claimed counts as in progress: such an agent renews
// nothing. Its claim is by its own clock, the only one it wrote.
const leaseOfVersion1 = time.Hour

func (r *Register) upgrade() {
	r.Version = registerVersion
	for i := range r.Runs {
		if r.Runs[i].Outcome == "" {
			r.Runs[i].Until = r.Runs[i].Claimed.Add(leaseOfVersion1)
		}
	}
}

// encode drops the output of the oldest runs when there is too much, and then runs that no agent has added: no agent
// reads a larger register.
func (r Register) encode() ([]byte, error) {
	for {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", " ")
		if err := e.Encode(r); err != nil {
			return nil, fmt.Errorf("encode the register: %w", err)
		}
		switch {
		case b.Len() <= maxRegister:
			return b.Bytes(), nil
		case r.dropOutput():
		case len(r.Runs) > keptRuns:
			r.Runs = r.Runs[:keptRuns]
		default:
			return b.Bytes(), nil
		}
	}
}

// dropOutput drops the oldest run's output, and reports whether there was one.
func (r *Register) dropOutput() bool {
	r.Runs = slices.Clone(r.Runs)
	for i := len(r.Runs) - 1; i >= 0; i-- {
		if r.Runs[i].Output != "" {
			r.Runs[i].Output = ""
			return true
		}
	}
	return false
}

// printed is s with a space for each character that a log and a terminal cannot show.
func printed(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

// plain is a name without characters that JSON makes longer.
func plain(s string) string { return strings.NewReplacer(`"`, "?", `\`, "?").Replace(printed(s)) }

// oneLine is s in n bytes that a log and a terminal can show.
func oneLine(s string, n int) string {
	s = printed(s)
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
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
