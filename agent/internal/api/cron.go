package api

import "time"

// CronJob is one row of `agent cron list`.
type CronJob struct {
	Name     string     `json:"name"`
	Schedule string     `json:"schedule"`
	Timezone string     `json:"timezone"`
	Runs     string     `json:"runs"` // the program or URL path, never its arguments
	On       string     `json:"on"`   // one or all
	Next     *time.Time `json:"next,omitempty"`
	Note     string     `json:"note,omitempty"` // off here, paused, held, running since …
	Last     *time.Time `json:"last,omitempty"` // the slot that last ran
	Result   string     `json:"result,omitempty"`
	Host     string     `json:"host,omitempty"` // who ran it, where a claim store knows
	Failures int        `json:"failures,omitempty"`
	Skipped  uint64     `json:"skipped,omitempty"`       // was due while still running
	Since    *time.Time `json:"skipped_since,omitempty"` // the first of those that go on; none: a run has started since
	Missed   uint64     `json:"missed,omitempty"`        // was due, and could not be started
	MissedAt *time.Time `json:"last_missed,omitempty"`

	// By the job's register, the same on every instance.
	Running []CronHolder `json:"running,omitempty"` // newest first
	Paused  *CronPauser  `json:"paused,omitempty"`
}

// CronTable is the answer to `agent cron list`.
type CronTable struct {
	File     string     `json:"file"`
	State    string     `json:"state"` // loaded, absent, or faulty
	Faults   []string   `json:"faults,omitempty"`
	Warnings []string   `json:"warnings,omitempty"`
	Held     *time.Time `json:"held_until,omitempty"` // no job starts before
	Group    string     `json:"group,omitempty"`      // the environments that share the jobs' slots
	Jobs     []CronJob  `json:"jobs"`
}

// MaxNext is how many occurrences can be asked for at once. An agent before could be ended with eight times 100,000.
const MaxNext = 1000

// Occurrence is one row of `agent cron next`.
type Occurrence struct {
	Job  string `json:"job"`
	At   string `json:"at"`   // RFC 3339 with the job's zone's offset
	Note string `json:"note"` // daylight saving; else empty
}

// CronCost is the answer to `agent cron list --cost`: what claiming slots costs
// in a month, for jobs that one instance of several runs.
type CronCost struct {
	Instances int           `json:"instances"`
	Jobs      []CronJobCost `json:"jobs"`
	Looks     CronJobCost   `json:"looks"` // lists of the bucket, for other environments that run the same jobs
	Puts      int           `json:"puts"`
	Gets      int           `json:"gets"`
	Dollars   float64       `json:"dollars"`

	// Of the lease of one job that always runs: not in the sums, since how long runs take is not known.
	LeasePuts    int     `json:"lease_puts"`
	LeaseDollars float64 `json:"lease_dollars"`
}

// CronJobCost is one job's part of it.
type CronJobCost struct {
	Name    string  `json:"name"`
	Slots   int     `json:"slots"`
	Puts    int     `json:"puts"`
	Gets    int     `json:"gets"`
	Dollars float64 `json:"dollars"`
}

// CronRun is a run of a job as its register has it: of any instance, also one that is gone.
type CronRun struct {
	Job         string     `json:"name"`
	Slot        time.Time  `json:"slot"`
	Started     time.Time  `json:"started"`         // when it was claimed
	Ended       *time.Time `json:"ended,omitempty"` // nil while it runs
	Outcome     string     `json:"outcome,omitempty"`
	Host        string     `json:"host"`
	Environment string     `json:"environment,omitempty"` // of the host, where several share the register
	Attempt     int        `json:"attempt"`
	Manual      bool       `json:"manual,omitempty"`
	Tail        string     `json:"tail,omitempty"` // the end of a failure's output, with cron.share_output
}

// CronHistory is the answer to `agent cron history`: the runs of other instances, newest first.
type CronHistory struct {
	Runs    []CronRun `json:"runs"`
	Unread  int       `json:"unread,omitempty"` // jobs whose register was not read
	Warning string    `json:"warning,omitempty"`
}

// CronPause is a request to pause a job, or to resume it.
type CronPause struct {
	Paused bool
	Here   bool // on this instance alone
}

// CronPaused says what was done.
type CronPaused struct {
	Job    string `json:"job"`
	Paused bool   `json:"paused"`
	Here   bool   `json:"here"` // on this instance alone
}

// CronHolder is an instance that runs a job.
type CronHolder struct {
	Host        string    `json:"host"`
	Environment string    `json:"environment,omitempty"`
	Since       time.Time `json:"since"`
}

// CronPauser is who has paused a job on every instance.
type CronPauser struct {
	By    string    `json:"by"`
	Since time.Time `json:"since"`
}
