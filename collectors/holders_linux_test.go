package collectors

import (
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"beanstalk-agent/packaging/testbed/gotool"
)

// crowded is a /proc of process 10, which has so many descriptors; at is the listener's.
type crowded struct {
	fstest.MapFS
	many, at int
	inode    uint32

	next, largest, links int
}

func (d *crowded) Open(name string) (fs.File, error) {
	if name == "10/fd" {
		return d, nil
	}
	return d.MapFS.Open(name)
}

func (d *crowded) Read([]byte) (int, error)             { return 0, io.EOF }
func (d *crowded) Close() error                         { return nil }
func (d *crowded) Stat() (fs.FileInfo, error)           { return nil, fs.ErrInvalid }
func (d *crowded) Lstat(string) (fs.FileInfo, error)    { return nil, fs.ErrInvalid }
func (d *crowded) ReadFile(name string) ([]byte, error) { return fs.ReadFile(d.MapFS, name) }

func (d *crowded) ReadLink(name string) (string, error) {
	d.links++
	if name == fmt.Sprintf("10/fd/%d", d.at) {
		return fmt.Sprintf("socket:[%d]", d.inode), nil
	}
	return "/dev/null", nil
}

// ReadDir is of 10/fd, as of a file, and so much at once.
func (d *crowded) ReadDir(n int) (list []fs.DirEntry, err error) {
	if n <= 0 {
		n = d.many
	}
	n = min(n, d.many-d.next)
	d.largest = max(d.largest, n)
	for range n {
		list = append(list, numbered(d.next))
		d.next++
	}
	if n == 0 {
		return nil, io.EOF
	}
	return list, nil
}

// numbered is a descriptor in its directory.
type numbered int

func (n numbered) Name() string               { return strconv.Itoa(int(n)) }
func (n numbered) IsDir() bool                { return false }
func (n numbered) Type() fs.FileMode          { return fs.ModeSymlink }
func (n numbered) Info() (fs.FileInfo, error) { return nil, fs.ErrInvalid }

// Half a million descriptors cost 56 MB as one list. A server has its listener before its connections.
func TestManyDescriptorsCostLittle(t *testing.T) {
	if os.Getuid() != 0 {
		gotool.Need(t, "root, whose listener counts")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := uint16(ln.Addr().(*net.TCPAddr).Port)
	for name, tt := range map[string]struct {
		at    int
		uid   string
		found float64
		links int
	}{
		"a server":              {7, "0", 1, 8},
		"after a thousand":      {1500, "0", 1, 1501},
		"a listener far behind": {1<<19 - 1, "0", 0, 1 << 16},
		"a stranger's process":  {7, "64123", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			proc := &crowded{many: 1 << 19, at: tt.at, MapFS: fstest.MapFS{"10/stat": stat(10, 1, 1),
				"10/status": {Data: []byte("Name:\tw\nUid:\t" + strings.Repeat(tt.uid+"\t", 3) + tt.uid + "\n")}}}
			g := NewGroup(GroupConfig{Name: "web", Port: port, Counts: onlyRoots, Proc: proc, Sys: fstest.MapFS{}})
			defer g.Close()
			if err := g.finder.socket.look(time.Now()); err != nil {
				t.Fatal(err)
			}
			proc.inode = g.finder.socket.found.inodes[0]
			got, _ := collect(t, g)
			if got["group_processes"].Value != tt.found || proc.links > tt.links || proc.largest > 1<<10 {
				t.Errorf("found %v, %d links read, %d names at once; want %v, at most %d and 1024",
					got["group_processes"].Value, proc.links, proc.largest, tt.found, tt.links)
			}
		})
	}
}
