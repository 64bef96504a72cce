package metrics

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"beanstalk-agent/agent/internal/platform"
)

// The group's name is a property of the environment, and follows a change of it.
func TestTheAutoScalingGroupIsAProperty(t *testing.T) {
	dir := t.TempDir()
	d := newDimensions(beside(t, dir))
	for _, want := range []string{"", "awseb-e-abc-stack-AWSEBAutoScalingGroup-1"} {
		if want != "" {
			if err := os.WriteFile(filepath.Join(dir, ".env"), []byte(groupVariable+"="+want+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := d.value("AutoScalingGroupName"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := d.value("EnvironmentName"); got != "local" {
		t.Errorf("EnvironmentName: got %q", got)
	}
	text, err := os.ReadFile("../../../packaging/examples/auto-scaling-group.config")
	if err != nil || !strings.Contains(string(text), "\n    "+groupVariable+": ") {
		t.Errorf("the example does not set %s: %v", groupVariable, err)
	}
}

// What the CloudWatch agent's wizard appends: InstanceId, InstanceType, ImageId and AutoScalingGroupName.
func TestInstanceDimensionsAreFacts(t *testing.T) {
	d := dimensions{facts: func() platform.Facts {
		return platform.Facts{InstanceID: "i-0abc", InstanceType: "t3.small", ImageID: "ami-0abc"}
	}}
	for name, want := range map[string]string{"InstanceId": "i-0abc", "InstanceType": "t3.small", "ImageId": "ami-0abc",
		"Host": ""} {
		if got := d.value(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// At a stop the publisher has five seconds to write the last interval to disk. An environment that cannot be resolved
// in that time kept it waiting, and its series lost their group.
func TestADimensionIsKnownInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := func(ctx context.Context) (string, error) { <-ctx.Done(); return "", context.Cause(ctx) }
		says := func(group string) func(context.Context) (string, error) {
			return func(context.Context) (string, error) { return group, nil }
		}
		var d dimensions
		for i, step := range []struct {
			resolve func(context.Context) (string, error)
			want    string
		}{{stuck, ""}, {says("group"), "group"}, {stuck, "group"}, {says(""), ""}, {stuck, ""}} {
			began := time.Now()
			d.group = step.resolve
			if got := d.value("AutoScalingGroupName"); got != step.want || time.Since(began) >= 5*time.Second {
				t.Errorf("%d: got %q after %v, want %q", i, got, time.Since(began), step.want)
			}
		}
	})
}
