package metrics

import (
	"os"
	"path/filepath"
	"testing"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/platform"
)

// By a pattern only the application's processes count and root's; on a port those of services, too; and of no person.
func TestWhoseProcessesCount(t *testing.T) {
	root := t.TempDir()
	passwd := filepath.Join(root, "etc/passwd")
	err := os.MkdirAll(filepath.Dir(passwd), 0o755)
	if err == nil {
		err = os.WriteFile(passwd, []byte("root:x:0:0::/root:/bin/sh\nredis:x:112:112::/:/bin/sh\nshop:x:1200:1200::/:/bin/sh\nmallory:x:1300:1300::/:/bin/sh\n"), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	a := app.New(app.Config{Dir: dir, User: "shop"}, platform.NewInstance(t.Context(), platform.Options{Root: root, AppDir: dir}))
	for name, tt := range map[string]struct {
		who  *owners
		want map[uint32]bool
	}{
		"match":        {&owners{app: a}, map[uint32]bool{0: true, 1200: true, 112: false, 999: false, 1300: false, 64123: false}},
		"port":         {&owners{app: a, services: true}, map[uint32]bool{0: true, 1200: true, 112: true, 999: true, 1000: false, 1300: false, 65534: false}},
		"user redis":   {&owners{app: a, name: "redis", services: true}, map[uint32]bool{112: true, 0: false, 1200: false, 1300: false}},
		"user 1300":    {&owners{app: a, name: "1300"}, map[uint32]bool{1300: true, 0: false, 112: false}},
		"user unknown": {&owners{app: a, name: "nobody-here"}, map[uint32]bool{0: false, 1200: false, 1300: false}},
	} {
		for uid, want := range tt.want {
			if uid != 0 && uid == uint32(os.Getuid()) {
				continue // whoever runs the agent counts
			}
			if got := tt.who.count(uid); got != want {
				t.Errorf("%s: user %d: got %v", name, uid, got)
			}
		}
	}
}
