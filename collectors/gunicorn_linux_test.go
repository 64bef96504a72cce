package collectors

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

const djangoApp = `
import os, time
import django
from django.conf import settings
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="test")
django.setup()
import django.db.models, django.forms
from django.http import HttpResponse
from django.urls import path
from django.core.wsgi import get_wsgi_application
def answer(request):
    time.sleep(0.05)  # so that others take the next requests
    return HttpResponse(str(os.getpid()))

urlpatterns = [path("", answer)]
application = get_wsgi_application()
`

// A real gunicorn with eight preforked Django workers, in a cgroup that accounts
// memory: the group's memory is the cgroup's own within 5 %, while the sum of
// resident memory is far off.
//
// The cgroup's own is its anonymous memory and the pages of files that are mapped:
// both are in the PSS. It accounts a page of a file to whoever read it first, and
// on a machine where others use the same Python that is not this cgroup. So the
// interpreter and its libraries are copied, by a process in the cgroup: then all of
// the PSS can be held against it, and not the anonymous part alone.
func TestGunicornGroupEqualsItsCgroup(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 20 s")
	}
	for _, preload := range []bool{false, true} {
		t.Run(fmt.Sprintf("preload=%v", preload), func(t *testing.T) {
			name := fmt.Sprintf("collectors-gunicorn-%d", os.Getpid())
			dir := makeMemoryCgroup(t, name)
			port := startGunicorn(t, dir, preload)
			g := rich(NewGroup(GroupConfig{Name: "web", Port: port}))
			defer g.Close()
			byCgroup := rich(NewGroup(GroupConfig{Name: "web", Cgroup: name}))
			defer byCgroup.Close()
			got, err := collect(t, g)
			if err != nil {
				t.Fatal(err)
			}
			own, err := collect(t, byCgroup)
			if err != nil {
				t.Fatal(err)
			}
			near(t, "group_processes", got["group_processes"].Value, 9, 0)
			pss, anon, rss := got["group_memory_pss"].Value, own["group_memory_anon"].Value, got["group_memory_rss"].Value
			pids, mapped := g.pidsNow(), accounted(t, dir, "total_mapped_file", "file_mapped")
			within(t, "cgroup's anonymous memory, against its own file", anon, accounted(t, dir, "total_rss", "anon"), 0.01)
			within(t, "cgroup's anonymous memory, against the processes' own", anon, sumOf(t, "smaps_rollup", "Pss_Anon:", pids), 0.01)
			within(t, "PSS by port, against smaps", pss, pssOf(t, pids...), 0.01)
			within(t, "PSS by port, against the cgroup", pss, anon+mapped, 0.05)
			within(t, "PSS by cgroup, against the cgroup", own["group_memory_pss"].Value, anon+mapped, 0.05)
			if rss < 1.3*pss {
				t.Errorf("RSS sum: got %.0f, want it to overstate %.0f by far", rss, pss)
			}
			t.Logf("MiB: PSS %.1f, cgroup anonymous %.1f and mapped files %.1f, RSS sum %.1f (%.2f times)",
				pss/(1<<20), anon/(1<<20), mapped/(1<<20), rss/(1<<20), rss/pss)
		})
	}
}

// accounted is a line of the cgroup's memory.stat, by its name in version 1 or 2.
func accounted(t *testing.T, dir, v1, v2 string) float64 {
	t.Helper()
	b, err := os.ReadFile(dir + "/memory.stat")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if key == v1 || key == v2 {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("%s/memory.stat: no line %s or %s", dir, v1, v2)
	return 0
}

func (g *Group) pidsNow() (pids []int) {
	for _, p := range g.Snapshot().Processes {
		pids = append(pids, p.PID)
	}
	return pids
}

// copiedPython enters the cgroup of $1 and runs Python there with the rest: a copy
// of it and of the libraries that matter, made by the cgroup's first process.
const copiedPython = `
echo $$ > "$1"/cgroup.procs
shift
mkdir lib
cp /usr/bin/python3 python
cp $(ldd python /usr/lib/python3*/lib-dynload/_ssl.*.so | awk '$3 ~ "^/" { print $3 }' | sort -u) lib
exec env LD_LIBRARY_PATH="$PWD/lib" ./python "$@"
`

// startGunicorn serves djangoApp by eight workers in the cgroup of dir.
func startGunicorn(t *testing.T, dir string, preload bool) (port uint16) {
	t.Helper()
	_, err := os.Stat("/usr/bin/gunicorn")
	need(t, "needs gunicorn", err)
	need(t, "needs Django", exec.Command("/usr/bin/python3", "-c", "import django").Run())
	app := t.TempDir()
	if err := os.WriteFile(filepath.Join(app, "app.py"), []byte(djangoApp), 0o644); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	args := []string{"-ec", copiedPython, "sh", dir, "-B", "/usr/bin/gunicorn", "--workers=8", "--bind", addr, "--log-level=error", "app:application"}
	if preload {
		args = append(args, "--preload")
	}
	cmd := exec.Command("/bin/sh", args...)
	cmd.Dir, cmd.Stderr = app, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); cmd.Wait() })
	p := prefork{cmd: cmd}
	eventually(t, "eight workers", func() bool { return len(p.children(t)) == 8 })
	eventually(t, "an answer of every worker", func() bool { return len(workersOf(addr)) == 8 })
	return uint16(ln.Addr().(*net.TCPAddr).Port)
}

// workersOf asks sixteen times at once and returns which workers answered.
func workersOf(addr string) map[string]bool {
	var all sync.WaitGroup
	var mu sync.Mutex
	pids := map[string]bool{}
	for range 16 {
		all.Go(func() {
			resp, err := http.Get("http://" + addr)
			if err != nil {
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusOK {
				return
			}
			mu.Lock()
			pids[string(body)] = true
			mu.Unlock()
		})
	}
	all.Wait()
	return pids
}
