package collectors

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// seed adds the captured files of this name, and some text of our own.
func seed(f *testing.F, name string, more ...string) {
	f.Helper()
	files, err := filepath.Glob("testdata/*/proc/" + name)
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, text := range more {
		f.Add([]byte(text))
	}
}

// The kernel's files are not hostile, but commands and cgroup names in them are
// chosen by others, and no kernel yet to come may bring the agent down. Each
// parser must survive any bytes, and what it returns must be a figure.

// gopsutil passes over what it does not understand.
func FuzzMemory(f *testing.F) {
	seed(f, "meminfo", "MemTotal: 1 kB\nMemAvailable: 9 kB\n", "MemTotal: 1 kB\nSwapTotal: 1 kB\nSwapFree: 2 kB\nFree: 9 kB\n")
	dir := f.TempDir()
	hosts := []*Host{NewHost(HostConfig{Proc: dir}), NewHost(HostConfig{Proc: dir, CloudWatchAgentFormula: true})}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, "meminfo"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, h := range hosts {
			h.out = h.out[:0]
			h.memory(gopsutilContext(context.Background(), dir))
			for _, s := range h.out {
				if s.Unit == Percent && !(s.Value >= 0 && s.Value <= 100) || s.Value < 0 || math.IsInf(s.Value, 0) {
					t.Errorf("%s is %v", s.Name, s.Value)
				}
			}
		}
	})
}

func FuzzPressure(f *testing.F) {
	seed(f, "pressure/*", "some avg10=0.0 total=1\n", "full avg10=.5 total=\n")
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parsePressure(b); err == nil && (p.some.avg10 < 0 || math.IsNaN(p.some.avg10)) {
			t.Errorf("avg10 is %v", p.some.avg10)
		}
	})
}

func FuzzVmstat(f *testing.F) {
	seed(f, "vmstat", "oom_kill 1\n")
	f.Fuzz(func(t *testing.T, b []byte) { parseVmstat(b) })
}

func FuzzStatm(f *testing.F) {
	seed(f, "self/statm", "1 2 3")
	f.Fuzz(func(t *testing.T, b []byte) {
		if rss, shared, err := parseStatm(b); err == nil && shared > rss {
			t.Errorf("shared %v, resident %v", shared, rss)
		}
	})
}

func FuzzSmapsRollup(f *testing.F) {
	seed(f, "[0-9]*/smaps_rollup", "Pss: 1 kB\n")
	f.Fuzz(func(t *testing.T, b []byte) { parseSmapsRollup(b) })
}

func FuzzCgroupFiles(f *testing.F) {
	seed(f, "[0-9]*/cgroup", "0::/a\n", "12 34 ", "anon 4096\nusage_usec 1\n")
	f.Fuzz(func(t *testing.T, b []byte) {
		parseProcCgroup(b)
		parseKeyed(b, "anon")
		pids, _ := parsePIDs(b, nil)
		for _, pid := range pids {
			if pid <= 0 {
				t.Errorf("process %d", pid)
			}
		}
	})
}

func FuzzProcNet(f *testing.F) {
	seed(f, "net/*", "0: 0100007F:1F40 00000000:0000 0A 00000000:00000007 00:00000000 00000000 0 0 4242 1")
	f.Fuzz(func(t *testing.T, b []byte) {
		parseTCPLine(b)
		parseUnixLine(b)
	})
}

func FuzzKmsg(f *testing.F) {
	f.Add([]byte("6,419,21,-;oom-kill:constraint=C,oom_memcg=/a,task_memcg=/a,task=x,pid=1,uid=0\n"))
	f.Add([]byte("3,420,21,-;Memory cgroup out of memory: Killed process 1 (a (b)) total-vm:1kB, anon-rss:2kB\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, ok := parseKmsg(b)
		if !ok {
			return
		}
		var o oomReader
		o.read("oom-kill:,oom_memcg=/a,task_memcg=/b,task=x,pid=1,uid=0")
		if v, ok := o.read(string(r.text)); ok && v.PID < 0 {
			t.Errorf("got %+v", v)
		}
	})
}

func FuzzSockDiag(f *testing.F) {
	body := make([]byte, inetAnswer)
	body[0] = familyInet
	f.Add(append(netlink(sockDiagType, body...), netlink(nlmsgDone, 0, 0, 0, 0)...))
	path := append([]byte{familyUnix, 1, stateListen, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 7, 0, 0, 0, '/', 'a', 0, 0)
	f.Add(netlink(sockDiagType, path...))
	f.Add(netlink(nlmsgError, 0xfe, 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s diagSocket
		parseDiag(b, &s, func(*diagSocket) {})
	})
}
