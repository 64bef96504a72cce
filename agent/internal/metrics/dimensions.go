package metrics

import (
	"context"
	"sync/atomic"
	"time"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/platform"
)

// groupVariable is the property of the environment that holds the name of the Auto Scaling group. To ask AWS for it
// an instance would need another permission. packaging/examples/auto-scaling-group.config sets it.
const groupVariable = "AUTO_SCALING_GROUP"

// dimensionNames are the dimensions that can have a value; but for the first, those that the CloudWatch agent's wizard
// appends.
var dimensionNames = []string{"EnvironmentName", "InstanceId", "InstanceType", "ImageId", "AutoScalingGroupName"}

// dimensionHints say how a dimension that is not known becomes so.
var dimensionHints = map[string]string{
	"AutoScalingGroupName": "set the environment property " + groupVariable +
		": packaging/examples/auto-scaling-group.config",
	"InstanceId":   "allow the instance metadata service",
	"InstanceType": "allow the instance metadata service",
	"ImageId":      "allow the instance metadata service",
}

// dimensions are the values of CloudWatch's dimensions.
type dimensions struct {
	facts func() platform.Facts
	group func(context.Context) (string, error)
	last  atomic.Pointer[string] // the last group that was known
}

func newDimensions(a *app.App) *dimensions {
	return &dimensions{facts: a.Facts, group: func(ctx context.Context) (string, error) {
		env, err := a.Env().Resolve(ctx)
		if err != nil {
			return "", err
		}
		group, _ := env.Lookup(groupVariable)
		return group, nil
	}}
}

// groupLimit leaves time to write the last interval to disk within the publisher's five seconds for a stop.
const groupLimit = 3 * time.Second

// value is the present value of a dimension, or "". While the environment cannot be resolved in time, the group is
// the last one known.
func (d *dimensions) value(name string) string {
	switch name {
	case "EnvironmentName":
		return d.facts().EnvironmentName
	case "InstanceId":
		return d.facts().InstanceID
	case "InstanceType":
		return d.facts().InstanceType
	case "ImageId":
		return d.facts().ImageID
	case "AutoScalingGroupName":
		ctx, cancel := context.WithTimeout(context.Background(), groupLimit)
		defer cancel()
		if group, err := d.group(ctx); err == nil {
			d.last.Store(&group)
		}
		if last := d.last.Load(); last != nil {
			return *last
		}
	}
	return ""
}
