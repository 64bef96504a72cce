package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Init carries out sets of configs.
type Init struct {
	Log    *log.Logger   // names and outcomes
	Output io.Writer     // what the commands print
	Pause  time.Duration // between two tries of a download

	changed map[string]bool // files written and commands run in this config
}

// Run carries out each config of a set completely before the next. The first
// failure ends it; nothing that was done is undone.
func (i *Init) Run(m Metadata, set string) error {
	names, ok := m.ConfigSets[set]
	if !ok {
		return fmt.Errorf("no config set %q", set)
	}
	for _, name := range names {
		if err := i.config(m.Configs[name]); err != nil {
			i.Log.Printf("%s: build failed: %v", name, err)
			return fmt.Errorf("%s: %w", name, err)
		}
		i.Log.Printf("%s: complete", name)
	}
	return nil
}

// config goes through the keys in the one order there is.
func (i *Init) config(c Config) error {
	i.changed = map[string]bool{}
	if len(c.Packages) > 0 || len(c.Sources) > 0 {
		return errors.New("packages and sources are not carried out in the box")
	}
	for _, step := range []func(Config) error{i.groups, i.users, i.files, i.commands, i.services} {
		if err := step(c); err != nil {
			return err
		}
	}
	return nil
}

func (i *Init) groups(c Config) error {
	for _, name := range byName(c.Groups) {
		if exec.Command("getent", "group", name).Run() == nil {
			continue
		}
		args := []string{name}
		if gid := c.Groups[name].GID; gid != "" {
			args = []string{"-g", gid, name}
		}
		if err := i.tool("groupadd", args...); err != nil {
			return err
		}
	}
	return nil
}

func (i *Init) users(c Config) error {
	for _, name := range byName(c.Users) {
		u, tool := c.Users[name], "useradd"
		args := []string{"-r", "-M", "-s", "/sbin/nologin"}
		if exec.Command("getent", "passwd", name).Run() == nil {
			tool, args = "usermod", nil
		}
		if u.UID != "" {
			args = append(args, "-u", u.UID)
		}
		if len(u.Groups) > 0 { // set, not added to
			args = append(args, "-G", strings.Join(u.Groups, ","))
		}
		if u.HomeDir != "" {
			args = append(args, "-d", u.HomeDir)
		}
		if len(args) == 0 {
			continue
		}
		if err := i.tool(tool, append(args, name)...); err != nil {
			return err
		}
	}
	return nil
}

func (i *Init) commands(c Config) error {
	for _, name := range byName(c.Commands) {
		if err := i.command(name, c.Commands[name]); err != nil {
			return err
		}
	}
	return nil
}

// command waits for the end of the output, not only of the command: a child in the
// background that holds it open keeps this waiting, without a limit.
func (i *Init) command(name string, c Command) error {
	if c.Test != "" && i.shell(c, c.Test).Run() != nil {
		i.Log.Printf("command %s: test failed, skipped", name)
		return nil
	}
	var cmd *exec.Cmd
	switch v := c.Command.(type) {
	case string:
		cmd = i.shell(c, v)
	case []any:
		args := make([]string, len(v))
		for n, a := range v {
			args[n] = fmt.Sprint(a)
		}
		if len(args) == 0 {
			return fmt.Errorf("command %s: it is empty", name)
		}
		cmd = exec.Command(args[0], args[1:]...)
		i.place(cmd, c)
	default:
		return fmt.Errorf("command %s: it is neither a string nor a list", name)
	}
	if _, err := os.Stat(cmd.Dir); err != nil { // ignoreErrors does not cover it
		return fmt.Errorf("command %s: cwd: %w", name, err)
	}
	i.changed[name] = true
	output, err := cmd.CombinedOutput()
	fmt.Fprintf(i.Output, "Command %s\n%s", name, output)
	switch {
	case err == nil:
		i.Log.Printf("command %s: succeeded", name)
	case truthy(c.IgnoreErrors):
		i.Log.Printf("command %s: %v, ignored", name, err)
	default:
		return fmt.Errorf("command %s: %w", name, err)
	}
	return nil
}

func (i *Init) shell(c Command, text string) *exec.Cmd {
	cmd := exec.Command("/bin/sh", "-c", text)
	i.place(cmd, c)
	return cmd
}

// place sets directory and environment; an "env" replaces the whole of it.
func (i *Init) place(cmd *exec.Cmd, c Command) {
	cmd.Dir = c.Cwd
	if cmd.Dir == "" {
		cmd.Dir, _ = os.Getwd()
	}
	if len(c.Env) > 0 {
		cmd.Env = []string{}
		for _, key := range byName(c.Env) {
			cmd.Env = append(cmd.Env, key+"="+c.Env[key])
		}
	}
}

// services is the systemd manager of 2.x: enable; reload and restart when something
// the service names has changed; else only see that it runs.
func (i *Init) services(c Config) error {
	for _, manager := range byName(c.Services) {
		if manager != "systemd" {
			return fmt.Errorf("services: %s is not carried out in the box", manager)
		}
		for name, s := range c.Services[manager] {
			if err := i.service(name, s); err != nil {
				return fmt.Errorf("service %s: %w", name, err)
			}
		}
	}
	return nil
}

func (i *Init) service(name string, s Service) error {
	switch {
	case s.Enabled == nil:
	case truthy(s.Enabled):
		if err := i.tool("systemctl", "enable", name); err != nil {
			return err
		}
	default:
		if err := i.tool("systemctl", "disable", name); err != nil {
			return err
		}
	}
	for _, watched := range append(s.Files, s.Commands...) {
		if i.changed[watched] {
			return errors.Join(i.tool("systemctl", "daemon-reload"), i.tool("systemctl", "reload-or-restart", name))
		}
	}
	if s.EnsureRunning == nil {
		return nil
	}
	running := exec.Command("systemctl", "is-active", "--quiet", name).Run() == nil
	switch wanted := truthy(s.EnsureRunning); {
	case wanted && !running:
		return i.tool("systemctl", "start", name)
	case !wanted && running:
		return i.tool("systemctl", "stop", name)
	}
	return nil
}

func (i *Init) tool(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	i.Output.Write(out)
	if err != nil {
		return fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return nil
}

// truthy is how AWS's tool reads a flag: a boolean, or a word for one.
func truthy(v any) bool {
	switch strings.ToLower(fmt.Sprint(v)) {
	case "true", "yes", "1":
		return true
	}
	return false
}
