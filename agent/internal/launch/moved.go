package launch

import "beanstalk-agent/agent/internal/runs"

// These moved to package runs: import that. This file goes once nobody uses it.
const (
	HostOf = runs.MetaHost
	Good   = runs.Good
)

var (
	Describe = runs.Describe
	SlotID   = runs.SlotID
)
