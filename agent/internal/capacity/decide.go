package capacity

import (
	"fmt"
	"strconv"
)

// notWarm returns the reasons why there is no advice yet.
func (m *Measured) notWarm(warm []Worker) (why []string) {
	switch {
	case m.Total == 0:
		return []string{"the instance's memory is not known"}
	case len(m.Workers) == 0:
		return []string{"no worker is running"}
	case len(warm) > 0:
		return nil
	}
	unread, young, idle := 0, 0, 0
	for _, w := range m.Workers {
		switch {
		case w.PSS == 0:
			unread++
		case w.Age < m.WarmAfter:
			young++
		default:
			idle++
		}
	}
	return reasons(
		reason{unread, "%d of the workers could not be measured"},
		reason{young, "%d of the workers are younger than " + strconv.Itoa(int(m.WarmAfter.Minutes())) + " minutes"},
		reason{idle, "%d of the workers have hardly run: send them requests first"})
}

type reason struct {
	n    int
	text string
}

func reasons(rs ...reason) (out []string) {
	for _, r := range rs {
		if r.n > 0 {
			out = append(out, fmt.Sprintf(r.text, r.n))
		}
	}
	return out
}

// decide sets the verdict. It advises more workers only when clients wait for one: an idle worker wastes memory.
func (a *Advice) decide(m *Measured) {
	limit := a.Fit
	if a.Bites == CPU {
		limit = a.CPUFit
	}
	switch {
	case a.Fit == 0:
		a.Verdict, a.Advised = TooBig, 1
		a.say("one worker needs %s beside the %s in use, more than %s of the memory: take a larger instance",
			size(a.PrivateWorst), size(a.Others+a.Shared), percent(a.Target))
	case a.Workers > a.Fit:
		a.Verdict, a.Advised = Lower, a.Fit
		a.say("%d workers as large as the worst need more than %s of the memory", a.Workers, percent(a.Target))
	case m.BacklogKnown && m.Backlog > 0 && limit > a.Workers:
		a.Verdict, a.Advised = Raise, limit
		a.say("up to %d clients waited to be accepted, and there is room for %d more workers",
			m.Backlog, limit-a.Workers)
	case m.BacklogKnown && m.Backlog > 0:
		a.Verdict, a.Advised = Keep, a.Workers
		a.say("up to %d clients waited to be accepted, but more workers do not help: "+
			"the %s is the limit; add instances", m.Backlog, a.Bites)
	default:
		a.Verdict, a.Advised = Keep, a.Workers
		a.keep(m)
	}
}

func (a *Advice) keep(m *Measured) {
	if !m.BacklogKnown {
		a.say("whether anybody waits for a worker is not known")
		return
	}
	a.say("nobody waits for a worker; up to %d fit when somebody does", a.Fit)
}

func (a *Advice) say(format string, args ...any) {
	a.Why = append(a.Why, fmt.Sprintf(format, args...))
}

func settings(by SetBy, n int) []Setting {
	value := strconv.Itoa(n)
	if by == Procfile {
		// A --workers in the command line wins over the property.
		return []Setting{
			{Where: "Procfile", Name: "--workers", Value: value},
			{Where: "aws:elasticbeanstalk:application:environment", Name: "WEB_CONCURRENCY", Value: value},
		}
	}
	return []Setting{{Where: "aws:elasticbeanstalk:container:python", Name: "NumProcesses", Value: value}}
}
