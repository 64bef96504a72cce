package main

import (
	"os"
	"path/filepath"
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
	env := appenv.New(appenv.Config{AppDir: dir})
	for secret, want := range map[string]string{
		"a$planted${KEY}$$b$": "a$plantedk$x$$b$", "${KEY}${KEY}": "k$xk$x", "$KEY": "$KEY", "a${KEY": "a${KEY",
	} {
		if got, err := expand(env, secret); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", secret, got, err, want)
		}
	}
	if _, err := expand(env, "a$planted${NONE}"); err == nil || err.Error() != "the application has no variable NONE" {
		t.Error(err)
	}
}
