package appenv

import (
	"strings"
	"testing"
)

// Root owned the application's directory and its cron file, and whoever had made the virtualenv in it was root by the
// first job that ran python.
func TestRootRunsNoVirtualenvOfAnother(t *testing.T) {
	in := local(t)
	in.cfg.AppDir = in.at("/srv/app")
	in.write(t, "/srv/app/.venv/bin/python", "")
	for path, uid := range map[string]int{"/srv/app": 0, "/srv/app/.venv": web, "/srv/app/.venv/bin": web} {
		in.own(t, path, uid)
	}
	path := func() string {
		t.Helper()
		p, err := New(in.cfg).Profile(t.Context(), ProfileOptions{})
		if err != nil || p.User.UID != 0 {
			t.Fatalf("%+v, %v", p.User, err)
		}
		for _, v := range p.Env {
			if value, ok := strings.CutPrefix(v, "PATH="); ok {
				return value
			}
		}
		return ""
	}
	if got := path(); strings.Contains(got, ".venv") {
		t.Errorf("root looks in %s", got)
	}
	in.own(t, "/srv/app/.venv", 0)
	in.own(t, "/srv/app/.venv/bin", 0)
	if got := path(); !strings.HasPrefix(got, in.at("/srv/app/.venv/bin")) {
		t.Errorf("with one of its own root looks in %s", got)
	}
}
