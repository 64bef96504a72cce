package cloudwatch

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"beanstalk-agent/collectors"
	"beanstalk-agent/packaging/testbed/cloudwatchfake"
)

func TestEveryMinuteArrivesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p, stop := w.start()
		w.sample(p, 10*time.Minute)
		time.Sleep(10 * time.Second)
		if s := p.Status(); s.State != Sending || s.Reason != "" || s.Sent != 100 || time.Since(s.LastSent) > 10*time.Second {
			t.Errorf("got status %+v", s)
		}
		stop()
		w.check(p)
		if n := len(w.fake.Requests()); n != 10 {
			t.Errorf("%d requests in 10 minutes", n)
		}
		if d := w.fake.Points()[0]; len(d.Values) != 12 {
			t.Errorf("a minute of 5 s samples has %d values", len(d.Values))
		}
	})
}

// The timestamps are those of the measurement, the present comes first, and the backlog comes at a pace.
func TestHourWithoutNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.down.Store(true)
		p, stop := w.start()
		w.sample(p, time.Hour)
		if s := p.Status(); s.State != Waiting || !strings.Contains(s.Reason, "network is unreachable") || s.SpooledBatches < 59 {
			t.Errorf("got status %+v", s)
		}
		if got := w.logs.count("metrics are waiting"); got != 1 {
			t.Errorf("an hour without network was logged %d times", got)
		}
		w.down.Store(false)
		back := time.Now()
		w.sample(p, 4*time.Minute)
		time.Sleep(10 * time.Second)
		stop()
		w.check(p)
		if s := p.Status(); s.PossibleDuplicates != 0 {
			t.Errorf("nothing left the host, and %d possible duplicates are counted", s.PossibleDuplicates)
		}
		if first := w.fake.Points()[0]; back.Sub(first.Time) > 2*time.Minute+time.Second {
			t.Errorf("the first to arrive at %v was of %v", back, first.Time)
		}
		rs := w.fake.Requests()
		for i, r := range rs[2:] {
			if gap := r.At.Sub(rs[i].At); gap < defaultPace/2 {
				t.Errorf("three requests within %v", gap)
			}
		}
	})
}

// Each way to answer badly, for some minutes: nothing is lost, and what may be there twice is counted.
func TestBadAnswersLoseNothing(t *testing.T) {
	for fault, mayDouble := range map[cloudwatchfake.Fault]bool{
		cloudwatchfake.Throttle: false, cloudwatchfake.Deny: false, cloudwatchfake.Internal: true, cloudwatchfake.Hang: true,
		cloudwatchfake.Reset: true, cloudwatchfake.AnswerLost: true, cloudwatchfake.Answer500: true, cloudwatchfake.Truncated: true,
	} {
		t.Run(string(fault), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				p, stop := w.start()
				w.sample(p, 2*time.Minute)
				w.fake.Misbehave(fault, -1)
				w.sample(p, 10*time.Minute)
				w.fake.Misbehave(cloudwatchfake.None, 0)
				w.sample(p, 10*time.Minute)
				time.Sleep(10 * time.Second)
				stop()
				w.check(p)
				n := p.Status().PossibleDuplicates
				if (n > 0) != mayDouble {
					t.Errorf("%d possible duplicates", n)
				}
				if published := w.count("possible_duplicates"); published != float64(n) {
					t.Errorf("%v possible duplicates published, %d counted", published, n)
				}
				if n := len(w.fake.Requests()); n > 80 {
					t.Errorf("%d requests in 22 minutes: no back-off", n)
				}
			})
		})
	}
}

func TestDenialIsSaidOnceWithTheCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.fake.Namespace = "SomethingElse"
		p, stop := w.start()
		w.sample(p, 30*time.Minute)
		want := `kept locally, not sent: role aws-elasticbeanstalk-ec2-role may not PutMetricData; run: aws iam put-role-policy --role-name aws-elasticbeanstalk-ec2-role ` +
			`--policy-name beanstalk-agent-metrics --policy-document '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"cloudwatch:PutMetricData","Resource":"*",` +
			`"Condition":{"StringEquals":{"cloudwatch:namespace":"BeanstalkAgent"}}}]}'`
		if s := p.Status(); s.State != Denied || s.Reason != want || s.LastError != want {
			t.Errorf("got %+v\nwant %s", s, want)
		}
		if n := w.logs.count("metrics are denied"); n != 1 {
			t.Errorf("denial was logged %d times", n)
		}
		if n := len(w.fake.Requests()); n < 4 || n > 12 {
			t.Errorf("%d requests in 30 minutes of denial", n)
		}
		w.fake.Namespace = ""
		w.sample(p, 10*time.Minute)
		time.Sleep(10 * time.Second)
		stop()
		w.check(p)
	})
}

// What an earlier configuration's namespace left in the spool, and no policy allows any more, must
// not stand before the present's; it goes out at a start when it may.
func TestAnOldNamespaceHoldsNothingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.config.Namespace = "Before"
		w.fake.Namespace = "BeanstalkAgent"
		p, stop := w.start()
		w.sample(p, 20*time.Minute)
		stop()
		old := w.added

		w.config.Namespace, w.added = "BeanstalkAgent", map[point]float64{}
		p, stop = w.start()
		w.sample(p, 10*time.Minute)
		time.Sleep(10 * time.Second)
		s, got := p.Status(), w.arrived()
		if len(got) != len(w.added) || s.State != Sending || s.Dropped != 0 {
			t.Errorf("%d of %d arrived: %+v", len(got), len(w.added), s)
		}
		if n := len(w.fake.Requests()); n > 60 {
			t.Errorf("%d requests", n)
		}
		stop()

		w.fake.Namespace, w.added = "", old
		p, stop = w.start()
		time.Sleep(time.Minute)
		stop()
		w.check(p)
	})
}

// Another role may have been given to the instance: the denied one's credentials are good for hours yet.
func TestADenialAsksForTheCredentialsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		connect, asked := w.config.Connect, atomic.Int32{}
		w.config.Connect = func(ctx context.Context) (aws.Config, error) {
			c, err := connect(ctx)
			good := c.Credentials
			c.Credentials = aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
				asked.Add(1)
				return good.Retrieve(ctx)
			}))
			return c, err
		}
		p, stop := w.start()
		w.sample(p, 10*time.Minute)
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times while all is well", n)
		}
		w.fake.Misbehave(cloudwatchfake.Deny, -1)
		w.sample(p, 20*time.Minute)
		if n := asked.Load(); n < 3 || n > 10 {
			t.Errorf("asked %d times in 20 minutes of denial", n)
		}
		w.fake.Misbehave(cloudwatchfake.None, 0)
		w.sample(p, 10*time.Minute)
		time.Sleep(10 * time.Second)
		stop()
		w.check(p)
	})
}

// A datum that CloudWatch refuses for a reason nobody wrote down must not take the others with it.
func TestOneRefusedDatumIsIsolated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.fake.Refuse = func(p cloudwatchfake.Point) bool { return p.Name == "poison" }
		p, stop := w.start()
		p.Add(collectors.Batch{At: time.Now(), Samples: []collectors.Sample{sample("poison", 1)}})
		w.sample(p, time.Minute)
		w.sample(p, 5*time.Minute)
		time.Sleep(10 * time.Second)
		stop()
		s := p.Status()
		if s.Dropped != 1 || s.DroppedBy["refused by CloudWatch"] != 1 || s.PossibleDuplicates != 0 {
			t.Errorf("got %+v", s)
		}
		if got := w.arrived(); len(got) != len(w.added) {
			t.Errorf("%d of %d arrived", len(got), len(w.added))
		}
		if n := w.count("metrics_dropped"); n != 1 {
			t.Errorf("metrics_dropped arrived as %v", n)
		}
	})
}

func TestFullSpoolLosesTheOldestAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.config.SpoolLimit = 20_000
		w.down.Store(true)
		p, stop := w.start()
		w.sample(p, time.Hour)
		if s := p.Status(); s.SpooledBytes > 20_000 || s.SpooledBatches < 5 {
			t.Errorf("got %+v", s)
		}
		w.down.Store(false)
		w.sample(p, 4*time.Minute)
		time.Sleep(10 * time.Second)
		stop()
		got, s := w.arrived(), p.Status()
		lost := 0
		var lastLost, firstKept time.Time
		for k := range w.added {
			if got[k] == 0 {
				lost++
				lastLost = slices.MaxFunc([]time.Time{lastLost, k.at}, time.Time.Compare)
			} else if firstKept.IsZero() || k.at.Before(firstKept) {
				firstKept = k.at
			}
		}
		if lost == 0 || !lastLost.Before(firstKept) {
			t.Errorf("lost %d up to %v, kept from %v", lost, lastLost, firstKept)
		}
		// The publisher's own counters are part of the batches that were lost, so it counts some more.
		if float64(s.Dropped) != w.count("metrics_dropped") || int(s.Dropped) < lost || int(s.Dropped) > 2*lost {
			t.Errorf("lost %d, counted %d, published %v", lost, s.Dropped, w.count("metrics_dropped"))
		}
	})
}

func TestStopFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p, stop := w.start()
		w.sample(p, 90*time.Second)
		stop()
		w.check(p)
	})
}

// A far side that hangs must not hold a shutdown; the next start sends what was left, and counts what may be twice.
func TestStopIsLimitedAndTheNextStartDelivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.fake.Misbehave(cloudwatchfake.Hang, -1)
		p, stop := w.start()
		w.sample(p, 90*time.Second)
		from := time.Now()
		stop()
		if took := time.Since(from); took > flushLimit {
			t.Errorf("stopping took %v", took)
		}
		w.fake.Misbehave(cloudwatchfake.None, 0)
		p, stop = w.start()
		time.Sleep(time.Minute)
		stop()
		w.check(p)
		if p.Status().PossibleDuplicates == 0 {
			t.Error("what the first process was sending is not counted as a possible duplicate")
		}
	})
}

// A laptop: said once, nothing on disk, nothing dropped, and what is there to see is there.
func TestAutoWithoutCredentialsStaysLocal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.config.Send = Auto
		w.gone.Store(true)
		p, stop := w.start()
		w.sample(p, 3*time.Hour)
		s := p.Status()
		if s.State != Local || s.Reason != "kept locally: no AWS credentials: this is a laptop" || s.Dropped != 0 || s.LastError != "" {
			t.Errorf("got %+v", s)
		}
		if st, _ := openSpool(w.config.SpoolDir, 1); len(st.entries) != 0 {
			t.Errorf("%d files on disk", len(st.entries))
		}
		if got := w.logs.count("metrics are local"); got != 1 {
			t.Errorf("said %d times: %s", got, &w.logs)
		}
		if n := len(p.Preview().Datums); n != 10 {
			t.Errorf("%d datums to look at", n)
		}
		w.gone.Store(false) // a role was attached: what memory holds goes out
		w.sample(p, 20*time.Minute)
		time.Sleep(10 * time.Second)
		stop()
		if got := len(w.arrived()); got < 500 {
			t.Errorf("%d arrived", got)
		}
	})
}

func TestOffNeverConnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.config.Send = Off
		w.config.Connect = func(context.Context) (aws.Config, error) { panic("connected") }
		p, stop := w.start()
		w.sample(p, 10*time.Minute)
		stop()
		if s := p.Status(); s.State != Local || !strings.Contains(s.Reason, "switched off") || s.Spooled != 0 || len(w.fake.Requests()) != 0 {
			t.Errorf("got %+v", s)
		}
	})
}

// The service's clock is right and the instance's is not: the SDK learns the difference from the refusal and signs by it,
// though its own retries are off.
func TestSkewedClockIsCorrectedWhenSigning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.fake.Now = func() time.Time { return time.Now().Add(20 * time.Minute) }
		p, stop := w.start()
		w.sample(p, 5*time.Minute)
		time.Sleep(10 * time.Second)
		stop()
		w.check(p)
	})
}

// A clock that is hours ahead makes every datum one that CloudWatch refuses. That is not the datums' fault: but for the
// few it takes to notice, they are kept, and arrive when the clock is right.
func TestEverythingRefusedIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var behind atomic.Int64
		behind.Store(int64(3 * time.Hour))
		w.fake.Now = func() time.Time { return time.Now().Add(-time.Duration(behind.Load())) }
		p, stop := w.start()
		w.sample(p, 20*time.Minute)
		if s := p.Status(); s.State != Waiting || !strings.Contains(s.Reason, "clock") || s.Dropped != maxQuarantined {
			t.Errorf("got %+v", s)
		}
		behind.Store(0)
		w.sample(p, 4*time.Minute)
		time.Sleep(10 * time.Second)
		stop()
		if lost := len(w.added) - len(w.arrived()); lost > maxQuarantined || p.Status().Spooled != 0 {
			t.Errorf("%d were lost, %d are spooled", lost, p.Status().Spooled)
		}
	})
}

// Losses that were not published when the agent stopped are published by the next one.
func TestLossesArePublishedAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.config.SpoolLimit = 20_000
		w.down.Store(true)
		p, stop := w.start()
		w.sample(p, time.Hour)
		stop()
		lost := p.Status().Dropped
		w.down.Store(false)
		p, stop = w.start()
		w.sample(p, 3*time.Minute)
		time.Sleep(10 * time.Second)
		stop()
		if lost == 0 || w.count("metrics_dropped") != float64(lost) || p.Status().Dropped != 0 {
			t.Errorf("lost %d, published %v", lost, w.count("metrics_dropped"))
		}
	})
}

// Credentials that cannot be had are no sending: nothing is ambiguous, and it is said what is missing.
func TestNoCredentialsLaterOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		connect, gone := w.config.Connect, atomic.Bool{}
		w.config.Connect = func(ctx context.Context) (aws.Config, error) {
			c, err := connect(ctx)
			good := c.Credentials
			c.Credentials = aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
				if gone.Load() {
					return aws.Credentials{}, errors.New("the instance has no role")
				}
				return good.Retrieve(ctx)
			})
			return c, err
		}
		p, stop := w.start()
		w.sample(p, 2*time.Minute)
		gone.Store(true)
		w.sample(p, 10*time.Minute)
		if s := p.Status(); s.State != Waiting || !strings.HasSuffix(s.Reason, "the instance has no role") {
			t.Errorf("got %+v", s)
		}
		gone.Store(false)
		w.sample(p, 3*time.Minute)
		time.Sleep(10 * time.Second)
		stop()
		w.check(p)
		if n := p.Status().PossibleDuplicates; n != 0 {
			t.Errorf("%d possible duplicates", n)
		}
	})
}
