package collectors

import (
	"io/fs"
	"time"
)

// ListenConfig names one listening socket of the application. Port or UnixPath is required.
//
// A Listen's samples:
//
//	listen_backlog        Count  connections the application has not accepted yet
//	listen_backlog_limit  Count  how many there may be before the kernel refuses
//	listen_connections    Count  accepted ones, in flight; once in a while only
//
// A backlog is a moment's figure: take the maximum over an interval.
type ListenConfig struct {
	Name     string // optional: becomes the label "group"
	Port     uint16 // TCP, either family; several listeners on it are added up
	UnixPath string // a UNIX socket's path, as the application binds it or through links

	// Connections is how often connections in flight are counted; the kernel
	// walks every connection of the host for it. Optional, 1 minute; negative: never.
	Connections time.Duration

	// Counts reports whether a listener of this user is the application's: any user can listen on a free address of the
	// port. Optional, everybody's.
	Counts func(uid uint32) bool

	Proc fs.FS // optional: what /proc is
}

func (c *ListenConfig) complete() {
	if c.Connections == 0 {
		c.Connections = time.Minute
	}
}

func (c *ListenConfig) collector() string {
	if c.Name == "" {
		return "listen"
	}
	return "listen " + c.Name
}

func groupLabel(name string) []Label {
	if name == "" {
		return nil
	}
	return []Label{{"group", name}}
}
