package control

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/session"
)

// What users may hold of the agent at once; root and the agent's own user whatever they like. A connection can hold two
// threads, where closing what came with it waits: a file of a file system in user space, say. So all of them together
// stay below TasksMax= of agent.service.
const (
	maxUserConns = 32 // of one user of exec.allow, the answers that go on for long among them
	maxConns     = 96 // of all of them
	maxUserTold  = 8  // refused connections of one user that get to know why
	maxTold      = 32 // of all
	maxAtWork    = 4  // requests of one user that are worked on, of those that do not go on for long
	maxOrphans   = 8  // of those, that have not ended though their clients are gone
)

// tellTime is how long a refused client may take to ask.
const tellTime = 2 * time.Second

// door decides who comes in, when a connection is accepted: before a byte or a descriptor of it is read.
type door struct {
	*fdconn.Listener
	allowed  func(uid uint32) bool
	refusals *refusals
	turned   sync.WaitGroup // connections that are refused

	mu          sync.Mutex
	conns, told quota
	places      map[uint32]*places // of users who have a connection
	watched     map[uint32]*watch
}

func newDoor(s *Server) *door {
	return &door{Listener: s.Listener, allowed: s.Allowed, refusals: newRefusals(s.Log),
		conns:  quota{ofOne: maxUserConns, ofAll: maxConns, by: map[uint32]int{}},
		told:   quota{ofOne: maxUserTold, ofAll: maxTold, by: map[uint32]int{}},
		places: map[uint32]*places{}, watched: map[uint32]*watch{}}
}

// quota counts what users hold.
type quota struct {
	ofOne, ofAll int // at most
	all          int
	by           map[uint32]int
}

// take counts one more of a user, and reports whether there may be one.
func (q *quota) take(uid uint32) bool {
	if q.by[uid] >= q.ofOne || q.all >= q.ofAll {
		return false
	}
	q.all++
	q.by[uid]++
	return true
}

// give takes one back, and reports whether it was the user's last.
func (q *quota) give(uid uint32) (last bool) {
	q.all--
	if q.by[uid]--; q.by[uid] > 0 {
		return false
	}
	delete(q.by, uid)
	return true
}

// places are what the requests of one user take.
type places struct {
	work chan struct{} // one for each that is at work and has a client
	all  chan struct{} // one for each that has not ended
}

// Accept waits for the next connection of somebody who may have one.
func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		conn := c.(*fdconn.Conn)
		if refusal := d.enter(conn); refusal != nil {
			d.turnAway(conn, refusal)
			continue
		}
		return conn, nil
	}
}

// enter counts a connection, or says why it is refused.
func (d *door) enter(c *fdconn.Conn) *api.Error {
	p := c.Peer()
	if p.Owner() {
		return nil
	}
	if !d.allowed(p.UID) {
		d.refusals.add(p.UID, "all")
		return notAllowed(nameOf(number(p.UID)))
	}
	if refusal := d.crowded(p.UID); refusal != nil {
		return refusal
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.conns.take(p.UID) {
		return &api.Error{Status: http.StatusTooManyRequests, Exit: 125,
			Message: fmt.Sprintf("too many connections at once: %s has %d, all users %d",
				nameOf(number(p.UID)), d.conns.by[p.UID], d.conns.all),
			Hint: fmt.Sprintf("a user may have %d; agent logs -f and agent wait hold one each", maxUserConns)}
	}
	c.OnClose(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.conns.give(p.UID) {
			delete(d.places, p.UID)
		}
	})
	return nil
}

// turnAway says why, if few others are being told, and closes. It takes no time of who accepts.
func (d *door) turnAway(c *fdconn.Conn, why *api.Error) {
	uid := c.Peer().UID
	d.mu.Lock()
	tell := d.told.take(uid)
	d.mu.Unlock()
	if !tell {
		d.discard(c)
		return
	}
	d.turned.Go(func() {
		if c.AwaitBytes(tellTime) == nil { // a client that has not asked yet does not expect an answer
			_ = session.WriteRefusal(c, why) // the first bytes on it always have room
		}
		d.discard(c)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.told.give(uid)
	})
}

// visit is a connection: who made it, and the places of its user at work.
type visit struct {
	api.Caller
	work *places // nil: as many as it likes
}

type visitKey struct{}

// connContext names the caller while the connection is new: later its pid may be another's.
func (d *door) connContext(ctx context.Context, c net.Conn) context.Context {
	conn := c.(*fdconn.Conn)
	v := &visit{Caller: callerOf(conn.Peer(), conn.PeerLives)}
	if !v.Owner {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.places[v.UID] == nil {
			d.places[v.UID] = &places{make(chan struct{}, maxAtWork), make(chan struct{}, maxAtWork+maxOrphans)}
		}
		v.work = d.places[v.UID]
	}
	return context.WithValue(fdconn.ConnContext(ctx, c), visitKey{}, v)
}

// begin takes one of the caller's places at work, when there is one. The returned function gives it back, and so does
// the end of ctx: a request that waits for something that is stuck keeps nobody from asking for something else.
func (v *visit) begin(ctx context.Context) (end func(), err error) {
	p := v.work
	if p == nil {
		return func() {}, nil
	}
	select {
	case p.work <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	leave := sync.OnceFunc(func() { <-p.work })
	select {
	case p.all <- struct{}{}:
	default:
		leave()
		return nil, &api.Error{Status: http.StatusTooManyRequests, Exit: 125,
			Message: fmt.Sprintf("%d earlier requests of %s have not ended, though their clients are gone",
				maxOrphans, v.Login),
			Hint: "the agent waits for something that does not answer: see systemctl status agent, as root"}
	}
	context.AfterFunc(ctx, leave)
	return func() { leave(); <-p.all }, nil
}
