package collectors

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// fdProc is a /proc whose processes have as many descriptors each, all of them sockets, and the last is one of ours.
type fdProc struct {
	fs.FS       // no other files
	each        int
	last        string
	reads, dirs int
}

func (p *fdProc) Open(name string) (fs.File, error) {
	if !strings.HasSuffix(name, "/fd") {
		return nil, fs.ErrNotExist
	}
	p.dirs++
	return &fdDir{left: p.each}, nil
}

func (p *fdProc) ReadLink(name string) (string, error) {
	p.reads++
	if strings.HasSuffix(name, fmt.Sprint("/", p.each)) {
		return p.last, nil
	}
	return "socket:[4294967295]", nil
}

func (p *fdProc) Lstat(string) (fs.FileInfo, error) { return nil, fs.ErrInvalid }

type fdDir struct{ left, next int }

func (d *fdDir) Stat() (fs.FileInfo, error) { return nil, fs.ErrInvalid }
func (d *fdDir) Read([]byte) (int, error)   { return 0, fs.ErrInvalid }
func (d *fdDir) Close() error               { return nil }

func (d *fdDir) ReadDir(n int) (list []fs.DirEntry, err error) {
	for ; n > 0 && d.left > 0; n-- {
		d.left--
		d.next++
		list = append(list, fdEntry(fmt.Sprint(d.next)))
	}
	if len(list) == 0 {
		err = io.EOF
	}
	return list, err
}

type fdEntry string

func (e fdEntry) Name() string             { return string(e) }
func (fdEntry) IsDir() bool                { return false }
func (fdEntry) Type() fs.FileMode          { return fs.ModeSymlink }
func (fdEntry) Info() (fs.FileInfo, error) { return nil, fs.ErrInvalid }

// The application chooses how many processes and descriptors it has, and when one of them is another: a look reads so
// many in all, says so, and the next is the later the more it was.
func TestManyDescriptorsOfManyProcessesCostOneLook(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := uint16(ln.Addr().(*net.TCPAddr).Port)
	file, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	ours, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
	if err != nil {
		t.Skip(err)
	}
	synctest.Test(t, func(t *testing.T) {
		proc := &fdProc{each: maxOpen, last: ours}
		ports := Ports{proc: proc}
		defer ports.Close()
		pids := make([]int, 1000)
		for i := range pids {
			pids[i] = i + 2
		}
		for look := range 3000 { // in 30 s: a process is another each time
			pids[0] = 10_000 + look
			got, err := ports.Of(t.Context(), pids)
			if !errors.Is(err, ErrCut) || !slices.Equal(got, []uint16{port}) {
				t.Fatalf("got %d, %v, want port %d and that more is there", got, err, port)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if looks := proc.dirs / 3; proc.reads > maxLinks*looks || looks > 3 {
			t.Errorf("%d descriptors in %d looks, want %d in each, one each 10 s", proc.reads, looks, maxLinks)
		}
		proc.each = 100 // of few nothing is left out
		time.Sleep(time.Minute)
		if got, err := ports.Of(t.Context(), pids[1:3]); err != nil || !slices.Equal(got, []uint16{port}) {
			t.Errorf("a usual server: got %d, %v", got, err)
		}
	})
}

// The ports of a process are those it listens on, of either family, until it does not; a connection is none.
func TestPortsOfAProcess(t *testing.T) {
	var ports Ports
	defer ports.Close()
	of := func() []uint16 {
		t.Helper()
		ports.pace = pace{} // a moment later
		got, err := ports.Of(t.Context(), []int{os.Getpid()})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	before := of()
	listen := func(address string) (net.Listener, uint16) {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			t.Skip(err) // no IPv6
		}
		return ln, uint16(ln.Addr().(*net.TCPAddr).Port)
	}
	a, portA := listen("127.0.0.1:0")
	defer a.Close()
	b, portB := listen("[::1]:0")
	conn, err := net.Dial("tcp", a.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	want := slices.Sorted(slices.Values(append(before, portA, portB)))
	for range 2 {
		if got := of(); !slices.Equal(got, want) {
			t.Errorf("got %d, want %d", got, want)
		}
	}
	b.Close()
	want = slices.DeleteFunc(want, func(p uint16) bool { return p == portB })
	if got := of(); !slices.Equal(got, want) {
		t.Errorf("one closed: got %d, want %d", got, want)
	}
	ports.pace = pace{}
	if got, err := ports.Of(t.Context(), []int{1 << 30}); err != nil || len(got) != 0 {
		t.Errorf("no such process: %d, %v", got, err)
	}
}

func BenchmarkPorts(b *testing.B) {
	var ports Ports
	defer ports.Close()
	for b.Loop() {
		ports.pace = pace{}
		if _, err := ports.Of(b.Context(), []int{os.Getpid()}); err != nil {
			b.Fatal(err)
		}
	}
}
