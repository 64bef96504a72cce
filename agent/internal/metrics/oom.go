package metrics

import (
	"context"
	"fmt"
	"strings"
	"time"

	"beanstalk-agent/collectors"
)

// oomKill is a process that the kernel killed for want of memory, as status shows it.
type oomKill struct {
	at   time.Time
	text string
}

// reportOOMKill puts a killed process into the log and into status.
func (m *Metrics) reportOOMKill(v collectors.Victim) {
	text := fmt.Sprintf("%s, process %d", v.Command, v.PID)
	if v.Name != "" {
		text = v.Name + " (" + text + ")"
	}
	m.killed.Store(&oomKill{v.At, text})
	m.log.Error("the kernel killed a process for want of memory", "what", v.Name,
		"process", v.Command, "pid", v.PID, "anon_mb", v.Anon>>20, "cgroup", v.Cgroup, "limit", v.Limit)
}

// killedRun names a killed process by its control group: that of a run bears its id, that of a service its name. Both
// count only where systemd's own services are, or where systemd is not used: elsewhere a user gives groups any name.
func (m *Metrics) killedRun(_ int, cgroup string) string {
	service := strings.TrimPrefix(cgroup, "system.slice/")
	below, ours := strings.CutPrefix(service, "agent-runs.service/")
	if !ours {
		return service
	}
	id, _, _ := strings.Cut(below, "/")
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	name, err := m.runName(ctx, id)
	if err != nil {
		return "run " + id
	}
	return strings.TrimSpace(name) + ", run " + id
}
