package appenv

import (
	"context"
	"path/filepath"
	"time"
)

// webUnits are the units in which Beanstalk's platforms run the application, most likely first.
var webUnits = []string{"web.service", "php-fpm.service", "tomcat.service"}

// webUnit is the configured unit, else the first of webUnits that exists.
func (r *Resolver) webUnit(seen map[string]stamp) unit {
	if r.cfg.WebUnit != "" {
		return r.readUnit(r.cfg.WebUnit, seen)
	}
	for _, name := range webUnits {
		if u := r.readUnit(name, seen); u.found {
			return u
		}
	}
	return unit{umask: 0o022}
}

// awaitUnit is webUnit, but waits for one that existed before: a deployment removes the unit's file, replaces the
// application's tree, and writes the file again.
func (r *Resolver) awaitUnit(ctx context.Context, seen map[string]stamp) (unit, error) {
	for deadline := time.Now().Add(readLimit); ; {
		u := r.webUnit(seen)
		gone := r.hadUnit && !u.found
		if gone && time.Now().Before(deadline) {
			select {
			case <-ctx.Done():
				return u, context.Cause(ctx)
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		if gone {
			u.notes = append(u.notes, "the web process's unit is gone: what it set is not followed")
		}
		r.hadUnit = u.found
		return u, nil
	}
}

// readUnit reads a unit's file and its drop-ins as systemd would at its next daemon-reload. Without a file the unit is
// empty.
func (r *Resolver) readUnit(name string, seen map[string]stamp) unit {
	u := unit{name: name, umask: 0o022}
	main := ""
	for _, dir := range unitDirs {
		if path := filepath.Join(r.path(dir), name); main == "" && note(seen, path) {
			main = path
		}
	}
	if main == "" {
		return u
	}
	u.found = true
	var dirs []string
	for _, of := range []string{name, "service"} {
		for _, dir := range unitDirs {
			dirs = append(dirs, filepath.Join(r.path(dir), of+".d"))
		}
	}
	for key, value := range u.settings("[Service]", append([]string{main}, dropIns(dirs, seen)...), seen) {
		u.set(key, value)
	}
	return u
}

// managerEnv is systemd's DefaultEnvironment=, which every service gets.
func (r *Resolver) managerEnv(seen map[string]stamp) unit {
	u := unit{name: "systemd"}
	var paths, dirs []string
	if path := r.path("/etc/systemd/system.conf"); note(seen, path) {
		paths = append(paths, path)
	}
	for _, dir := range unitDirs {
		dirs = append(dirs, r.path(dir+".conf.d"))
	}
	for key, value := range u.settings("[Manager]", append(paths, dropIns(dirs, seen)...), seen) {
		if key == "DefaultEnvironment" {
			u.addEnvironment(value)
		}
	}
	return u
}
