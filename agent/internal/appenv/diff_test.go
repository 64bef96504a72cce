package appenv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// What all web processes have must not be kept at once, nor compared each with each: an application may have thousands
// of variables in each of its processes, all of names of their own.
func TestDiffOfAllProcessesHasALimit(t *testing.T) {
	in := newInstance(t)
	in.write(t, DefaultDeploymentEnv, "PATH=/p\nSHARED=1\n")
	const many = 8
	for pid := range many {
		env := []string{"PATH=/p", "SHARED=1"}
		for i := range maxEnvironVars - 100 {
			env = append(env, fmt.Sprintf("V%d_%d=%s", pid, i, strings.Repeat("x", 150)))
		}
		in.process(t, 100+pid, env...)
	}
	in.process(t, 7, "PATH=/p", "SHARED=2", "LANG=C.UTF-8")
	d, err := New(in.cfg).Diff(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	for _, v := range d.Vars {
		web, run := v.Values()
		size += len(v.Name) + len(web) + len(run)
	}
	if size > 8<<20 {
		t.Errorf("%d bytes of %d variables are kept", size, len(d.Vars))
	}
	if !slices.Contains(d.PIDs, 100) || !slices.Contains(d.PIDs, 7) || len(d.PIDs)+len(d.Unread) != many+1 {
		t.Errorf("read %v, not read %q", d.PIDs, d.Unread)
	}
	if last := strings.Join(d.Unread, "; "); !strings.Contains(last, "process 107: too many variables") {
		t.Errorf("not read: %q", last)
	}
	if i := slices.IndexFunc(d.Vars, func(v DiffVar) bool { return v.Name == "SHARED" && v.State == Changed }); i < 0 || !slices.Equal(d.Vars[i].PIDs, []int{7}) {
		t.Error("the process that fits is not compared")
	}
}

func TestDiffEndsWithItsCaller(t *testing.T) {
	in := newInstance(t)
	in.write(t, DefaultDeploymentEnv, "A=1\n")
	in.process(t, 7, "A=1")
	ctx, leave := context.WithCancel(t.Context())
	pids := in.cfg.WebPIDs
	in.cfg.WebPIDs = func(ctx context.Context) ([]int, error) {
		leave()
		return pids(ctx)
	}
	if d, err := New(in.cfg).Diff(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", d, err)
	}
}
