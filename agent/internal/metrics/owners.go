package metrics

import (
	"context"
	"os"
	"sync"
	"time"

	"beanstalk-agent/agent/internal/app"
)

// anyUser in the configuration is everybody.
const anyUser = "any"

// firstPerson is the first number of a user who is no service's: SYS_UID_MAX of login.defs, and systemd's, is below it.
const firstPerson = 1000

// owners says whose processes and sockets a group takes that goes by a port or a pattern, which any user can have: the
// named user's, or else root's, this agent's own user's and the application's. On a port other users' services listen
// (redis), but no person.
type owners struct {
	app      *app.App
	name     string
	services bool

	mu    sync.Mutex
	next  time.Time // when to look the user up again
	uid   uint32
	known bool
}

// count reports whether a user's processes count.
func (o *owners) count(uid uint32) bool {
	if o.name == "" && (uid == 0 || int(uid) == os.Geteuid() || o.services && uid < firstPerson) {
		return true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if now := time.Now(); !now.Before(o.next) {
		o.next = now.Add(findEvery)
		o.uid, o.known = o.app.UserID(context.Background(), o.name)
	}
	return o.known && o.uid == uid
}
