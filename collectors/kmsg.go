package collectors

import (
	"bytes"
	"strings"
)

// kmsgRecord is one record of /dev/kmsg; see the kernel's Documentation/ABI/testing/dev-kmsg.
type kmsgRecord struct {
	kernel bool // and not some process that wrote into the log
	text   []byte
}

// parseKmsg reads a record such as "6,419,2106783408,-;oom-kill:…". The lines
// that may follow the first describe devices and are dropped.
func parseKmsg(b []byte) (r kmsgRecord, ok bool) {
	head, rest, ok := bytes.Cut(b, []byte{';'})
	if !ok {
		return r, false
	}
	prio, _, _ := bytes.Cut(head, []byte{','})
	p, ok := number(prio)
	text, _ := cutLine(rest)
	return kmsgRecord{kernel: p < 8, text: text}, ok
}

// oomReader puts several records of the kernel about one kill into
// Victims. The summary line comes first and has the cgroup:
//
//	oom-kill:constraint=…,oom_memcg=/a,task_memcg=/a/b,task=python3,pid=3954,uid=0
//	Memory cgroup out of memory: Killed process 3954 (python3) total-vm:1kB, anon-rss:20352kB, …
//
// and with memory.oom.group set more of the second kind follow, after
//
//	Tasks in /a are going to be killed due to memory.oom.group set
//
// Kernels before 4.20 have no summary, only "Task in /a killed as a result of
// limit of /b". A command is any fifteen bytes its process likes.
type oomReader struct {
	summary struct {
		pid           int
		cgroup, limit string
	}
	group string
}

// read takes one line and returns the victim it names, if it does.
func (o *oomReader) read(text string) (v Victim, ok bool) {
	switch {
	case strings.HasPrefix(text, "oom-kill:"):
		o.readSummary(text)
	case strings.HasPrefix(text, "Tasks in ") && strings.HasSuffix(text, " memory.oom.group set"):
		rest := strings.TrimPrefix(text, "Tasks in ")
		o.group, _, _ = strings.Cut(rest, " are going to be killed")
	case strings.HasPrefix(text, "Task in "):
		rest := strings.TrimPrefix(text, "Task in ")
		o.summary.pid = 0
		o.group, o.summary.limit, _ = strings.Cut(rest, " killed as a result of limit of ")
	default:
		return o.readKilled(text)
	}
	return v, false
}

func (o *oomReader) readSummary(text string) {
	o.group = ""
	o.summary.limit, o.summary.cgroup = "", ""
	if strings.Count(text, ",task_memcg=") == 1 && strings.Count(text, ",task=") == 1 { // a group may be named so
		o.summary.limit = between(text, ",oom_memcg=", ",task_memcg=")
		o.summary.cgroup = between(text, ",task_memcg=", ",task=")
	}
	rest := text[strings.LastIndex(text, ",pid=")+1:]
	pid, _, _ := strings.Cut(strings.TrimPrefix(rest, "pid="), ",")
	n, _ := number([]byte(pid))
	o.summary.pid = int(n)
}

func (o *oomReader) readKilled(text string) (v Victim, ok bool) {
	_, rest, ok := strings.Cut(text, "Killed process ")
	vm := strings.LastIndex(rest, "total-vm:")
	if !ok || vm < 0 {
		return v, false
	}
	pid, comm, ok := strings.Cut(rest[:vm], " (")
	end := strings.LastIndexByte(comm, ')')
	n, isNumber := number([]byte(pid))
	if !ok || end < 0 || !isNumber || n >= 1<<31 {
		return v, false
	}
	v = Victim{PID: int(n), Command: comm[:end], Anon: kiloBytes(rest[vm:], "anon-rss:")}
	switch {
	case v.PID == o.summary.pid:
		v.Cgroup, v.Limit = o.summary.cgroup, o.summary.limit
	case o.group != "":
		v.Cgroup, v.Limit = o.group, o.summary.limit
	}
	v.Cgroup, v.Limit = strings.TrimPrefix(v.Cgroup, "/"), strings.TrimPrefix(v.Limit, "/")
	return v, true
}

func between(s, before, after string) string {
	_, s, _ = strings.Cut(s, before)
	s, _, ok := strings.Cut(s, after)
	if !ok {
		return ""
	}
	return s
}

// kiloBytes returns the bytes of "key123kB".
func kiloBytes(s, key string) uint64 {
	_, s, _ = strings.Cut(s, key)
	s, _, ok := strings.Cut(s, "kB")
	n, isNumber := number([]byte(s))
	if !ok || !isNumber || n > 1<<50 {
		return 0
	}
	return n << 10
}
