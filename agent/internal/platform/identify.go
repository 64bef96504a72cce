package platform

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Limits of what Identify asks.
const (
	getConfigLimit = 2 * time.Second
	imdsLimit      = 2 * time.Second
)

// Identify returns the facts with what get-config and the metadata service add, in at most about two seconds. Missing
// names what failed.
func (f Facts) Identify(ctx context.Context, o Options) Facts {
	h := host{Options: o}
	var container, platform map[string]any
	var cErr, pErr error
	var id identity
	var idErr error
	var wg sync.WaitGroup
	if f.Beanstalk && !f.Docker {
		wg.Go(func() { platform, pErr = h.getConfigMap(ctx, "platformconfig") })
	}
	if f.Beanstalk && f.EnvironmentName == "" {
		wg.Go(func() { container, cErr = h.getConfigMap(ctx, "container") })
	}
	askIMDS := o.asksIMDS(f)
	if askIMDS {
		wg.Go(func() { id, idErr = h.identity(ctx, f.Beanstalk && f.EnvironmentName == "") })
	}
	wg.Wait()
	f.Missing = slices.Clone(f.Missing)
	f.fromGetConfig(o, container, platform)
	for _, err := range []error{cErr, pErr, idErr} {
		if err != nil && !slices.Contains(f.Missing, err.Error()) {
			f.missing(err.Error())
		}
	}
	if askIMDS {
		f.fromIMDS(id)
	} else if !f.EC2 {
		f.missing("not an EC2 instance: no instance metadata")
	}
	if f.EnvironmentName == "" {
		f.missing("environment name")
	}
	return f
}

func (f *Facts) fromGetConfig(o Options, container, platform map[string]any) {
	text := func(m map[string]any, key string) string {
		switch v := m[key].(type) {
		case string:
			return v
		case float64:
			return strconv.FormatFloat(v, 'f', -1, 64)
		}
		return ""
	}
	f.EnvironmentName = cmp.Or(text(container, "environment_name"), f.EnvironmentName)
	if dir := text(platform, "AppDeployDir"); filepath.IsAbs(dir) && o.AppDir == "" {
		f.AppDir = filepath.Clean(dir)
	}
	if port, err := strconv.ParseUint(text(platform, "ApplicationPort"), 10, 16); err == nil && f.AppPort == 0 {
		f.AppPort = int(port)
	}
}

// identity is what the metadata service says of this instance. The environment's name is among the instance's tags,
// which are in the metadata only where that was enabled.
type identity struct {
	InstanceID, AccountID, Region, InstanceType, ImageID string

	environmentName string
}

func (h host) identity(ctx context.Context, wantName bool) (id identity, err error) {
	ctx, cancel := context.WithTimeout(ctx, imdsLimit)
	defer cancel()
	doc, err := h.IMDS.Metadata(ctx, "dynamic/instance-identity/document")
	if err != nil {
		return id, err
	}
	if json.Unmarshal([]byte(doc), &id) != nil {
		return identity{}, errors.New("instance metadata: the identity document is no JSON object")
	}
	if wantName {
		id.environmentName, _ = h.IMDS.Metadata(ctx, "meta-data/tags/instance/elasticbeanstalk:environment-name")
	}
	return id, nil
}

func (f *Facts) fromIMDS(id identity) {
	f.InstanceID = cmp.Or(id.InstanceID, f.InstanceID)
	f.AccountID = cmp.Or(id.AccountID, f.AccountID)
	f.Region = cmp.Or(f.Region, id.Region)
	f.InstanceType, f.ImageID = cmp.Or(id.InstanceType, f.InstanceType), cmp.Or(id.ImageID, f.ImageID)
	f.EnvironmentName = cmp.Or(f.EnvironmentName, id.environmentName)
}

func (h host) getConfigMap(ctx context.Context, verb string) (map[string]any, error) {
	out, err := GetConfig(ctx, h.Options, verb)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	if json.Unmarshal(out, &m) != nil {
		return nil, fmt.Errorf("get-config %s: expected a JSON object", verb)
	}
	return m, nil
}

// ErrNoGetConfig: the platform has no get-config, or this is no Beanstalk instance.
var ErrNoGetConfig = errors.New("get-config is not on this host")

// maxOutput is far above what get-config prints: all properties together are 4 KiB.
const maxOutput = 4 << 20

// GetConfig runs Beanstalk's get-config with the given arguments and returns what it prints, JSON. It is the only
// command that the agent itself starts: by absolute path, with an empty environment, in / and for two seconds at
// most. Its stderr is dropped: it may quote a property. The error never carries its output.
func GetConfig(ctx context.Context, o Options, args ...string) ([]byte, error) {
	h := host{Options: o}
	path := h.path(eb + "/bin/get-config")
	if !h.exists(eb + "/bin/get-config") {
		return nil, ErrNoGetConfig
	}
	late := fmt.Errorf("no answer within %v: %w", getConfigLimit, context.DeadlineExceeded)
	ctx, cancel := context.WithTimeoutCause(ctx, getConfigLimit, late)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{}
	cmd.Dir = "/"
	var out limitedBuffer
	cmd.Stdout = &out
	cmd.WaitDelay = 100 * time.Millisecond // a grandchild that holds the pipe
	killTree(cmd)
	err := cmd.Run()
	name := strings.Join(append([]string{"get-config"}, args...), " ")
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: %w", name, context.Cause(ctx))
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	case out.full:
		return nil, fmt.Errorf("%s: printed more than %d bytes", name, maxOutput)
	}
	return out.Bytes(), nil
}

// limitedBuffer keeps the first maxOutput bytes.
type limitedBuffer struct {
	bytes.Buffer
	full bool
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxOutput {
		b.full = true
		return len(p), nil
	}
	return b.Buffer.Write(p)
}

// asksIMDS reports whether there should be a metadata service.
func (o Options) asksIMDS(f Facts) bool { return o.IMDS != nil && o.IMDS.AsksMetadata(f.EC2) }

// killTree makes cmd the leader of a process group, and its end the group's end.
func killTree(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
