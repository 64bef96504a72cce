package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/goccy/go-yaml"
)

// Metadata is what the tool reads: AWS::CloudFormation::Init of the stack.
type Metadata struct {
	ConfigSets map[string][]string `json:"configSets"`
	Configs    map[string]Config   `json:"configs"`
	Warnings   []string            `json:"warnings,omitempty"` // files Beanstalk ignores whole
}

// Config is one set of keys; each maps a name to what is to be done.
type Config struct {
	Packages map[string]any                `json:"packages,omitempty"`
	Groups   map[string]Group              `json:"groups,omitempty"`
	Users    map[string]User               `json:"users,omitempty"`
	Sources  map[string]string             `json:"sources,omitempty"`
	Files    map[string]File               `json:"files,omitempty"`
	Commands map[string]Command            `json:"commands,omitempty"`
	Services map[string]map[string]Service `json:"services,omitempty"`
}

// Group is made when it is not there.
type Group struct {
	GID string `json:"gid,omitempty"`
}

// User is a system account without a home.
type User struct {
	UID     string   `json:"uid,omitempty"`
	Groups  []string `json:"groups,omitempty"`
	HomeDir string   `json:"homeDir,omitempty" yaml:"homeDir"`
}

// File is written whole, with what is there renamed to NAME.bak.
type File struct {
	Content  any    `json:"content,omitempty"` // text, or a mapping to write as JSON
	Source   string `json:"source,omitempty"`
	Encoding string `json:"encoding,omitempty"`
	Mode     any    `json:"mode,omitempty"` // a string in octal; a number fails the build
	Owner    string `json:"owner,omitempty"`
	Group    string `json:"group,omitempty"`
}

// Command is a string for /bin/sh or a list to execute.
type Command struct {
	Command      any               `json:"command"`
	Env          map[string]string `json:"env,omitempty"`
	Cwd          string            `json:"cwd,omitempty"`
	Test         string            `json:"test,omitempty"`
	IgnoreErrors any               `json:"ignoreErrors,omitempty" yaml:"ignoreErrors"`
	LeaderOnly   bool              `json:"-" yaml:"leader_only"`
}

// Service is one unit's wanted state.
type Service struct {
	Enabled       any      `json:"enabled,omitempty"`
	EnsureRunning any      `json:"ensureRunning,omitempty" yaml:"ensureRunning"`
	Files         []string `json:"files,omitempty"`
	Commands      []string `json:"commands,omitempty"`
}

// configFile is a .config file. Resources and option_settings are for the stack,
// not for the instance.
type configFile struct {
	Packages          map[string]any                `yaml:"packages"`
	Groups            map[string]Group              `yaml:"groups"`
	Users             map[string]User               `yaml:"users"`
	Sources           map[string]string             `yaml:"sources"`
	Files             map[string]File               `yaml:"files"`
	Commands          map[string]Command            `yaml:"commands"`
	Services          map[string]map[string]Service `yaml:"services"`
	ContainerCommands map[string]Command            `yaml:"container_commands"`
	OptionSettings    any                           `yaml:"option_settings"`
	Resources         any                           `yaml:"Resources"`
	Parameters        any                           `yaml:"Parameters"`
	Outputs           any                           `yaml:"Outputs"`
}

// The names Beanstalk gives its two sets.
const (
	preBuild  = "Infra-EmbeddedPreBuild"
	postBuild = "Infra-EmbeddedPostBuild"
)

// Compile turns the .config files of dir, in the order of their names, into
// metadata: the seven keys of file N become prebuild_N_app, its container commands
// postbuild_N_app. A file with an unknown key is left out whole, with a warning, as
// Beanstalk does.
func Compile(dir string, leader bool) (Metadata, error) {
	m := Metadata{ConfigSets: map[string][]string{preBuild: {}, postBuild: {}}, Configs: map[string]Config{}}
	names, err := filepath.Glob(filepath.Join(dir, "*.config"))
	if err != nil {
		return m, err
	}
	for n, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return m, err
		}
		var f configFile
		if err := yaml.UnmarshalWithOptions(text, &f, yaml.Strict()); err != nil {
			m.Warnings = append(m.Warnings, fmt.Sprintf("%s is ignored: %v", filepath.Base(name), err))
			continue
		}
		m.add(n, f, leader)
	}
	return m, nil
}

func (m *Metadata) add(n int, f configFile, leader bool) {
	maps.DeleteFunc(f.ContainerCommands, func(_ string, c Command) bool { return c.LeaderOnly && !leader })
	pre, post := fmt.Sprintf("prebuild_%d_app", n), fmt.Sprintf("postbuild_%d_app", n)
	m.Configs[pre] = Config{f.Packages, f.Groups, f.Users, f.Sources, f.Files, f.Commands, f.Services}
	m.Configs[post] = Config{Commands: f.ContainerCommands}
	m.ConfigSets[preBuild] = append(m.ConfigSets[preBuild], pre)
	m.ConfigSets[postBuild] = append(m.ConfigSets[postBuild], post)
}

// byName lists a map's keys as AWS's tool orders them: as strings, 10 before 9.
func byName[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
