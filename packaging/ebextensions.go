package packaging

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// ebextension is what concerns us of a .config file of the repository's .ebextensions.
type ebextension struct {
	name           string
	OptionSettings any            `yaml:"option_settings"`
	Files          map[string]any `yaml:"files"`
}

// ebextensions reads them, and the environment's manifest, in Beanstalk's order. One that cannot be read, or is
// ours, is left out.
func (h *host) ebextensions() (list []ebextension) {
	names, _ := fs.Glob(h.repo, ".ebextensions/*.config")
	for _, name := range names {
		text, err := smallFile(h.repo, name)
		e := ebextension{name: name}
		if err == nil && name != configName && yaml.Unmarshal([]byte(text), &e) == nil {
			list = append(list, e)
		}
	}
	var manifest struct { // of the environment; its options come before those of .ebextensions
		OptionSettings any `yaml:"OptionSettings"`
	}
	text, err := smallFile(h.repo, "env.yaml")
	if err == nil && yaml.Unmarshal([]byte(text), &manifest) == nil {
		list = append(list, ebextension{name: "env.yaml", OptionSettings: manifest.OptionSettings})
	}
	return list
}

const proxySettings = "aws:elasticbeanstalk:environment:proxy"

// option is the value of an option, in either form in which option_settings are written; "" where it has none.
func (e ebextension) option(namespace, option string) (value string) {
	switch settings := e.OptionSettings.(type) {
	case map[string]any:
		if options, ok := settings[namespace].(map[string]any); ok && options[option] != nil {
			value = fmt.Sprint(options[option])
		}
	case []any:
		for _, s := range settings {
			s, ok := s.(map[string]any)
			if ok && s["namespace"] == namespace && s["option_name"] == option {
				value = fmt.Sprint(s["value"])
			}
		}
	}
	return value
}

// otherProxy says which file chooses Apache or no proxy, "" for none.
func otherProxy(list []ebextension) (found string) {
	for _, e := range list { // the last one wins
		switch value := e.option(proxySettings, "ProxyServer"); strings.ToLower(value) {
		case "apache", "none":
			found = fmt.Sprintf("%s sets ProxyServer to %s", e.name, value)
		case "nginx":
			found = ""
		}
	}
	return found
}

// clashOf names a file that .ebextensions write into nginx's configuration and with which nginx would refuse ours.
func clashOf(list []ebextension) string {
	for _, e := range list {
		for _, target := range slices.Sorted(maps.Keys(e.Files)) {
			file, _ := e.Files[target].(map[string]any)
			text, _ := file["content"].(string)
			if !strings.Contains(target, "/nginx/") {
				continue
			}
			if clash := clashIn(target, text); clash != "" {
				return e.name + ": " + clash
			}
		}
	}
	return ""
}
