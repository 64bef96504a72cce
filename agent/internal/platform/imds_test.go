package platform

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"beanstalk-agent/packaging/testbed/planted"
)

// unnamed is an instance on which no file tells the environment's name, and whose get-config fails.
func unnamed(t *testing.T) string {
	return tree(t, map[string]string{
		"/opt/elasticbeanstalk/bin/get-config!":    "#!/bin/sh\necho could not parse environment variables >&2; exit 1\n",
		"/sys/devices/virtual/dmi/id/sys_vendor":   "Amazon EC2\n",
		"/etc/systemd/system/web.service":          "[Service]\n",
		"/opt/elasticbeanstalk/config/ebenvinfo/x": "",
	})
}

func identify(t *testing.T, o Options) (Facts, time.Duration) {
	t.Helper()
	f := Detect(t.Context(), o)
	start := time.Now()
	return f.Identify(t.Context(), o), time.Since(start)
}

// service is a metadata service: what is at each path, or why it does not answer.
type service struct {
	paths map[string]string
	err   func() error
}

func (s service) AsksMetadata(bool) bool { return true }

func (s service) Metadata(_ context.Context, path string) (string, error) {
	if s.err != nil {
		if err := s.err(); err != nil {
			return "", err
		}
	}
	return s.paths[path], nil
}

const (
	documentPath = "dynamic/instance-identity/document"
	tagPath      = "meta-data/tags/instance/elasticbeanstalk:environment-name"

	// As in the EC2 user guide, "Instance identity documents", shortened.
	document = `{"accountId":"123456789012","availabilityZone":"us-east-1f","devpayProductCodes":null,"imageId":"ami-5fb8c835","instanceId":"i-1234567890abcdef0","instanceType":"t2.micro","region":"us-east-1"}`
)

func TestIdentityFromTheMetadataService(t *testing.T) {
	for name, c := range map[string]struct{ tag string }{"tags enabled": {"shop-prod"}, "tags not enabled": {""}} {
		t.Run(name, func(t *testing.T) {
			f, _ := identify(t, Options{Root: unnamed(t), IMDS: service{paths: map[string]string{documentPath: document, tagPath: c.tag}}})
			if f.InstanceType != "t2.micro" || f.ImageID != "ami-5fb8c835" {
				t.Errorf("type %q, image %q", f.InstanceType, f.ImageID)
			}
			if f.InstanceID != "i-1234567890abcdef0" || f.AccountID != "123456789012" || f.Region != "us-east-1" || f.EnvironmentName != c.tag {
				t.Errorf("%+v", f)
			}
			if missing := strings.Join(f.Missing, ", "); (c.tag == "") != strings.Contains(missing, "environment name") || !strings.Contains(missing, "get-config") {
				t.Errorf("missing: %s", missing)
			}
		})
	}
}

// What does not answer, or with something else, is said, and takes nothing away that was known.
func TestMetadataServicesThatFail(t *testing.T) {
	root := unnamed(t)
	if err := os.WriteFile(filepath.Join(root, "sys/devices/virtual/dmi/id/board_asset_tag"), []byte("i-0abc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, s := range map[string]service{
		"nobody home": {err: func() error { return errors.New("nobody home") }},
		"instance metadata: the identity document is no JSON object": {paths: map[string]string{documentPath: "<html>"}},
	} {
		f, _ := identify(t, Options{Root: root, IMDS: s})
		if !slices.Contains(f.Missing, want) || f.InstanceID != "i-0abc" {
			t.Errorf("missing: %q, instance %q", f.Missing, f.InstanceID)
		}
	}
}

// The firmware, not the network, says whether this is EC2: off EC2 nobody is asked, so nothing can hang.
func TestOffEC2NobodyIsAsked(t *testing.T) {
	root := tree(t, map[string]string{"/opt/elasticbeanstalk/deployment/cfn-metadata-cache.json": metadataCache, "/sys/devices/virtual/dmi/id/sys_vendor": "QEMU"})
	f, took := identify(t, Options{Root: root})
	if f.EC2 || f.InstanceID != "" || took > 300*time.Millisecond {
		t.Errorf("%+v after %v", f, took)
	}
}

func TestFirmwareOfOtherInstanceTypes(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"xen":        {"/sys/hypervisor/uuid": "ec2e1916-9099-7caf-fd21-012345abcdef\n"},
		"bare metal": {"/sys/devices/virtual/dmi/id/sys_vendor": "Amazon EC2\n"},
		"old bios":   {"/sys/devices/virtual/dmi/id/bios_vendor": "Amazon EC2\n"},
	} {
		if f := Detect(t.Context(), Options{Root: tree(t, files)}); !f.EC2 {
			t.Errorf("%s: not taken for EC2", name)
		}
	}
}

// Where the metadata service comes late, whoever waits for it learns of it soon, however long it has been asked in vain.
func TestWhoWaitsIsToldSoon(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	i := NewInstance(t.Context(), Options{Root: t.TempDir(), IMDS: service{map[string]string{documentPath: document}, func() error {
		if asked.Add(1) <= 4 {
			return errors.New("not yet")
		}
		return nil
	}}})
	ended := make(chan struct{})
	go func() { defer close(ended); i.Run(t.Context(), planted.Log(t)) }()
	const limit = 20 * time.Second // without a waiter the fifth question comes after 30
	if !i.Await(t.Context(), limit, func(f Facts) bool { return f.InstanceID != "" }) {
		t.Errorf("not known after %s and %d questions", limit, asked.Load())
	}
	<-ended // it is complete
}

// The account's id comes from the metadata service alone: where that comes late, the rest is known from files.
func TestTheAccountIsAskedForUntilItIsKnown(t *testing.T) {
	root := tree(t, al2023)
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		i := NewInstance(t.Context(), Options{Root: root, IMDS: service{map[string]string{documentPath: document}, func() error {
			if asked.Add(1) <= 2 {
				return errors.New("not yet")
			}
			return nil
		}}})
		if f := i.Facts(); f.InstanceID == "" || f.Region == "" || f.EnvironmentName == "" {
			t.Fatalf("%+v", f)
		}
		i.Run(t.Context(), planted.Log(t))
		if f := i.Facts(); f.AccountID != "123456789012" || f.Region != "eu-central-1" {
			t.Errorf("%+v", f)
		}
	})
}
