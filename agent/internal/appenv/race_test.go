package appenv

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// version is an environment of generation n, in which every variable says so; sizes differ from one to the next.
func version(n int) string {
	var b strings.Builder
	for i := range 40 {
		fmt.Fprintf(&b, "V%d=%d-%s\n", i, n, strings.Repeat("x", n%7))
	}
	return b.String()
}

// mixture says what shows that vars are of more than one generation, or not all there.
func mixture(vars []Var) string {
	if len(vars) != 40 {
		return fmt.Sprintf("%d variables of 40", len(vars))
	}
	for _, v := range vars {
		if v.Value() != vars[0].Value() {
			return fmt.Sprintf("%q and %q", v.Value(), vars[0].Value())
		}
	}
	return ""
}

// Replaced by rename as fast as the disk takes it while it is read: never a mixture, and what was
// there before a reading began is never older than what the reading gives. Without the resting time: a rename
// needs none.
func TestAFileReplacedMidReadIsNeverAMixture(t *testing.T) {
	in := newInstance(t)
	in.write(t, DefaultDeploymentEnv, version(0))
	path := filepath.Join(in.root, DefaultDeploymentEnv)
	times := 3000
	if testing.Short() {
		times = 500
	}
	var written atomic.Int64
	done := make(chan error, 1)
	go func() {
		var err error
		for n := 1; n <= times && err == nil; n++ {
			tmp := path + ".new"
			if err = os.WriteFile(tmp, []byte(version(n)), 0o600); err == nil {
				err = os.Rename(tmp, path)
			}
			written.Store(int64(n))
		}
		done <- err
	}()
	r := New(in.cfg)
	r.minAge = 0
	seen := map[string]bool{}
	for reading := true; reading; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			reading = false // one last time below: the newest
		default:
		}
		before := written.Load()
		env, err := r.Resolve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if m := mixture(env.Vars()); m != "" {
			t.Fatalf("a mixture: %s", m)
		}
		got := env.Vars()[0].Value()
		seen[got] = true
		var n int64
		if fmt.Sscanf(got, "%d-", &n); n < before {
			t.Fatalf("generation %d was given although %d had been there before the reading began", n, before)
		}
	}
	if len(seen) < 20 {
		t.Errorf("only %d generations were seen: nothing was raced", len(seen))
	}
}

// Rewritten in place, truncated first and in pieces: a reader sees the old or the new, never the pieces. What no reader
// could see is a writer that rests in mid-write for as long as a finished one: should this machine be so busy that
// the writer here does, that rewriting proves nothing.
func TestAFileRewrittenInPlaceIsNeverAMixture(t *testing.T) {
	in := newInstance(t)
	// In memory where there is such a place: truncating a file on a busy ext4 leaves it empty for 100 ms and more.
	if dir, err := os.MkdirTemp("/dev/shm", "env-"); err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		in.root, in.cfg.Root = dir, dir
	}
	in.write(t, DefaultDeploymentEnv, version(0))
	path := filepath.Join(in.root, DefaultDeploymentEnv)
	var pause atomic.Int64 // the longest in mid-write
	done := make(chan error, 1)
	go func() {
		var err error
		for n := 1; n <= 30 && err == nil; n++ {
			var longest time.Duration
			longest, err = rewrite(path, version(n))
			pause.Store(max(pause.Load(), int64(longest)))
			<-time.After(time.Duration(n%4) * minAge / 2) // a writer pauses, or no reading could be stable
		}
		done <- err
	}()
	r := New(in.cfg)
	readings, mixtures := 0, ""
	for writing := true; writing; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			writing = false
		default:
		}
		env, err := r.Resolve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		readings++
		mixtures += mixture(env.Vars())
	}
	switch longest := time.Duration(pause.Load()); {
	case readings < 10:
		t.Errorf("only %d readings", readings)
	case mixtures != "" && longest < minAge*3/4:
		t.Errorf("mixtures although the writer never paused for more than %v: %.200s", longest, mixtures)
	}
}

// rewrite writes text over the file in pieces, and returns the longest pause between two of them.
func rewrite(path, text string) (longest time.Duration, err error) {
	last := time.Now()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for len(text) > 0 {
		<-time.After(minAge / 50)
		n := min(200, len(text))
		if _, err := f.WriteString(text[:n]); err != nil {
			return 0, err
		}
		longest = max(longest, time.Since(last))
		last = time.Now()
		text = text[n:]
	}
	return longest, nil
}

// Two files of one deployment: the pair is of one generation too.
func TestTwoFilesReplacedTogetherAreReadTogether(t *testing.T) {
	in := newInstance(t)
	in.write(t, DefaultDeploymentEnv, "A=0\n")
	in.write(t, DefaultSecrets, "B=0\n")
	r := New(in.cfg)
	r.minAge = 0
	for i := 1; i < 200; i++ {
		text := fmt.Sprint(i)
		in.write(t, DefaultDeploymentEnv, "A="+text+"\n")
		in.write(t, DefaultSecrets, "B="+text+"\n")
		env, err := r.Resolve(t.Context())
		if err != nil || joined(env.Vars()) != "A="+text+"|B="+text {
			t.Fatalf("%d: %v %v", i, env, err)
		}
	}
}
