package scheduler

import (
	"regexp"
	"strings"
)

// fleetGroup reads the name under which several environments share one claim store.
func (y *cronYAML) fleetGroup(e pair) {
	t, ok := y.Text(e)
	if !ok {
		return
	}
	bare := reference.ReplaceAllString(t, "x")
	if strings.ContainsAny(bare, "${}") {
		y.FaultAt(e.Value, "a name, or ${NAME} for a variable of the application", "group %q is not a reference", t)
	} else if err := checkName(bare); err != nil {
		y.FaultAt(e.Value, "", "group %q %v", t, err)
	}
	y.group = t
}

// processName is a process type of a Procfile.
var processName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

func isProcessName(s string) bool { return len(s) <= maxName && processName.MatchString(s) }

func (y *cronYAML) processTypes(j *Job, e pair) {
	names, ok := y.Texts(e)
	for _, name := range names {
		if ok && !isProcessName(name) {
			y.FaultAt(e.Value, "such as [web, worker]", "process_types: %q is no process type", name)
		}
	}
	if ok && len(names) == 0 {
		y.FaultAt(e.Value, "enabled: false turns a job off", "process_types is an empty list")
	}
	j.ProcessTypes = names
}

func (y *cronYAML) grace(j *Job, _ *jobNodes, e pair) {
	before := len(y.Faults)
	j.Grace = y.duration(e, MinGrace)
	if len(y.Faults) == before && (j.Grace < MinGrace || j.Grace > MaxGrace) {
		y.FaultAt(e.Value, "", "grace %s must be from 5s to 10m", j.Grace)
		j.Grace = MinGrace
	}
}
