package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"beanstalk-agent/packaging/testbed/versity"
)

// Two environments, two instances each, whose cron files have one group: each of 500 slots runs once between them, by
// what the runs themselves leave behind.
func TestGroupOfEnvironmentsRunsEachSlotOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	t.Parallel()
	s := slots{jobs: 100, count: 5, period: 12 * time.Second}
	if raceDetector {
		s = slots{jobs: 10, count: 3, period: 4 * time.Second}
	}
	g := newEnvironments(t, s, "group: shop\n")
	from := time.Now().Add(s.period)
	to := from.Add(time.Duration(s.count) * s.period)
	<-time.After(time.Until(to))
	var ran map[slot][]string
	var due []slot
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(200 * time.Millisecond) {
		ran, due = g.read(nil).ran, nil
		for _, d := range s.due(from, to) {
			if len(ran[d]) == 0 {
				due = append(due, d)
			}
		}
		if len(due) == 0 {
			break
		}
	}
	for _, d := range due {
		t.Errorf("%s of %s did not run", d.job, time.Unix(d.due, 0).UTC().Format(time.TimeOnly))
	}
	by := map[string]int{}
	for d, hosts := range ran {
		if len(hosts) > 1 {
			t.Errorf("%s of %s ran on %v", d.job, time.Unix(d.due, 0).UTC().Format(time.TimeOnly), hosts)
		}
		for _, h := range hosts {
			by[h]++
		}
	}
	t.Logf("%d slots were due; ran by host: %v", len(s.due(from, to)), by)
	if by["i-00"]+by["i-02"] == 0 || by["i-01"]+by["i-03"] == 0 {
		t.Error("one of the environments ran nothing")
	}
}

// The negative control: without a group each environment runs each slot, and the judge sees it.
func TestEnvironmentsWithoutAGroupRunASlotTwice(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 5 s")
	}
	t.Parallel()
	g := newEnvironments(t, slots{jobs: 1, period: 2 * time.Second}, "")
	await(t, "a slot runs in both environments", func() bool {
		for _, hosts := range g.read(nil).ran {
			if len(hosts) == 2 {
				return true
			}
		}
		return false
	})
}

// slots are those of some jobs, which are due one after the other.
type slots struct {
	jobs, count int
	period      time.Duration
}

func (s slots) job(i int) string { return "job" + string(rune('a'+i/26)) + string(rune('a'+i%26)) }

// offset is the second of the period in which a job is due.
func (s slots) offset(i int) int64 { return int64(i) % int64(s.period/time.Second) }

func (s slots) due(from, to time.Time) (all []slot) {
	period := int64(s.period / time.Second)
	for i := range s.jobs {
		for at := from.Unix() + 1; at <= to.Unix(); at++ {
			if at%period == s.offset(i) {
				all = append(all, slot{s.job(i), at})
			}
		}
	}
	return all
}

// newEnvironments starts two environments of two instances each, of one bundle, whose cron file begins with head.
func newEnvironments(t *testing.T, s slots, head string) *ground {
	t.Helper()
	urls := versity.Start(t, fleetBucket)
	g := newGround(t)
	cron := head + "cron:\n"
	for i := range s.jobs {
		cron += fmt.Sprintf("- {name: %s, seconds: true, schedule: '%d-59/%d * * * * *', command: '%s'}\n",
			s.job(i), s.offset(i), s.period/time.Second, g.signs(s.job(i)))
	}
	for i := range 4 {
		config := "app: {user: root}\n" + fmt.Sprintf("aws: {region: us-east-1, s3_endpoint: '%s'}\ncron: {claims: 's3://%s/group'}\n", urls[i%2], fleetBucket)
		g.eb = []string{"blue", "green"}[i%2]
		g.add(config, cron, append(identity(t, i),
			"AWS_ACCESS_KEY_ID="+versity.AccessKey, "AWS_SECRET_ACCESS_KEY="+versity.SecretKey)...)
	}
	for _, h := range g.hosts {
		h.answers()
	}
	return g
}

// beanstalk makes the host's directory opt that of an instance of an environment.
func (h *host) beanstalk(environment string) {
	h.t.Helper()
	const dir = "opt/elasticbeanstalk/deployment"
	if err := os.MkdirAll(filepath.Join(h.dir, dir), 0o755); err != nil {
		h.t.Fatal(err)
	}
	h.write(dir+"/cfn-metadata-cache.json", `{"EbResource":{"AWS::ElasticBeanstalk::Metadata":{"EnvironmentName":"`+environment+`"}}}`)
	h.write(dir+"/env", "PATH="+os.Getenv("PATH")+"\n")
}
