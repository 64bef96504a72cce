package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"beanstalk-agent/packaging/testbed/planted"
)

// tree writes files below a new root; a path ending in "!" is executable.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		name, executable := strings.CutSuffix(name, "!")
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if executable {
			mode = 0o755
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const metadataCache = `{"EbResource":{"AWS::ElasticBeanstalk::Metadata":{"EnvironmentId":"e-umspvf2fdm","EnvironmentName":"shop-prod"},
 "Other":{"Properties":{"SECRET":"planted-5c1e"}}},"X":[1,2]}`

// al2023 is what a Python instance has on disk after its first deployment, as far as public evidence goes.
var al2023 = map[string]string{
	"/opt/elasticbeanstalk/deployment/env":                       "PATH=/x\nA=planted-5c1e\n",
	"/opt/elasticbeanstalk/deployment/cfn-metadata-cache.json":   metadataCache,
	"/opt/elasticbeanstalk/deployment/app_version_manifest.json": `{"VersionLabel":"v42"}`,
	"/opt/elasticbeanstalk/config/ebenvinfo/region":              "eu-central-1\n",
	"/opt/elasticbeanstalk/config/ebenvinfo/stackid":             "arn:aws:cloudformation:eu-central-1:123456789012:stack/awseb-e-zzz-immutable-stack/1",
	"/etc/systemd/system/web.service":                            "[Unit]\nUser=nope\n[Service]\nUser=webapp\nExecStart=/bin/x\n",
	"/etc/nginx/conf.d/elasticbeanstalk/00_application.conf":     "location / {\n    proxy_pass          http://127.0.0.1:8000;\n}\n",
	"/etc/os-release":                             "NAME=\"Amazon Linux\"\nID=\"amzn\"\nVERSION_ID=\"2023\"\n",
	"/sys/devices/virtual/dmi/id/sys_vendor":      "Amazon EC2\n",
	"/sys/devices/virtual/dmi/id/board_asset_tag": "i-0abc\n",
	"/opt/elasticbeanstalk/bin/get-config!":       "#!/bin/sh\n[ -z \"$HOME$AWS_REGION\" ] || exit 9\ncase $1 in platformconfig) echo '{\"AppUser\":\"other\",\"AppDeployDir\":\"/var/app/current/\",\"AppStagingDir\":\"/var/app/staging/\",\"ProxyServer\":\"nginx\",\"ApplicationPort\":5000}';; environment) echo '{\"A\":\"b\"}';; *) exit 3;; esac\n",
}

func TestDetectReadsABeanstalkInstanceFromItsFiles(t *testing.T) {
	f := Detect(t.Context(), Options{Root: tree(t, al2023)})
	want := Facts{
		Beanstalk: true, EC2: true, EnvironmentName: "shop-prod", Region: "eu-central-1", InstanceID: "i-0abc",
		AppDir: "/var/app/current", AppPort: 8000, WebUnit: "web.service", Systemd: 252,
	}
	if !reflect.DeepEqual(f, want) {
		t.Errorf("got  %+v\nwant %+v", f, want)
	}
}

func TestIdentifyAddsWhatGetConfigKnows(t *testing.T) {
	t.Setenv("AWS_REGION", planted.Value) // the script fails if any of our environment reaches it
	o := Options{Root: tree(t, al2023)}
	f := Detect(t.Context(), o).Identify(t.Context(), o)
	if f.AppDir != "/var/app/current" || f.AppPort != 8000 || len(f.Missing) > 0 {
		t.Errorf("dir %q, port %d, missing %q", f.AppDir, f.AppPort, f.Missing)
	}
}

func TestGetConfigIsEndedAfterTwoSecondsWithItsChildren(t *testing.T) {
	root := tree(t, map[string]string{"/opt/elasticbeanstalk/bin/get-config!": "#!/bin/sh\nsleep 60 & echo $! >\"${0%/*}/child\"; sleep 60\n"})
	start := time.Now()
	_, err := GetConfig(t.Context(), Options{Root: root}, "environment")
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("took %v", took)
	}
	if err == nil || !strings.Contains(err.Error(), "no answer within 2s") {
		t.Errorf("err = %v", err)
	}
	text, err := os.ReadFile(filepath.Join(root, "opt/elasticbeanstalk/bin/child"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; <-time.After(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || err == nil && strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("its child %d lives on", pid)
		}
	}
}

func TestGetConfigErrorsCarryNoOutput(t *testing.T) {
	root := tree(t, map[string]string{"/opt/elasticbeanstalk/bin/get-config!": "#!/bin/sh\necho planted-5c1e; echo planted-5c1e >&2; exit 4\n"})
	_, err := GetConfig(t.Context(), Options{Root: root}, "environment")
	if err == nil || strings.Contains(err.Error(), planted.Value) || !strings.Contains(err.Error(), "exit status 4") {
		t.Errorf("err = %v", err)
	}
}

func TestOffBeanstalkIsLocalAndAsksNobody(t *testing.T) {
	o := Options{Root: t.TempDir()}
	start := time.Now()
	f := Detect(t.Context(), o).Identify(context.Background(), o)
	if f.EnvironmentName != "local" || f.Beanstalk || f.EC2 {
		t.Errorf("%+v", f)
	}
	if took := time.Since(start); took > 300*time.Millisecond {
		t.Errorf("took %v", took)
	}
}

func TestDockerPlatformsAreSaid(t *testing.T) {
	f := Detect(t.Context(), Options{Root: tree(t, map[string]string{"/opt/elasticbeanstalk/deployment/env.list": "", "/etc/systemd/system/eb-docker.service": "[Service]\n"})})
	if !f.Beanstalk || !f.Docker {
		t.Errorf("%+v", f)
	}
}

func TestAmazonLinux2AndWorkers(t *testing.T) {
	f := Detect(t.Context(), Options{Root: tree(t, map[string]string{
		"/opt/elasticbeanstalk/deployment/env": "",
		"/etc/os-release":                      "ID=\"amzn\"\nVERSION_ID=\"2\"\n",
		"/etc/systemd/system/sqsd.service":     "[Service]\n",
	})})
	if f.Systemd != 219 || !f.Worker || f.Docker {
		t.Errorf("%+v", f)
	}
}

// What the cache holds besides the two keys goes nowhere.
func TestNothingOfTheMetadataCacheIsPrinted(t *testing.T) {
	f := Detect(t.Context(), Options{Root: tree(t, al2023)})
	if s := fmt.Sprintf("%+v %v", f, f.LogValue()); strings.Contains(s, planted.Value) {
		t.Error(s)
	}
}

// FuzzFiles: Beanstalk's files and answers are of many makers and ages. What is taken from any of them can be used as it is.
func FuzzFiles(f *testing.F) {
	for _, name := range slices.Sorted(maps.Keys(al2023)) {
		f.Add(al2023[name])
	}
	f.Add("proxy_pass http://127.0.0.1:99999;\n server localhost:0;\nserver 127.0.0.1:8000;")
	f.Add(`{"AppUser":"other","AppDeployDir":"/var/app/current/","AppStagingDir":"../x","ProxyServer":"nginx","ApplicationPort":5000}`)
	f.Add(`{"AppDeployDir":"current","ApplicationPort":-1,"environment_name":5}`)
	f.Add(`{"ApplicationPort":"65536","AppUser":["a"]}`)
	f.Add(`{"EbResource":{"AWS::ElasticBeanstalk::Metadata":null}}`)
	const nginx = "/etc/nginx/conf.d/elasticbeanstalk/00_application.conf"
	root := tree(f, map[string]string{nginx: "", eb + "/deployment/cfn-metadata-cache.json": ""})
	f.Fuzz(func(t *testing.T, text string) {
		h, facts := host{Options{Root: root}}, Facts{}
		for _, name := range []string{nginx, eb + "/deployment/cfn-metadata-cache.json"} {
			if err := os.WriteFile(h.path(name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		facts.AppPort = h.nginx().Passes().Port
		h.ebFiles(&facts)
		said := Facts{}
		var answer map[string]any
		if json.Unmarshal([]byte(text), &answer) == nil {
			said.fromGetConfig(Options{}, answer, answer)
		}
		for _, facts := range []Facts{facts, said} {
			if facts.AppPort < 0 || facts.AppPort > 65535 {
				t.Errorf("port %d", facts.AppPort)
			}
			if dir := facts.AppDir; dir != "" && dir != filepath.Clean("/"+dir) {
				t.Errorf("directory %q", dir)
			}
		}
	})
}
