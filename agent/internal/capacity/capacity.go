// Package capacity says how many workers of a web application fit on an
// instance, from the measured memory and CPU of its workers.
//
// A team does this by hand when it sets NumProcesses: start the application, let it warm up, measure a process, divide
// 60 % of the memory by it. Live figures are more exact: memory that forked workers share counts once, other processes
// of the instance are left out, and the worst worker counts, since every worker reaches its size in the end.
//
// It only advises. Resizing a running server by its memory was tried
// (schneems/puma_auto_tune) and given up as unstable. The package is pure.
package capacity

import (
	"math"
	"slices"
	"time"
)

// Measured has the figures of the instance and the workers. Memory is in bytes.
type Measured struct {
	Total     uint64 // the instance's memory
	Available uint64 // of it, as the kernel's MemAvailable says
	CPUs      int

	Workers []Worker // the processes that answer requests
	Rest    Worker   // the application's other processes, added up: the master they were forked from

	Load // the highest of the last minutes

	// Target is the share of the memory that may be in use. Optional, 0.6.
	Target float64

	// WarmAfter is the age from which a worker counts as warm. Optional, 10 minutes.
	WarmAfter time.Duration

	SetBy SetBy // where the number of workers is set
}

// Worker is one process of the application.
type Worker struct {
	Private uint64        // pages that no other process maps: the cost of one more worker
	PSS     uint64        // Private and its part of the shared pages; 0: not measured
	Age     time.Duration // since it was started
	CPU     time.Duration // used since then; a worker without any has answered no request
}

// SetBy says where a Beanstalk environment sets the number of workers.
type SetBy int

// Without a Procfile the Python platform starts gunicorn by its own options; with one its command line decides, and
// gunicorn's and puma's default is the environment property WEB_CONCURRENCY.
const (
	PythonOptions SetBy = iota // aws:elasticbeanstalk:container:python
	Procfile
)

// Bound is the resource that limits the number of workers.
type Bound string

// The bounds.
const (
	Memory Bound = "memory"
	CPU    Bound = "cpu"
)

// Verdict is the advice in a word.
type Verdict string

// The verdicts.
const (
	NotWarm Verdict = "not warm yet"
	Keep    Verdict = "keep"
	Raise   Verdict = "raise"
	Lower   Verdict = "lower"
	TooBig  Verdict = "instance too small" // not even one worker fits
)

// Advice is the result. Memory is in bytes. With verdict NotWarm only Verdict, Why, Workers and Target are set.
type Advice struct {
	Verdict Verdict  `json:"verdict"`
	Why     []string `json:"why"` // sentences
	Workers int      `json:"workers"`
	Target  float64  `json:"target"`

	// Shared by the workers, counted once, and of the application's other processes.
	Shared        uint64 `json:"shared_bytes"`
	PrivateMedian uint64 `json:"private_median_bytes"` // of a warm worker
	PrivateWorst  uint64 `json:"private_worst_bytes"`
	Others        uint64 `json:"others_bytes"` // in use by everything else

	Fit      int     `json:"fit"`         // workers within the target, each as large as the worst
	FitBest  int     `json:"fit_typical"` // the same, each as large as the median
	CPUFit   int     `json:"cpu_fit"`     // workers that keep the CPUs busy to 80 %; 0: too idle to say
	Bites    Bound   `json:"bites_first"` // which of Fit and CPUFit is lower
	Headroom int     `json:"headroom"`    // Fit less the present workers: the metric worker_headroom
	Advised  int     `json:"advised"`     // how many to set
	Used     float64 `json:"used"`        // share of the memory in use with that many, the worst of cases

	Settings []Setting `json:"settings,omitempty"` // empty: nothing to change
}

// Setting is one thing to set in the environment.
type Setting struct {
	Where string `json:"where"` // a namespace, or "Procfile"
	Name  string `json:"name"`
	Value string `json:"value"`
}

const (
	defaultTarget = 0.6
	defaultWarm   = 10 * time.Minute
	cpuTarget     = 0.8 // above it requests queue for the CPU, whatever the number of workers
	cpuMinLoad    = 0.1 // of all CPUs: below it a load does not predict the next worker's
	served        = time.Second
)

// Advise computes the advice.
func Advise(m Measured) Advice {
	m = m.withDefaults()
	a := Advice{Workers: len(m.Workers), Target: m.Target, Why: []string{}}
	warm := m.warm()
	if a.Why = m.notWarm(warm); len(a.Why) > 0 {
		a.Verdict = NotWarm
		return a
	}
	a.memory(&m, warm)
	a.cpu(&m)
	a.decide(&m)
	a.Used = float64(a.Others+a.Shared+uint64(a.Advised)*a.PrivateWorst) / float64(m.Total)
	if a.Advised != a.Workers {
		a.Settings = settings(m.SetBy, a.Advised)
	}
	return a
}

func (m Measured) withDefaults() Measured {
	if !(m.Target > 0 && m.Target <= 1) { // NaN too
		m.Target = defaultTarget
	}
	if m.WarmAfter <= 0 {
		m.WarmAfter = defaultWarm
	}
	m.CPUs = max(m.CPUs, 1)
	m.Available = min(m.Available, m.Total)
	return m
}

// warm are the workers with a typical memory: old enough, and they have worked.
// Recycled ones (gunicorn's max_requests) are young now and then.
func (m *Measured) warm() (warm []Worker) {
	for _, w := range m.Workers {
		if w.PSS > 0 && w.Age >= m.WarmAfter && w.CPU >= served {
			warm = append(warm, w)
		}
	}
	return warm
}

// memory computes the shared memory, the cost of a worker and how many fit.
func (a *Advice) memory(m *Measured, warm []Worker) {
	var private []uint64
	for _, w := range warm {
		private = append(private, w.Private)
	}
	slices.Sort(private)
	a.PrivateWorst = max(private[len(private)-1], 1)
	a.PrivateMedian = max(private[(len(private)-1)/2], 1)

	var pss, shared, read uint64
	for _, w := range m.Workers {
		if w.PSS > 0 {
			pss, shared, read = pss+w.PSS, shared+w.PSS-min(w.PSS, w.Private), read+1
		}
	}
	n := uint64(len(m.Workers)) // one not measured yet counts like the others
	group := m.Rest.PSS + pss*n/read
	a.Shared = m.Rest.PSS + shared*n/read
	used := m.Total - m.Available
	a.Others = used - min(used, group)
	a.Fit = fit(m, a.Others+a.Shared, a.PrivateWorst)
	a.FitBest = fit(m, a.Others+a.Shared, a.PrivateMedian)
	a.Headroom = a.Fit - a.Workers
}

func fit(m *Measured, fixed, each uint64) int {
	room := m.Target*float64(m.Total) - float64(fixed)
	return number(room / float64(each))
}

// cpu computes how many workers like these the CPUs can keep up with.
func (a *Advice) cpu(m *Measured) {
	a.Bites = Memory
	all := 100 * float64(m.CPUs)
	if !(m.CPU >= cpuMinLoad*all) { // NaN too
		return
	}
	a.CPUFit = max(number(float64(a.Workers)*cpuTarget*all/m.CPU), 1)
	if a.CPUFit < a.Fit {
		a.Bites = CPU
	}
}

// number rounds down to a plausible number of workers.
func number(f float64) int { return int(math.Floor(min(max(f, 0), 10_000))) }
