package cron

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/scheduler"
)

// CheckClaims reports what is wrong with the setting of cron.claims.
func CheckClaims(setting string) error {
	if setting == "auto" || setting == "off" {
		return nil
	}
	_, _, err := claim.ParseURL(setting)
	return err
}

// CheckGroup reports what is wrong with the setting of cron.group.
func CheckGroup(setting string) error {
	name, err := scheduler.Host{}.Group(setting)
	if err == nil && name != setting {
		err = errors.New("expected a name: ${NAME} goes into group: of the cron file")
	}
	return err
}

// open returns the store of the present group, or why there is none. On Beanstalk an account that is not known yet is
// an error and not "no store": every instance would run every job for as long as the metadata service does not answer.
func (c *fleet) open() (*groupStore, error) {
	group, err := c.group()
	if err != nil {
		return nil, err
	}
	return c.openGroup(group)
}

func (c *fleet) openGroup(group string) (*groupStore, error) {
	before := c.store.Load()
	if before != nil && before.group == group {
		return before, nil
	}
	store, err := c.newStore(group)
	if err != nil {
		return nil, err
	}
	select {
	case <-c.app.Instance().Identified():
		if !c.store.CompareAndSwap(before, store) {
			return c.openGroup(group)
		}
		if before != nil {
			c.log.Info("the group of the cron file is another: slots are claimed there from now on", "group", group)
		}
	default: // only for display: the instance may yet turn out to be another
	}
	return store, nil
}

func (c *fleet) newStore(group string) (*groupStore, error) {
	s, err := c.config()
	if err != nil {
		return nil, err
	}
	s.Group = group
	store, err := claim.New(s)
	if err != nil {
		return nil, err
	}
	return &groupStore{store, group}, nil
}

func (c *fleet) config() (claim.Config, error) {
	f := c.app.Facts()
	// The environment by its name alone: its id is not known on every instance at every moment, and instances with and
	// without it would each run every slot.
	s := claim.Config{Bucket: claim.DefaultBucket(f.Region, f.AccountID), Region: f.Region,
		Environment: f.EnvironmentName, Owner: f.InstanceID, Credentials: c.aws.Credentials(),
		Endpoint: c.aws.S3Endpoint(), Client: c.aws.HTTPClient(), Logger: c.log}
	switch {
	case c.setting == "off":
		return s, fmt.Errorf("%w: cron.claims is off", errNoStore)
	case c.setting != "auto":
		var err error
		if s.Bucket, s.Prefix, err = claim.ParseURL(c.setting); err != nil {
			return s, err
		}
		if s.Region == "" { // off EC2: as the agent's own environment says
			s.Region, _ = c.aws.Region(context.Background())
		}
	case !f.Beanstalk:
		return s, fmt.Errorf("%w: this is no instance of an Elastic Beanstalk environment", errNoStore)
	case !located(f):
		return s, errors.New("the instance's region, account or environment is not known, so neither is the claim " +
			"store: the metadata service does not answer; cron.claims: off would let every instance run every job")
	}
	if s.Owner == "" && c.app.Instance().AsksMetadata() { // a claim by the host's name is not ours once the id is known
		return s, errors.New("the instance's id is not known, so neither is in whose name to claim: the metadata " +
			"service does not answer; AWS_EC2_METADATA_DISABLED=true in the agent's environment makes it " +
			"the host's name")
	}
	if s.Owner == "" {
		s.Owner, _ = os.Hostname()
	}
	return s, nil
}

func located(f platform.Facts) bool {
	return !f.Beanstalk || f.Region != "" && f.AccountID != "" && f.EnvironmentName != ""
}

// identified reports whether it is known where to claim and in whose name, or that no more will be known.
func (c *fleet) identified(f platform.Facts) bool {
	if c.setting == "auto" && !f.Beanstalk {
		return true // no store
	}
	return located(f) && (f.InstanceID != "" || !c.app.Instance().AsksMetadata())
}

// opened waits until it is known where and in whose name to claim, and opens the store.
func (c *fleet) opened(ctx context.Context, limit time.Duration) (*groupStore, error) {
	if c.setting != "off" { // a slot claimed by the host's name would be another's after a restart
		inst := c.app.Instance()
		select {
		case <-inst.Identified():
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		inst.Await(ctx, limit, c.identified) // right after a boot the metadata service may answer later
	}
	return c.open()
}

// openedAs waits as opened does, and opens the registers of that name: a run's, whatever the cron file says by now, and
// also while that cannot be known. "" names the present ones.
func (c *fleet) openedAs(ctx context.Context, name string) (*groupStore, error) {
	s, err := c.opened(ctx, 10*time.Second)
	group, _ := strings.CutPrefix(name, groupPrefix)
	if name == (&groupStore{}).String() {
		group = ""
	}
	switch {
	case name == "", err == nil && s.group == group, ctx.Err() != nil:
		return s, err
	case err != nil && c.store.Load() == nil: // the present group is this one, as a rule
		return c.openGroup(group)
	}
	return c.newStore(group)
}
