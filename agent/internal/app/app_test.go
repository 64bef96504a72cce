package app

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"beanstalk-agent/agent/internal/appenv"
)

// Of a target's address and token only ${NAME} is replaced. A "$" of the secret's own made it an error, which told
// what follows as a variable's name, in status and log.
func TestOnlyReferencesAreReplacedInASecret(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".env"), []byte("KEY='k$x'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &App{env: appenv.New(appenv.Config{AppDir: dir})}
	for secret, want := range map[string]string{
		"a$planted${KEY}$$b$": "a$plantedk$x$$b$", "${KEY}${KEY}": "k$xk$x", "$KEY": "$KEY", "a${KEY": "a${KEY",
	} {
		if got, err := a.Expand(secret); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", secret, got, err, want)
		}
	}
	if _, err := a.Expand("a$planted${NONE}"); err == nil || err.Error() != "the application has no variable NONE" {
		t.Error(err)
	}
}

// The program that a job names is looked for as the run will look for it, in one reading of the environment.
func TestCommandsAreFoundAsARunFindsThem(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"bin/job": 0o755, "bin/text": 0o644, "manage.py": 0o755, ".env": 0o644} {
		path := filepath.Join(dir, name)
		text := map[string]string{".env": "PATH=" + dir + "/bin:/usr/bin:/bin\n"}[name]
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode)); err != nil {
			t.Fatal(err)
		}
	}
	a := &App{env: appenv.New(appenv.Config{AppDir: dir})}
	find := a.Commands(t.Context())
	for name, found := range map[string]bool{
		"job": true, "sh": true, "text": false, "nothing": false, "./manage.py": true, "bin/job": true, "bin/text": false,
		dir + "/bin/job": true, "/nonexistent": false, "bin": false,
	} {
		if err := find(name); (err == nil) != found {
			t.Errorf("%s: %v, want found: %v", name, err, found)
		}
	}
	if err := os.Remove(filepath.Join(dir, ".env")); err != nil {
		t.Fatal(err)
	}
	if err := find("job"); err != nil { // as it was resolved
		t.Error(err)
	}
}

// Ten thousand commands were looked up in forty thousand directories.
func TestNoCommandIsLookedUpInALongPATH(t *testing.T) {
	dir := t.TempDir()
	for path, found := range map[string]bool{strings.Repeat("/nowhere:", 10_000): false, numbered(maxDirs): false, numbered(maxDirs + 1): true} {
		if err := os.WriteFile(filepath.Join(dir, ".env"), []byte("PATH="+path+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		find := (&App{env: appenv.New(appenv.Config{AppDir: dir})}).Commands(t.Context())
		if err := find("nothing"); (err == nil) != found {
			t.Errorf("PATH of %d bytes: %v", len(path), err)
		}
	}
}

func numbered(n int) string {
	var dirs []string
	for i := range n {
		dirs = append(dirs, "/nowhere"+strconv.Itoa(i))
	}
	return strings.Join(dirs, ":")
}

func TestHeadersAreInOrder(t *testing.T) {
	a := &App{cfg: Config{Headers: map[string]string{"X-B": "2", "X-A": "1", "X-C": "3"}}}
	for range 20 {
		if got := a.Headers(); !slices.Equal(got, []string{"X-A: 1", "X-B: 2", "X-C: 3"}) {
			t.Fatal(got)
		}
	}
}
