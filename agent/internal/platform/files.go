package platform

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// maxFile is far above any file read here; cfn-metadata-cache.json is the largest.
const maxFile = 4 << 20

func readSmall(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %q: not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("read %q: larger than %d bytes", path, maxFile)
	}
	return data, err
}

// firmware tells an EC2 machine without asking anyone. On Nitro the board's asset tag is the instance's own id.
// Source: the EC2 user guide, "Detect whether a host is an EC2 instance".
func (h host) firmware(f *Facts) {
	const dmi = "/sys/devices/virtual/dmi/id/"
	uuid := strings.ToLower(h.word("/sys/hypervisor/uuid"))
	f.EC2 = h.word(dmi+"sys_vendor") == "Amazon EC2" || h.word(dmi+"bios_vendor") == "Amazon EC2" || strings.HasPrefix(uuid, "ec2")
	if tag := h.word(dmi + "board_asset_tag"); f.EC2 && strings.HasPrefix(tag, "i-") {
		f.InstanceID = tag
		f.found("instance id from the firmware")
	}
}

// ebFiles reads what Beanstalk's engine left on disk. cfn-metadata-cache.json may hold property values beside the two
// keys, so it is decoded into just these and never kept.
func (h host) ebFiles(f *Facts) {
	var cache struct {
		EbResource map[string]struct{ EnvironmentName, EnvironmentId string }
	}
	if h.json(eb+"/deployment/cfn-metadata-cache.json", &cache) {
		md := cache.EbResource["AWS::ElasticBeanstalk::Metadata"]
		f.EnvironmentName, f.EnvironmentID = md.EnvironmentName, md.EnvironmentId
	}
	if f.EnvironmentName != "" {
		f.found("environment name from cfn-metadata-cache.json")
	}
	f.VersionLabel = h.versionLabel()
	const info = eb + "/config/ebenvinfo/"
	if f.Region == "" {
		f.Region = h.word(info + "region")
	}
	if f.EnvironmentID == "" {
		f.EnvironmentID = h.word(info + "envid")
	}
	if f.EnvironmentID == "" {
		f.EnvironmentID = idInStack(h.word(info + "stackid"))
	}
}

// versionLabel reads which version of the application is deployed.
func (h host) versionLabel() string {
	var manifest struct{ VersionLabel string }
	h.json(eb+"/deployment/app_version_manifest.json", &manifest)
	return manifest.VersionLabel
}

var stackID = regexp.MustCompile(`awseb-(e-[a-z0-9]+)-`)

// idInStack finds e-xxxx in the stack's name, which is awseb-e-xxxx-stack, or -immutable-stack for a while.
func idInStack(s string) string {
	if m := stackID.FindStringSubmatch(s); m != nil {
		return m[1]
	}
	return ""
}

// json reads one file, and reports whether it could. Its error is not kept: it could quote the file.
func (h host) json(abs string, into any) bool {
	data, err := readSmall(h.path(abs))
	return err == nil && json.Unmarshal(data, into) == nil
}

// webUnits are the units that Beanstalk's platforms run the application in, most likely first.
var webUnits = []string{"web.service", "php-fpm.service", "tomcat.service"}

const noUnit = "no web.service yet: the application has not been deployed"

// units reads what systemd was told. The user is the unit's own: what the web process really runs as.
func (h host) units(f *Facts) {
	f.Docker = h.exists(eb+"/deployment/env.list") && !h.exists(eb+"/deployment/env") || h.unitPath("eb-docker.service") != "" || h.unitPath("eb-ecs.service") != ""
	f.Worker = h.unitPath("sqsd.service") != "" || h.unitPath("aws-sqsd.service") != "" || h.exists("/etc/aws-sqsd.d/default.yaml")
	if f.Docker {
		f.found("a Docker platform: the application lives in a container")
		return
	}
	i := slices.IndexFunc(webUnits, func(u string) bool { return h.unitPath(u) != "" })
	if i < 0 {
		f.missing(noUnit)
		return
	}
	f.WebUnit = webUnits[i]
	f.found("web process in " + f.WebUnit)
	if user := h.unitUser(f.WebUnit); user != "" && f.AppUser == "" {
		f.AppUser = user
	}
}

// unitPath finds a unit's file in the order systemd does.
func (h host) unitPath(unit string) string {
	for _, dir := range []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"} {
		if abs := filepath.Join(dir, unit); h.exists(abs) {
			return abs
		}
	}
	return ""
}

// unitUser reads User= of a unit and its drop-ins; the last one wins.
func (h host) unitUser(unit string) string {
	files := []string{h.path(h.unitPath(unit))}
	dropins, _ := filepath.Glob(h.path("/etc/systemd/system/" + unit + ".d/*.conf"))
	user := ""
	for _, path := range append(files, dropins...) {
		data, err := readSmall(path)
		if err != nil {
			continue
		}
		if u := userInUnit(string(data)); u != "" {
			user = u
		}
	}
	if strings.ContainsAny(user, "%$ ") { // a specifier: systemd's business
		return ""
	}
	return user
}

// userInUnit is the last User= of a unit file's [Service] section.
func userInUnit(text string) (user string) {
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = line
		}
		if key, value, ok := strings.Cut(line, "="); ok && section == "[Service]" && strings.TrimSpace(key) == "User" {
			user = strings.TrimSpace(value)
		}
	}
	return user
}

var proxyPass = regexp.MustCompile(`(?m)^\s*(?:proxy_pass\s+https?://|server\s+)(?:127\.0\.0\.1|localhost):(\d+)`)

func (h host) nginx(f *Facts) {
	if !h.isDir("/etc/nginx/conf.d/elasticbeanstalk") {
		return
	}
	f.Proxy = "nginx"
	if port, file := h.proxyPort(); port != 0 {
		f.AppPort = port
		f.found("application port from " + file)
	}
}

// proxyPort reads where nginx really sends requests, and says which file told it; 0: none does.
func (h host) proxyPort() (port int, file string) {
	for _, name := range []string{"/etc/nginx/conf.d/elasticbeanstalk/00_application.conf", "/etc/nginx/nginx.conf"} {
		data, err := readSmall(h.path(name))
		if err != nil {
			continue
		}
		if m := proxyPass.FindSubmatch(data); m != nil {
			if port, err := strconv.ParseUint(string(m[1]), 10, 16); err == nil && port > 0 {
				return int(port), name
			}
		}
	}
	return 0, ""
}

// systemdVersion is by the system's release: Amazon Linux 2 has 219, what came after it 252 or later.
func (h host) systemdVersion() int {
	rel := h.word("/etc/os-release")
	if rel == "" {
		return 0
	}
	if strings.Contains(rel, `ID="amzn"`) && strings.Contains(rel, `VERSION_ID="2"`) {
		return 219
	}
	return 252
}
