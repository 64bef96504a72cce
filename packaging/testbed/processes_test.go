package testbed

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestProcessTypesOfOneBundleInABox makes three environments of one bundle, as tools do that move an application from
// Heroku: web, worker and clock, told apart by PROCESS_TYPE. Only web listens. Each job runs once between them, by what
// its runs leave behind, and nothing is red anywhere: status, the verdict, what a load balancer gets. At first the jobs
// say by process_types where they run; then, in the next version, they run in all three, which are one group.
func TestProcessTypesOfOneBundleInABox(t *testing.T) {
	b := newBox(t, "box-types")
	b.Do("build")
	app := b.App("1.0.0")
	b.store(t, app)
	write(t, app, "Procfile", "web: ./start\n")
	write(t, app, "start", "#!/bin/sh\ntest \"$PROCESS_TYPE\" = web || exec sleep infinity\n"+
		"exec gunicorn --bind 127.0.0.1:8000 --workers=1 --threads=15 application:application\n")
	ledger := filepath.Join(b.Dir, "ledger")
	table := func(head, a, b, c string) {
		text := head + "cron:\n"
		for job, types := range map[string]string{"plain": a, "jobs": b, "ticks": c} {
			text += fmt.Sprintf("- {name: %s, schedule: '@every %s', %scommand: 'echo %[1]s $PROCESS_TYPE $(date +%%s) >>/box/ledger'}\n", job, typesEvery, types)
		}
		write(t, app, "cron.yaml", text)
	}
	write(t, b.Dir, "ledger", "")
	if err := os.Chmod(ledger, 0o666); err != nil {
		t.Fatal(err)
	}
	kinds := []string{"web", "worker", "clock"} // of instances 1, 2 and 3
	metadata := string(read(t, filepath.Join(b.Dir, "metadata.json")))
	for i, kind := range kinds {
		write(t, b.Dir, fmt.Sprintf("metadata.%d.json", i+1), strings.NewReplacer(`"environment": {`, `"environment": {"PROCESS_TYPE": "`+kind+`",`,
			`"box-env"`, `"shop-`+kind+`"`).Replace(metadata))
	}

	table("", "", "process_types: [worker], ", "process_types: clock, ")
	b.Do("up", app)
	b.Do("scale-out")
	b.Do("scale-out")
	for i := range kinds {
		b.On(strconv.Itoa(i+1), "/box/store")
	}
	where := map[string]string{"plain": "web", "jobs": "worker", "ticks": "clock"}
	for job, ran := range b.typesRan(t, ledger) {
		if kind := where[job]; len(ran) != 1 || ran[kind] == 0 {
			t.Errorf("%s ran in %v, want in %s alone", job, ran, kind)
		}
	}
	b.typesGood(t, kinds)

	table("group: shop\nprocess_types: [web, worker, clock]\n", "", "", "")
	b.Do("deploy", app)
	old, err := filepath.Glob(filepath.Join(b.Dir, "s3/*/beanstalk-agent/claims/shop-*")) // as if they had always had a group
	if err != nil || len(old) != len(kinds) {
		t.Fatal(old, err)
	}
	for _, registers := range old {
		if err := os.RemoveAll(registers); err != nil {
			t.Fatal(err)
		}
	}
	for i := range kinds {
		b.On(strconv.Itoa(i+1), "systemctl restart agent") // which then looks for doubles
		wait(t, "the group is known", func() bool { return b.Holds(strconv.Itoa(i+1), `agent cron list --json | grep -q '"group": *"shop"'`) })
	}
	<-time.After(time.Until(time.Now().Truncate(typesEvery).Add(typesEvery))) // slots of before are over
	if err := os.Truncate(ledger, 0); err != nil {
		t.Fatal(err)
	}
	byKind := map[string]int{}
	for _, ran := range b.typesRan(t, ledger) {
		for kind, n := range ran {
			byKind[kind] += n
		}
	}
	t.Logf("with a group: %v", byKind)
	b.typesGood(t, kinds)
}

const typesEvery = 6 * time.Second

// typesRan waits until each job has run in five slots, and returns how often in which environments. No slot ran twice.
func (b *box) typesRan(t *testing.T, ledger string) (ran map[string]map[string]int) {
	t.Helper()
	wait(t, "five slots of each job", func() bool {
		ran = map[string]map[string]int{}
		slots, n := map[string]string{}, map[string]int{}
		for line := range strings.Lines(string(read(t, ledger))) {
			w := strings.Fields(line)
			at, err := strconv.ParseInt(w[2], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			slot := fmt.Sprint(w[0], " ", at/int64(typesEvery/time.Second)) // a claim takes less time than the next slot
			if other := slots[slot]; other != "" {
				t.Errorf("slot %s ran in %s and in %s", slot, other, w[1])
			}
			slots[slot] = w[1]
			if ran[w[0]] == nil {
				ran[w[0]] = map[string]int{}
			}
			ran[w[0]][w[1]]++
			n[w[0]]++
		}
		return n["plain"] >= 5 && n["jobs"] >= 5 && n["ticks"] >= 5
	})
	return ran
}

// typesGood looks for anything that is not good on the three instances. The hourly look for doubles is a minute after the
// agent's start.
func (b *box) typesGood(t *testing.T, kinds []string) {
	t.Helper()
	for i, kind := range kinds {
		n := strconv.Itoa(i + 1)
		if listens := b.Holds(n, "ss -Hltn 'sport = :8000' | grep -q ."); listens != (kind == "web") {
			t.Errorf("%s listens: %v", kind, listens)
		}
		wait(t, "the look for doubles of "+kind, func() bool {
			return b.Holds(n, `test $(($(date +%s) - $(date -d "$(systemctl show -p ActiveEnterTimestamp --value agent)" +%s))) -gt 75`)
		})
		wait(t, "a good status of "+kind, func() bool { return b.statusGood(t, n) })
		verdict, err := b.Try("exec", n, "agent", "health")
		if err != nil {
			t.Errorf("%s: the verdict: %v", kind, err)
		}
		text, err := b.Try("exec", n, "agent", "health", "--as-load-balancer", "--json")
		var report struct {
			Safe bool
			Asks []struct{ Status int }
		}
		if json.Unmarshal([]byte(text), &report) != nil || err != nil || !report.Safe ||
			len(report.Asks) != 4 || slices.ContainsFunc(report.Asks, func(a struct{ Status int }) bool { return a.Status != 200 }) {
			t.Errorf("%s: what load balancers get: %v: %s", kind, err, text)
		}
		if got := b.On(n, "curl -s -o /dev/null -w '%{http_code}' -A ELB-HealthChecker/2.0 -H 'Host: 10.0.0.5' http://127.0.0.1/agent-health"); got != "200" {
			t.Errorf("%s answers a load balancer with %s", kind, got)
		}
		t.Logf("%s: %s\n%s", kind, verdict, b.On(n, "agent status; agent cron list 2>&1"))
	}
}
