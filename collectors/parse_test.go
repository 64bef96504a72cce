package collectors

import (
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// fails checks that err, from a parser, says all of want.
func fails(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("got no error, want one with %q", want)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %q, want it to say %q", err, w)
		}
	}
}

func TestParsePressure(t *testing.T) {
	p, err := parsePressure([]byte("some avg10=1.25 avg60=0.00 avg300=0.00 total=123\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=45\n"))
	want := pressure{some: stall{1.25, 123, true}, full: stall{0.5, 45, true}}
	if err != nil || p != want {
		t.Errorf("got %+v, %v, want %+v", p, err, want)
	}
	// The cpu file had no full line before Linux 5.13.
	p, err = parsePressure([]byte("some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"))
	if err != nil || p.full.has || !p.some.has {
		t.Errorf("without full: got %+v, %v", p, err)
	}
	_, err = parsePressure([]byte("some avg10=0.00\n"))
	fails(t, err, "line 1", "total=")
}

func TestParseVmstat(t *testing.T) {
	v, err := parseVmstat([]byte("nr_free_pages 12\npswpin 3\npswpout 4\noom_kill 5\n"))
	if want := (vmstat{3, 4, 5, true}); err != nil || v != want {
		t.Errorf("got %+v, %v, want %+v", v, err, want)
	}
	_, err = parseVmstat([]byte("pswpin -1\n"))
	fails(t, err, "vmstat", "line 1", "a number")
}

func TestParseStatm(t *testing.T) {
	rss, shared, err := parseStatm([]byte("1000 200 50 10 0 90 0\n"))
	if err != nil || rss/shared != 4 {
		t.Errorf("got %v, %v, %v", rss, shared, err)
	}
	_, _, err = parseStatm([]byte("1000 20 50\n"))
	fails(t, err, "statm")
}

func TestParseSmapsRollup(t *testing.T) {
	s, err := parseSmapsRollup([]byte("55-7f ---p 0 0:0 0 [rollup]\nRss: 100 kB\nPss: 40 kB\nPss_Anon: 30 kB\nPrivate_Clean: 5 kB\nPrivate_Dirty: 20 kB\n"))
	if want := (smaps{40 << 10, 30 << 10, 25 << 10, true}); err != nil || s != want {
		t.Errorf("got %+v, %v, want %+v", s, err, want)
	}
	_, err = parseSmapsRollup([]byte("Rss: 1 kB\n"))
	fails(t, err, "no Pss")
	_, err = parseSmapsRollup([]byte("Pss: one kB\n"))
	fails(t, err, "line 1", "a number of kB")
}

func TestParsePIDs(t *testing.T) {
	for _, tt := range []struct {
		text string
		want []int
	}{
		{"12\n34\n", []int{12, 34}}, // cgroup.procs
		{"12 34 ", []int{12, 34}},   // children
		{"0\n7\n", []int{7}},        // one of another namespace
		{"", nil},
	} {
		if got, err := parsePIDs([]byte(tt.text), nil); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %v, %v, want %v", tt.text, got, err, tt.want)
		}
	}
	_, err := parsePIDs([]byte("1\ntwo\n"), nil)
	fails(t, err, "line 2", `"two"`)
}

func TestParseProcCgroup(t *testing.T) {
	for text, want := range map[string]string{
		"0::/system.slice/web.service\n":                               "system.slice/web.service",
		"9:memory:/\n1:name=systemd:/system.slice/web.service\n0::/\n": "system.slice/web.service",
		"1:name=systemd:/\n0::/system.slice/odd:name.service\n":        "system.slice/odd:name.service",
		"0::/\n": "", "": "", "nonsense": "",
	} {
		if got := parseProcCgroup([]byte(text)); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestParseProcNet(t *testing.T) {
	s, err := parseTCPLine([]byte("   1: 0100007F:1F40 00000000:0000 0A 00000000:00000007 00:00000000 00000000  1000        0 4242 1 0000000000000000 100 0 0 10 0"))
	if want := (netSocket{port: 8000, state: stateListen, queue: 7, uid: 1000, inode: 4242}); err != nil || !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v, %v, want %+v", s, err, want)
	}
	u, err := parseUnixLine([]byte("0000000000000000: 00000002 00000000 00010000 0001 01 4242 /run/app.sock"))
	if err != nil || !u.listen || u.inode != 4242 || string(u.path) != "/run/app.sock" {
		t.Errorf("got %+v, %v", u, err)
	}
	_, err = parseTCPLine([]byte("  sl  local_address rem_address"))
	fails(t, err, "want sl")
	_, err = parseUnixLine([]byte("Num RefCount"))
	fails(t, err, "want num")
}

// netlink builds one message of a reply.
func netlink(kind uint16, body ...byte) []byte {
	b := make([]byte, nlmsgHeader)
	binary.NativeEndian.PutUint32(b, uint32(nlmsgHeader+len(body)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	b = append(b, body...)
	return append(b, make([]byte, align4(len(b))-len(b))...)
}

func TestParseDiag(t *testing.T) {
	body := make([]byte, inetAnswer)
	body[0], body[1] = familyInet, stateListen
	binary.BigEndian.PutUint16(body[4:], 8000)
	binary.NativeEndian.PutUint32(body[56:], 7)
	binary.NativeEndian.PutUint32(body[60:], 128)
	reply := append(netlink(sockDiagType, body...), netlink(nlmsgDone, 0, 0, 0, 0)...)
	var got []diagSocket
	var s diagSocket
	done, err := parseDiag(reply, &s, func(s *diagSocket) { got = append(got, *s) })
	if !done || err != nil || len(got) != 1 || got[0].port != 8000 || got[0].queue != 7 || got[0].limit != 128 {
		t.Errorf("got %+v, %v, %v", got, done, err)
	}
	refused := netlink(nlmsgError, 0xfe, 0xff, 0xff, 0xff) // -2
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		if done, err := parseDiag(refused, &s, nil); !done || !errors.Is(err, syscall.ENOENT) {
			t.Errorf("refusal: got %v, %v, want ENOENT", done, err)
		}
	}
	for cut := 1; cut < len(reply); cut++ {
		if cut == len(netlink(sockDiagType, body...)) {
			continue // between two messages: more is to come
		}
		if _, err := parseDiag(reply[:cut], &s, func(*diagSocket) {}); err == nil {
			t.Errorf("cut after %d bytes: got no error", cut)
		}
	}
}

func TestParseKmsg(t *testing.T) {
	r, ok := parseKmsg([]byte("6,419,2106783408,-,caller=T1;oom-kill:a\n SUBSYSTEM=x\n"))
	if !ok || !r.kernel || string(r.text) != "oom-kill:a" {
		t.Errorf("got %+v, %v", r, ok)
	}
	if r, ok := parseKmsg([]byte("30,1,2,-;systemd says\n")); !ok || r.kernel {
		t.Errorf("a process's record: got %+v, %v, want it told apart", r, ok)
	}
	if _, ok := parseKmsg([]byte("6,419")); ok {
		t.Error("a record without text was taken")
	}
}

func TestOOMLines(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lines []string
		want  Victim
	}{
		{"cgroup limit, 6.1", []string{
			"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=web.service,mems_allowed=0,oom_memcg=/system.slice/web.service,task_memcg=/system.slice/web.service,task=python3,pid=3954,uid=900",
			"Memory cgroup out of memory: Killed process 3954 (python3) total-vm:116488kB, anon-rss:20352kB, file-rss:5432kB, shmem-rss:0kB, UID:900 pgtables:100kB oom_score_adj:0",
		}, Victim{PID: 3954, Command: "python3", Anon: 20352 << 10, Cgroup: "system.slice/web.service", Limit: "system.slice/web.service"}},
		{"whole group", []string{
			"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,task_memcg=/a/run,task=sh,pid=10,uid=0",
			"Tasks in /a/run are going to be killed due to memory.oom.group set",
			"Memory cgroup out of memory: Killed process 11 (ruby) total-vm:1kB, anon-rss:3kB, file-rss:0kB",
		}, Victim{PID: 11, Command: "ruby", Anon: 3 << 10, Cgroup: "a/run", Limit: "a"}},
		{"4.14", []string{
			"Task in /ecs/1 killed as a result of limit of /ecs",
			"Memory cgroup out of memory: Kill process 12 (node) score 900 or sacrifice child",
			"Killed process 12 (node) total-vm:5kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB",
		}, Victim{PID: 12, Command: "node", Anon: 4 << 10, Cgroup: "ecs/1", Limit: "ecs"}},
		{"a stale summary is not this victim's", []string{
			"oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/a,task=sh,pid=10,uid=0",
			"Out of memory: Killed process 99 (x) total-vm:1kB, anon-rss:1kB",
		}, Victim{PID: 99, Command: "x", Anon: 1 << 10}},
		{"a group that is named like the kernel's own words", []string{
			"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/u/x,task_memcg=/system.slice/agent-runs.service/nightly-1/y," +
				"task_memcg=/u/x,task_memcg=/system.slice/agent-runs.service/nightly-1/y,task=python3,pid=5163,uid=0",
			"Memory cgroup out of memory: Killed process 5163 (python3) total-vm:1kB, anon-rss:1kB",
		}, Victim{PID: 5163, Command: "python3", Anon: 1 << 10}},
		{"a cpuset that is", []string{
			"oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=x,task_memcg=/system.slice/agent-runs.service/nightly-1,task=a,mems_allowed=0,global_oom," +
				"task_memcg=/u/x,task=python3,pid=5163,uid=0",
			"Out of memory: Killed process 5163 (python3) total-vm:1kB, anon-rss:1kB",
		}, Victim{PID: 5163, Command: "python3", Anon: 1 << 10}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var o oomReader
			var got []Victim
			for _, line := range tt.lines {
				if v, ok := o.read(line); ok {
					got = append(got, v)
				}
			}
			if len(got) != 1 || got[0] != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestNumbers(t *testing.T) {
	for text, want := range map[string]uint64{"0": 0, "18446744073709551615": math.MaxUint64, "007": 7} {
		if n, ok := number([]byte(text)); !ok || n != want {
			t.Errorf("%q: got %d, %v", text, n, ok)
		}
	}
	for _, text := range []string{"", "-1", "1 ", "18446744073709551616", "99999999999999999999", "1.5", "٣"} {
		if n, ok := number([]byte(text)); ok {
			t.Errorf("%q: got %d, want it refused", text, n)
		}
	}
	if f, ok := fraction([]byte("0.07")); !ok || math.Abs(f-0.07) > 1e-12 {
		t.Errorf("0.07: got %v, %v", f, ok)
	}
}
