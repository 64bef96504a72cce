package appenv_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"beanstalk-agent/agent/internal/appenv"
)

// unitCase is a web unit: its [Service] lines, and drop-ins.
type unitCase struct {
	service string
	dropins []string
}

func unitCases(r *rand.Rand) []unitCase {
	cases := []unitCase{
		{service: "User=webapp\n"},
		{service: "User=cleaned\n"},
		{service: "User=homeless\n"},
		{service: "Environment=LANG=x LC_TIME=y MANAGER=unit\n"},
		{service: "UnsetEnvironment=LANG MANAGER\n"},
		{service: "Environment=A=1 \"B=two words\" 'C=x y' D=a\"b c\"d\n"},
		{service: "Environment=A=1\nEnvironment=A=2 B=3\nEnvironment=\nEnvironment=C=4\n"},
		{service: "Environment=A=\\x41\\101\\u00e9\\n\\t\\s\\\\ B='\\x41 \\''\n"},
		{service: "Environment=A=1 \"B=2\nEnvironment=C=3\n"},
		{service: "Environment=A=1 B=\\q C=3\n"},
		{service: "Environment=A=100%% B=1\n"},
		{service: "Environment=A=1 a.b=2 =3 4=5 E\n"},
		{service: "Environment=A=1 \\\n  B=2 \\\n# a comment between\n  C=3\nEnvironment=D=4\n"},
		{service: "Environment=\"A=x \\\n y\"\n"},
		{service: "Environment = A=1  \n  Environment=B=2\n"},
		{service: "# Environment=A=1\n; Environment=B=2\nEnvironment=C=3 # D=4\n"},
		{service: "EnvironmentFile=/envtest/two.env\nEnvironment=BASE=unit TWO=unit ONLY=unit\n"},
		{service: "EnvironmentFile=-/envtest/absent.env\nEnvironmentFile=/envtest/two.env\n"},
		{service: "EnvironmentFile=-/envtest/refused.env\n"},
		{service: "EnvironmentFile=/envtest/glob-*.env\n"},
		{service: "EnvironmentFile=-/envtest/none-*.env\n"},
		{service: "EnvironmentFile=/envtest/two.env\nEnvironmentFile=\nEnvironmentFile=/envtest/base.env\n"},
		{service: "Environment=A=1 B=2 C=3\nUnsetEnvironment=A C=3 B=nope BASE\n"},
		{service: "UMask=0027\nUser=webapp\nGroup=shared-files\n"},
		{service: "UMask=077\nUser=webapp\nSupplementaryGroups=shared-files extra-files\n"},
		{service: "User=webapp\n", dropins: []string{"[Service]\nEnvironment=A=1\n", "[Service]\nEnvironment=A=2 B=1\n[Unit]\nEnvironment=X=1\n"}},
		{service: "Environment=A=1\n", dropins: []string{"[Service]\nEnvironment=\nUMask=0002\n"}},
		{service: "Environment=A=100% B=50%-off \"C=a % b\" D=p%40ss E=%z F=%%h G=%\n"},
		{service: "Environment=A=1 \nUnsetEnvironment=A \"BASE\n"},
		{service: "UMask=0\n"},
		{service: "Environment=A=1 \\\n B=2 \\"},
		{service: "Environment=A=1\n", dropins: []string{"\ufeff[Service]\nEnvironment=A=2\n"}},
		{service: "EnvironmentFile=/envtest/d/*.env\n"},
		{service: "EnvironmentFile=/envtest/d/.*.env\n"},
		{service: "EnvironmentFile=/envtest/glob-[!1].env\n"},
		{service: "EnvironmentFile=-/envtest/d\n"},
		{service: "EnvironmentFile=-/envtest/[dr]*\n"},
		{service: "EnvironmentFile=/envtest/none-*.env\n"},
		{service: "EnvironmentFile=/envtest/absent.env\n"},
		{service: "EnvironmentFile=/envtest/d\n"},
	}
	pieces := []string{"A=", "B=", "C=", "x", "y z", "\"", "'", "\\\\", "\\n", "\\x20", "\\\"", " ", " ", "%%", "$HOME", "#", ";", "=", "é"}
	many := 150
	if testing.Short() {
		many = 30
	}
	for range many {
		var text strings.Builder
		for range 1 + r.IntN(3) {
			text.WriteString("Environment=" + []string{"A=", "\"A=", "", "'B="}[r.IntN(4)])
			for range 1 + r.IntN(12) {
				text.WriteString(pieces[r.IntN(len(pieces))])
			}
			text.WriteString("\n")
		}
		cases = append(cases, unitCase{service: text.String()})
	}
	return cases
}

// TestRealSystemdAgreesOnUnits: what the web unit's own file says of environment, umask and groups is followed as the
// real systemd follows it.
func TestRealSystemdAgreesOnUnits(t *testing.T) {
	b := boot(t)
	b.run("useradd", "--system", "--shell", "/usr/sbin/nologin", "webapp")
	b.run("useradd", "--system", "--home-dir", "//srv/./x/", "--shell", "/bin//sh", "cleaned")
	b.run("useradd", "--system", "--home-dir", "/", "--shell", "/usr/bin/true", "homeless")
	b.write("/etc/locale.conf", "LANG=de_DE.UTF-8\nLC_ALL=C\nLC_TIME=\nLC_PAPER=C\nLC_NOTHING=C\nOTHER=1\n", 0o644)
	b.write("/etc/systemd/system.conf.d/20-team.conf", "[Manager]\nDefaultEnvironment=MANAGER=1 \"WITH=two words\" LC_PAPER=D\n[Service]\nDefaultEnvironment=NOT=1\n", 0o644)
	b.write("/usr/lib/systemd/system.conf.d/20-team.conf", "[Manager]\nDefaultEnvironment=MANAGER=hidden\n", 0o644)
	b.write("/usr/lib/systemd/system.conf.d/10-vendor.conf", "[Manager]\nDefaultEnvironment=MANAGER=0 VENDOR=1\n", 0o644)
	b.run("groupadd", "shared-files")
	b.run("groupadd", "extra-files")
	b.run("usermod", "-aG", "shared-files", "webapp")
	for name, text := range map[string]string{"base": "BASE=1\n", "two": "TWO=2\nBASE=2\n", "refused": "R=\xff\n", "glob-1": "G=1\n", "glob-2": "G=2\n", "d/a": "D=1\n", "d/.b": "DOT=1\n"} {
		b.write("/envtest/"+name+".env", text, 0o600)
	}
	b.write("/etc/systemd/system/service.d/0.conf", "[Service]\nEnvironment=ALL=services\n", 0o644) // unless a unit has one of this name
	b.write("/etc/systemd/system/service.d/.1.conf", "[Service]\nEnvironment=HIDDEN=1\n", 0o644)
	app := t.TempDir()
	if err := os.WriteFile(filepath.Join(app, "app.py"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	cases := unitCases(rand.New(rand.NewPCG(4, 252)))
	start := []string{"systemctl", "start"}
	for i, c := range cases {
		name := fmt.Sprintf("u%d.service", i)
		b.write("/etc/systemd/system/"+name, fmt.Sprintf(`[Service]
Type=oneshot
EnvironmentFile=/envtest/base.env
ExecStart=/usr/bin/env -0
ExecStart=/usr/bin/grep -E '^(Uid|Gid|Groups|Umask):' /proc/self/status
StandardOutput=append:/envtest/u%d.out
%s`, i, c.service), 0o644)
		for n, d := range c.dropins {
			b.write(fmt.Sprintf("/etc/systemd/system/%s.d/%d.conf", name, n), d, 0o644)
		}
		start = append(start, name)
	}
	b.run("systemctl", "daemon-reload")
	b.nspawn("exec", start...) // fails when one of them does; which is looked at below
	refused := 0
	for i, c := range cases {
		data, _ := os.ReadFile(filepath.Join(b.root, fmt.Sprintf("envtest/u%d.out", i)))
		end := bytes.LastIndexByte(data, 0) + 1
		user := userOf(c.service)
		want, identity := ofUnit(data[:end], user), string(data[end:])
		r := appenv.New(appenv.Config{Beanstalk: true, Root: b.root, AppDir: app,
			User: user, DeploymentEnv: "/envtest/base.env", WebUnit: fmt.Sprintf("u%d.service", i)})
		p, err := r.Profile(t.Context(), appenv.ProfileOptions{})
		if err == nil != (len(data) > 0) {
			t.Errorf("%q: systemd gave %d bytes, we %v", c, len(data), err)
		}
		if err != nil {
			refused++
			continue
		}
		if got := ofUnit([]byte(strings.Join(p.Env, "\x00")+"\x00"), user); !slices.Equal(got, want) {
			t.Errorf("%q\nsystemd %q\nwe      %q", c, want, got)
		}
		if got := asStatus(p); got != identity {
			t.Errorf("%q\nsystemd %q\nwe      %q", c, identity, got)
		}
	}
	if refused != 3 {
		t.Errorf("%d of %d units were refused: the comparison has lost its point", refused, len(cases))
	}
}

func userOf(service string) string {
	for line := range strings.Lines(service) {
		if user, ok := strings.CutPrefix(line, "User="); ok {
			return strings.TrimSpace(user)
		}
	}
	return "root"
}

// ofUnit is NUL-terminated assignments without what every service has. systemd gives a service without User= no HOME
// and USER; a run has them.
func ofUnit(data []byte, user string) []string {
	ignored := []string{"PATH", "INVOCATION_ID", "SYSTEMD_EXEC_PID", ""}
	if user == "root" {
		ignored = append(ignored, "HOME", "USER", "LOGNAME", "SHELL")
	}
	var vars []string
	for s := range strings.SplitSeq(strings.TrimSuffix(string(data), "\x00"), "\x00") {
		if name, _, _ := strings.Cut(s, "="); !slices.Contains(ignored, name) {
			vars = append(vars, s)
		}
	}
	return vars
}

// asStatus is the profile as /proc/PID/status has it.
func asStatus(p appenv.Profile) string {
	u := p.User
	groups := ""
	sorted := slices.Clone(u.Groups)
	slices.Sort(sorted)
	for _, g := range sorted {
		groups += fmt.Sprintf("%d ", g)
	}
	if u.UID == 0 {
		groups = " " // systemd leaves root's as they are: none
	}
	return fmt.Sprintf("Umask:\t%04o\nUid:\t%d\t%d\t%d\t%d\nGid:\t%d\t%d\t%d\t%d\nGroups:\t%s\n", p.Umask, u.UID, u.UID, u.UID, u.UID, u.GID, u.GID, u.GID, u.GID, groups)
}
