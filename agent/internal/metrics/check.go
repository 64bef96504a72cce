package metrics

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/cloudwatch"
)

// Check reports everything that cannot work, each with its key in the configuration file.
func (c Config) Check(fault func(key, format string, a ...any)) {
	if c.Interval < 10*time.Second || c.Interval > time.Hour {
		fault("metrics.interval", "expected 10s to 1h, have %s", c.Interval)
	}
	if c.Sample < time.Second || c.Sample > c.Interval {
		fault("metrics.sample", "expected 1s to metrics.interval (%s), have %s", c.Interval, c.Sample)
	}
	if !slices.Contains([]string{"auto", "on", "off"}, c.Send) {
		fault("metrics.send", "expected auto, on, off, have %q", c.Send)
	}
	if len(c.Dimensions) == 0 {
		fault("metrics.dimensions", "expected at least one set of names, such as [EnvironmentName]")
	}
	for i, set := range c.Dimensions {
		key := fmt.Sprintf("metrics.dimensions[%d]", i)
		for _, name := range set {
			if !slices.Contains(dimensionNames, name) {
				fault(key, "expected %s, have %q", strings.Join(dimensionNames, ", "), name)
			}
		}
		if err := cloudwatch.CheckSet(set); err != nil {
			fault(key, "%v", err)
		}
	}
	if err := cloudwatch.CheckNamespace(c.Namespace); err != nil {
		fault("metrics.namespace", "%v", err)
	}
	for i, p := range c.Disks {
		key := fmt.Sprintf("metrics.disks[%d]", i)
		switch {
		case !path.IsAbs(p) || path.Clean(p) != p:
			fault(key, "expected an absolute path such as /data, have %q", p)
		case slices.Index(c.Disks, p) < i:
			fault(key, "%q is there twice: its figures would be counted twice", p)
		}
		if err := cloudwatch.CheckValue(p); err != nil {
			fault(key, "%v", err)
		}
	}
	c.checkGroups(fault)
}

func (c Config) checkGroups(fault func(key, format string, a ...any)) {
	for i, g := range c.Groups {
		key := fmt.Sprintf("metrics.groups[%d]", i)
		if g.Name == "" {
			fault(key, "a group needs a name")
		} else if first := slices.IndexFunc(c.Groups, func(o Group) bool { return o.Name == g.Name }); first < i {
			fault(key+".name", "%q is the name of metrics.groups[%d], too: their figures would be mixed", g.Name, first)
		}
		n := 0
		for _, given := range []bool{g.Unit != "", g.Port != 0, g.Match != ""} {
			if given {
				n++
			}
		}
		if n != 1 {
			fault(key, "expected exactly one of unit, port or match, have %d", n)
		}
		if g.User != "" && g.Unit != "" {
			fault(key+".user", "goes with port or match: what a unit started counts whoever it is")
		}
		if _, err := regexp.Compile(g.Match); err != nil {
			fault(key+".match", "expected a regular expression: %v", err)
		}
		if g.Port < 0 || g.Port > 65535 {
			fault(key+".port", "expected 1 to 65535, have %d", g.Port)
		}
	}
}
