package control

import (
	"net/http"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/fdconn"
)

const (
	lookAgain = 50 * time.Millisecond
	hanging   = time.Second           // a close that has not ended by then will not soon
	most      = 4 * fdconn.MaxClosing // closes of one user at once: a thread each, of TasksMax= of agent.service
	maxKept   = 8192                  // connections that wait to be closed: more than are in the kernel's queue
)

// watch is of a user of whom many closes are under way.
type watch struct {
	since time.Time      // when there were fewer
	kept  []*fdconn.Conn // refused, and not closed yet
	shut  bool           // the kernel refuses the user
}

// crowded refuses a user of whom more closes hang than may. Their number falls, or the kernel refuses the user soon.
func (d *door) crowded(uid uint32) *api.Error {
	n := fdconn.Closing.Of(uid)
	if n < fdconn.MaxClosing {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if w := d.watchLocked(uid); n < most && !w.shut {
		return nil
	}
	return &api.Error{Status: http.StatusTooManyRequests, Exit: 125,
		Message: "descriptors that this user handed in cannot be closed: a process holds them up"}
}

// discard closes a refused connection, or leaves it open while its close might hang, as its user's earlier ones do. It
// waits for room only where the socket's file system keeps no ACLs: elsewhere the kernel refuses the user. It looks
// again after a time, since a close that hangs in the kernel reports its end to no other thread.
func (d *door) discard(c *fdconn.Conn) {
	for uid := c.Peer().UID; fdconn.Closing.Of(uid) >= fdconn.MaxClosing; time.Sleep(lookAgain) {
		if d.tryKeep(uid, c) {
			return
		}
	}
	c.Close()
}

func (d *door) tryKeep(uid uint32, c *fdconn.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.watchLocked(uid)
	if len(w.kept) >= maxKept {
		return false
	}
	w.kept = append(w.kept, c)
	return true
}

func (d *door) watchLocked(uid uint32) *watch {
	w := d.watched[uid]
	if w == nil {
		w = &watch{since: time.Now()}
		d.watched[uid] = w
		time.AfterFunc(lookAgain, func() { d.look(uid, w) })
	}
	return w
}

// look closes what is kept, so far as no more closes hang than may. It has the kernel refuse a user of whom they do,
// and let that user connect when they have ended.
func (d *door) look(uid uint32, w *watch) {
	d.mu.Lock()
	defer d.mu.Unlock()
	closing := fdconn.Closing.Of(uid)
	for ; closing < fdconn.MaxClosing && len(w.kept) > 0; closing++ {
		go w.kept[0].Close() // returns soon, and calls back
		w.kept, w.since = w.kept[1:], time.Now()
	}
	switch {
	case closing < fdconn.MaxClosing:
		delete(d.watched, uid)
		if w.shut {
			_ = d.Shut(uid, false)
		}
		return
	case !w.shut && time.Since(w.since) > hanging:
		w.shut = true
		d.refusals.log.Warn("a user may not connect until what it handed in can be closed", "uid", uid)
		_ = d.Shut(uid, true) // where that cannot be, crowded does
	}
	time.AfterFunc(lookAgain, func() { d.look(uid, w) })
}
