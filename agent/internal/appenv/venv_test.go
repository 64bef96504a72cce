package appenv

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Root owned the application's directory and its cron file, and whoever had made the virtualenv in it was root by the
// first job that ran python.
func TestRootRunsNoVirtualenvOfAnother(t *testing.T) {
	in := local(t)
	in.cfg.AppDir = in.at("/srv/app")
	in.program(t, "/srv/app/.venv/bin/python")
	for path, uid := range map[string]int{"/srv/app": 0, "/srv/app/.venv": web, "/srv/app/.venv/bin": web} {
		in.own(t, path, uid)
	}
	path := func() string { t.Helper(); return in.searchPath(t, 0) }
	if got := path(); strings.Contains(got, ".venv") {
		t.Errorf("root looks in %s", got)
	}
	in.own(t, "/srv/app/.venv", 0)
	in.own(t, "/srv/app/.venv/bin", 0)
	if got := path(); !strings.HasPrefix(got, in.at("/srv/app/.venv/bin")) {
		t.Errorf("with one of its own root looks in %s", got)
	}
}

// searchPath is the PATH of a job, which runs as user uid.
func (in *instance) searchPath(t *testing.T, uid uint32) string {
	t.Helper()
	p, err := New(in.cfg).Profile(t.Context(), ProfileOptions{})
	if err != nil || p.User.UID != uid {
		t.Fatalf("%+v, %v", p.User, err)
	}
	for _, v := range p.Env {
		if value, ok := strings.CutPrefix(v, "PATH="); ok {
			return value
		}
	}
	return ""
}

// A job prints its PATH. Root found what the application's virtualenv leads to, wherever that is, and so PATH said
// which files of root's are there.
func TestPathDoesNotSayWhatItsUserMayNotSee(t *testing.T) {
	link := func(in *instance, name, target string) {
		name = in.at("/home/web/app/" + name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.Symlink(in.at(target), name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, make := range map[string]func(in *instance, dir string){
		"the program is a link":    func(in *instance, dir string) { link(in, ".venv/bin/python", dir+"/bin/python") },
		"its directory is a link":  func(in *instance, dir string) { link(in, "venv/bin", dir+"/bin") },
		"the virtualenv is a link": func(in *instance, dir string) { link(in, ".venv", dir) },
		"PYTHONPATH names it":      func(in *instance, dir string) { in.write(t, "/home/web/app/.env", "PYTHONPATH="+in.at(dir)+"/bin\n") },
	} {
		t.Run(name, func(t *testing.T) {
			for dir, want := range map[string]bool{"/root/there": false, "/root/absent": false, "/opt/there": true, "/opt/absent": false} {
				in := local(t)
				in.program(t, "/root/there/bin/python")
				in.program(t, "/opt/there/bin/python")
				in.mode(t, "/root", 0o700)
				make(in, dir)
				if _, err := os.Lstat(in.at("/home/web/app/.env")); err == nil {
					in.own(t, "/home/web/app/.env", web)
				}
				if got := in.searchPath(t, web); strings.Contains(got, in.root) != want {
					t.Errorf("%s: PATH is %s", dir, got)
				}
			}
		})
	}
}
