package daemon

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// A user who has just been made, and a configuration in a directory that was not there, are taken up when they appear.
func TestChangesAreSeenWhereverTheyAppear(t *testing.T) {
	dir := t.TempDir()
	later := filepath.Join(dir, "agent")
	looks := make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- changes(ctx, []string{later, dir}, func() {
			select {
			case looks <- struct{}{}:
			case <-ctx.Done():
			}
		})
	}()
	<-looks
	for _, change := range []func() error{
		func() error { return os.WriteFile(filepath.Join(dir, "passwd+"), nil, 0o600) },
		func() error { return os.Rename(filepath.Join(dir, "passwd+"), filepath.Join(dir, "passwd")) },
		func() error { return os.Mkdir(later, 0o700) },
		func() error { return os.WriteFile(filepath.Join(later, "agent.yaml"), nil, 0o600) },
		func() error { return os.Remove(filepath.Join(later, "agent.yaml")) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		<-looks
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
