package supervisor

import (
	"os"
	"slices"
	"strings"
	"testing"

	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/gotool"
)

// A web unit's SupplementaryGroups= may name what its user is not in. Only root can allow that, and the refusal says how.
func TestAGroupOfTheUnitsIsAllowedByRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		gotool.Need(t, "root, to run something as another user")
	}
	const nobody, games = 65534, 60 // Debian's
	req := runs.Request{Args: []string{"true"}, IO: runs.IOSpool, UID: nobody, GID: nobody, Groups: []uint32{nobody, games}}
	c := Config{AllowUsers: []string{"nobody"}}
	if _, refusal := c.check(&req); refusal == nil || refusal.Kind != "denied" || !strings.Contains(refusal.Hint, "--allow-group 60 ") {
		t.Errorf("refused with %+v", refusal)
	}
	for _, name := range []string{"games", "60"} {
		c.AllowGroups = []string{"bin", name}
		if cred, refusal := c.check(&req); refusal != nil || !slices.Equal(cred.Groups, req.Groups) {
			t.Errorf("%s allowed: %+v, %+v", name, cred, refusal)
		}
	}
	for user, flag := range map[uint32]string{0: "--allow-root ", 5: "--allow-user 5 "} {
		other := req
		other.UID = user
		if _, refusal := c.check(&other); refusal == nil || !strings.Contains(refusal.Hint, flag) {
			t.Errorf("user %d: %+v", user, refusal)
		}
	}
	req.GID = 0
	if _, refusal := c.check(&req); refusal == nil {
		t.Error("root's group was given along")
	}
}
