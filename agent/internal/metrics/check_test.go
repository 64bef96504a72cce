package metrics

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// A configuration that is good when it is checked must start: a deployment with any other stops the agent.
func TestNewTakesWhatCheckTakes(t *testing.T) {
	repeat := func(n int) [][]string { return [][]string{slices.Repeat([]string{"InstanceId"}, n)} }
	for name, tt := range map[string]struct {
		change func(*Config)
		want   string // the faults
		starts bool   // all the same
	}{
		"good":                    {func(c *Config) {}, "", true},
		"no dimensions":           {func(c *Config) { c.Dimensions = [][]string{} }, "metrics.dimensions: expected at least one set of names, such as [EnvironmentName]", false},
		"an empty set":            {func(c *Config) { c.Dimensions = [][]string{{}} }, "", true},
		"a foreign dimension":     {func(c *Config) { c.Dimensions = [][]string{{}, {"Host"}} }, `metrics.dimensions[1]: expected EnvironmentName, InstanceId, InstanceType, ImageId, AutoScalingGroupName, have "Host"`, true},
		"a large set":             {func(c *Config) { c.Dimensions = repeat(19) }, "", true},
		"a set that is too large": {func(c *Config) { c.Dimensions = repeat(20) }, "metrics.dimensions[0]: use dimension set", false},
		"Amazon's namespace":      {func(c *Config) { c.Namespace = "AWS/EC2" }, "metrics.namespace: use namespace", false},
		"no namespace":            {func(c *Config) { c.Namespace = " " }, "metrics.namespace: use namespace", false},
		"a namespace in German":   {func(c *Config) { c.Namespace = "Läden" }, "metrics.namespace: use namespace \"Läden\": it must be printable ASCII", false},
		"no such mode":            {func(c *Config) { c.Send = "yes" }, `metrics.send: expected auto, on, off, have "yes"`, false},
		"too often": {func(c *Config) { c.Interval = time.Second },
			"metrics.interval: expected 10s to 1h, have 1s\nmetrics.sample: expected 1s to metrics.interval (1s), have 5s", true},
		"disks":                      {func(c *Config) { c.Disks = []string{"/", "/data"} }, "", true},
		"a disk that is no path":     {func(c *Config) { c.Disks = []string{"nvme1n1"} }, `metrics.disks[0]: expected an absolute path such as /data, have "nvme1n1"`, true},
		"a disk with a slash's end":  {func(c *Config) { c.Disks = []string{"/data/"} }, `metrics.disks[0]: expected an absolute path such as /data, have "/data/"`, true},
		"a disk that is there twice": {func(c *Config) { c.Disks = []string{"/data", "/", "/data"} }, `metrics.disks[2]: "/data" is there twice`, true},
		"a disk's path in German":    {func(c *Config) { c.Disks = []string{"/daten/größe"} }, `metrics.disks[0]: use dimension value "/daten/größe"`, true},
		"a group without a name":     {func(c *Config) { c.Groups = []Group{{Port: 1}} }, "metrics.groups[0]: a group needs a name", true},
		"groups of one name": {func(c *Config) { c.Groups = []Group{{Name: "a", Port: 1}, {Name: "b", Port: 2}, {Name: "a", Port: 3}} },
			`metrics.groups[2].name: "a" is the name of metrics.groups[0], too`, true},
		"a group of two kinds":         {func(c *Config) { c.Groups = []Group{{Name: "a", Port: 1, Unit: "b"}} }, "metrics.groups[0]: expected exactly one of unit, port or match, have 2", true},
		"whose a unit's processes are": {func(c *Config) { c.Groups = []Group{{Name: "a", Unit: "b", User: "any"}} }, "metrics.groups[0].user: goes with port or match", true},
		"a group's port":               {func(c *Config) { c.Groups = []Group{{Name: "a", Port: 1 << 16}} }, "metrics.groups[0].port: expected 1 to 65535, have 65536", true},
	} {
		t.Run(name, func(t *testing.T) {
			c := Config{Namespace: "BeanstalkAgent", Dimensions: [][]string{{"EnvironmentName"}}, Interval: time.Minute, Sample: 5 * time.Second, Send: "on",
				Log: slog.New(slog.DiscardHandler), SpoolDir: t.TempDir(), Connect: func(context.Context) (aws.Config, error) { return aws.Config{}, nil }}
			tt.change(&c)
			var faults []string
			c.Check(func(key, format string, a ...any) { faults = append(faults, key+": "+fmt.Sprintf(format, a...)) })
			if got := strings.Join(faults, "\n"); !strings.HasPrefix(got, tt.want) || (got == "") != (tt.want == "") {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if _, err := New(c, beside(t, t.TempDir())); (err == nil) != tt.starts {
				t.Errorf("New: %v", err)
			}
		})
	}
}
