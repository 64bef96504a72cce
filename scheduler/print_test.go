package scheduler

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// printed writes a table as a cron.yaml that [Parse] reads back to the same jobs: in
// order, with what is not the default only.
func printed(t Table) []byte {
	var b strings.Builder
	b.WriteString("version: 1\n")
	if t.Group != "" {
		b.WriteString("group: " + strconv.Quote(t.Group) + "\n")
	}
	if len(t.Jobs) > 0 {
		b.WriteString("cron:\n")
	}
	for i := range t.Jobs {
		t.Jobs[i].print(&b)
	}
	return []byte(b.String())
}

func (j *Job) print(b *strings.Builder) {
	indent := "  - "
	key := func(cond bool, name, value string) {
		if cond {
			b.WriteString(indent + name + ": " + value + "\n")
			indent = "    "
		}
	}
	length := func(d, def time.Duration, name string) { key(d != def, name, d.String()) }
	key(true, "name", strconv.Quote(j.Name))
	key(true, "schedule", strconv.Quote(j.Expr))
	key(j.Seconds, "seconds", "true")
	key(true, "timezone", strconv.Quote(j.Location.String()))
	key(j.Command != "", "command", strconv.Quote(j.Command))
	key(len(j.Args) > 0, "command", quoteAll(j.Args))
	key(j.URL != "", "url", strconv.Quote(j.URL))
	key(len(j.Env) > 0, "env", quoteAll(j.Env))
	key(j.Dir != "", "dir", strconv.Quote(j.Dir))
	length(j.Timeout, 0, "timeout")
	length(j.Grace, MinGrace, "grace")
	key(j.MaxOutput != 0, "max_output", strconv.FormatInt(j.MaxOutput, 10))
	key(len(j.Notify) > 0, "notify", quoteAll(j.Notify))
	key(j.Overlap != Skip, "overlap", j.Overlap.String())
	key(j.Retries != 0, "retries", strconv.Itoa(j.Retries))
	length(j.Backoff, DefaultBackoff, "backoff")
	length(j.Splay, 0, "splay")
	switch j.CatchUp {
	case DefaultCatchUp:
	case 0, CatchUpAlways:
		key(true, "catch_up", fmt.Sprint(j.CatchUp != 0))
	default:
		key(true, "catch_up", j.CatchUp.String())
	}
	key(j.Lock != "", "lock", strconv.Quote(j.Lock))
	key(j.LockScope != LockHost, "lock_scope", j.LockScope.String())
	key(j.On != OnDefault, "on", j.On.String())
	key(j.OnClaimError != ClaimErrorSkip, "on_claim_error", j.OnClaimError.String())
	key(j.OnOwnerLoss != OwnerLossReport, "on_owner_loss", j.OnOwnerLoss.String())
	key(j.RetryOnLoss, "retry_on_loss", "true")
	key(j.Enabled != "", "enabled", strconv.Quote(j.Enabled))
	key(len(j.Environments) > 0, "environments", quoteAll(j.Environments))
	key(len(j.ProcessTypes) > 0, "process_types", quoteAll(j.ProcessTypes))
}

func quoteAll(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = strconv.Quote(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
