package platform

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
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

// firmware recognises an EC2 machine without a request. On Nitro the board's asset tag is the instance's own id.
// Source: the EC2 user guide, "Detect whether a host is an EC2 instance".
func (h host) firmware(f *Facts) {
	const dmi = "/sys/devices/virtual/dmi/id/"
	uuid := strings.ToLower(h.word("/sys/hypervisor/uuid"))
	f.EC2 = h.word(dmi+"sys_vendor") == "Amazon EC2" || h.word(dmi+"bios_vendor") == "Amazon EC2" ||
		strings.HasPrefix(uuid, "ec2")
	if tag := h.word(dmi + "board_asset_tag"); f.EC2 && strings.HasPrefix(tag, "i-") {
		f.InstanceID = tag
	}
}

// ebFiles reads what Beanstalk's engine left on disk. cfn-metadata-cache.json may hold property values beside the
// name, so it is decoded into just that and never kept.
func (h host) ebFiles(f *Facts) {
	var cache struct {
		EbResource map[string]struct{ EnvironmentName string }
	}
	if h.json(eb+"/deployment/cfn-metadata-cache.json", &cache) {
		f.EnvironmentName = cache.EbResource["AWS::ElasticBeanstalk::Metadata"].EnvironmentName
	}
	if f.Region == "" {
		f.Region = h.word(eb + "/config/ebenvinfo/region")
	}
}

// versionLabel reads which version of the application is deployed.
func (h host) versionLabel() string {
	var manifest struct{ VersionLabel string }
	h.json(eb+"/deployment/app_version_manifest.json", &manifest)
	return manifest.VersionLabel
}

// json reads one file, and reports whether it could. Its error is not kept: it could quote the file.
func (h host) json(abs string, into any) bool {
	data, err := readSmall(h.path(abs))
	return err == nil && json.Unmarshal(data, into) == nil
}

// webUnits are the units that Beanstalk's platforms run the application in, most likely first.
var webUnits = []string{"web.service", "php-fpm.service", "tomcat.service"}

const noUnit = "no web.service yet: the application has not been deployed"

// units looks for the units that Beanstalk has made.
func (h host) units(f *Facts) {
	const deployment = eb + "/deployment/"
	f.Docker = h.exists(deployment+"env.list") && !h.exists(deployment+"env") ||
		h.hasUnit("eb-docker.service") || h.hasUnit("eb-ecs.service")
	f.Worker = h.hasUnit("sqsd.service") || h.hasUnit("aws-sqsd.service") || h.exists("/etc/aws-sqsd.d/default.yaml")
	if f.Docker {
		return
	}
	if i := slices.IndexFunc(webUnits, h.hasUnit); i >= 0 {
		f.WebUnit = webUnits[i]
	} else {
		f.missing(noUnit)
	}
}

// hasUnit looks where systemd does.
func (h host) hasUnit(unit string) bool {
	dirs := []string{"/etc", "/run", "/usr/local/lib", "/usr/lib"}
	return slices.ContainsFunc(dirs, func(dir string) bool { return h.exists(dir + "/systemd/system/" + unit) })
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
