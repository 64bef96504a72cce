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

// dumpUnit is started once a file. `env -0` prints what execve gave it.
const dumpUnit = `[Unit]
StartLimitIntervalSec=0
[Service]
Type=oneshot
EnvironmentFile=/envtest/%i.env
ExecStart=/usr/bin/env -0
StandardOutput=truncate:/envtest/%i.out
`

// TestRealSystemdAgrees gives the same files to systemd 252 and to ParseSystemd: a service started with each must
// have, byte for byte and in the same order, what the parser says; and must not start where the parser refuses.
func TestRealSystemdAgrees(t *testing.T) {
	b := boot(t)
	version := b.run("/lib/systemd/systemd", "--version")
	if !strings.HasPrefix(version, "systemd 252 ") {
		t.Fatalf("this compares with systemd 252, here is %s", version)
	}
	b.write("/etc/systemd/system/envdump@.service", dumpUnit, 0o644)
	many := 400
	if testing.Short() {
		many = 80
	}
	files := slices.Concat(appenv.SystemdCases(), madeByHand(), generated(rand.New(rand.NewPCG(3, 252)), many))
	start := []string{"systemctl", "start"}
	for i, text := range files {
		b.write(fmt.Sprintf("/envtest/%d.env", i), text, 0o600)
		start = append(start, fmt.Sprintf("envdump@%d", i))
	}
	b.run("systemctl", "daemon-reload")
	for chunk := range slices.Chunk(start[2:], 100) {
		b.nspawn("exec", append(start[:2:2], chunk...)...) // fails when one of them does; which is looked at below
	}
	refused := 0
	for i, text := range files {
		want, started := dumped(t, filepath.Join(b.root, fmt.Sprintf("envtest/%d.out", i)))
		file, err := appenv.ParseSystemd([]byte(text), appenv.AmazonLinux2023)
		var got []string
		for _, v := range file.Vars {
			got = append(got, v.Assignment())
		}
		switch {
		case started == (err != nil):
			t.Errorf("file %d: systemd started a service: %v; our error: %v\n%.300q", i, started, err, text)
		case !slices.Equal(got, want):
			t.Errorf("file %d: %.300q\nsystemd %.300q\nwe      %.300q", i, text, want, got)
		}
		if !started {
			refused++
		}
	}
	if refused < 5 || refused > len(files)/4 {
		t.Errorf("%d of %d files were refused: the comparison has lost its point", refused, len(files))
	}
	t.Logf("%d files, of which systemd refused %d", len(files), refused)
}

// dumped reads what env -0 printed, without what systemd gives every service.
func dumped(t *testing.T, path string) (vars []string, started bool) {
	t.Helper()
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) || err == nil && len(data) == 0 {
		return nil, false
	}
	if err != nil {
		t.Fatal(err)
	}
	for s := range bytes.SplitSeq(bytes.TrimSuffix(data, []byte{0}), []byte{0}) {
		name, _, _ := strings.Cut(string(s), "=")
		if !slices.Contains([]string{"PATH", "LANG", "INVOCATION_ID", "SYSTEMD_EXEC_PID"}, name) {
			vars = append(vars, string(s))
		}
	}
	return vars, true
}

// madeByHand is what tables cannot hold: every byte in every place, and the limits.
func madeByHand() []string {
	var files []string
	for _, form := range []string{"V%d=a%sb\n", "V%d=%sb\n", "V%d=a%s\n", "V%d='a%sb'\n", "V%d=\"a%sb\"\n", "V%d=\"a\\%sb\"\n", "V%d='a\\%sb'\n", "V%d=a\\%sb\n", "V%d=\\%s\n", "V%d='x'%sb\n"} {
		var all strings.Builder
		for c := 1; c < 0x80; c++ {
			fmt.Fprintf(&all, form, c, string(rune(c)))
			all.WriteString("'\"\n") // ends whatever the byte began
		}
		files = append(files, all.String())
	}
	for c := 1; c < 0x100; c++ {
		if c < 0x80 {
			files = append(files, fmt.Sprintf("A%cB=1\n%cC=2\nD=3%c", c, c, c))
		} else if c%8 == 0 {
			files = append(files, "A=1\nB=x"+string([]byte{byte(c)})+"\n")
		}
	}
	const pem = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqh/+kiG9w0BAQEFAASC\nBKcwggSjAgEAAoIBAQ==\n-----END PRIVATE KEY-----\n"
	files = append(files,
		"KEY=\""+pem+"\"\nB=1\n", "KEY='"+pem+"'\nB=1\n", "KEY="+pem+"B=1\n", "KEY="+strings.ReplaceAll(pem, "\n", "\\n")+"\n",
		"KEY=\""+strings.ReplaceAll(pem, "\n", "\\\n")+"\"\n", strings.ReplaceAll("KEY=\""+pem+"\"\nB=1\n", "\n", "\r\n"),
		`J={"a":"b \"c\" \\ d","e":[1,{"f":null}]}`+"\n", `J='{"a":"b \"c\" \\ d"}'`+"\n", `J="{\"a\":\"b\"}"`+"\n",
		"A=1\x00\nB=2\n", "A=1\n\x00", "# \x00\nA=1\n", "A=\U0001F600\u00e9\n", "A=\xed\xa0\x80\n", "A=\xf4\x90\x80\x80\n", "A=\xc0\x80\n",
		"A=\ufdd0\n", "A=\ufffe\n", "A=\U0001FFFF\n", "A=\ufffd\n", "\xff=1\nB=2\n", "# \xff\nB=2\n", "\xff\nB=2\n", "x.\xff=1\nB=2\n",
		"A="+strings.Repeat("x", 131069)+"\nB=1\n", "A="+strings.Repeat("x", 131070)+"\nB=1\n", strings.Repeat("N", 131000)+"="+strings.Repeat("x", 70)+"\n",
		strings.Repeat("N", 131000)+"="+strings.Repeat("x", 71)+"\n", "a.b="+strings.Repeat("x", 140000)+"\nB=1\n",
		"A=1\nA="+strings.Repeat("x", 140000)+"\nA=2\n", strings.Repeat("A=1\nB=2\n", 3000),
	)
	return files
}

// generated is files of the grammar's own pieces in any order.
func generated(r *rand.Rand, n int) []string {
	pieces := []string{"A", "B", "FOO", "a.b", "export ", "=", "=", "=", "=", "\n", "\n", "\n", "\r\n", "\r", "'", "'", "\"", "\"", "\\", "\\\n", "\\\\", "\\\"",
		" ", "  ", "\t", "#", ";", "$X", "${Y}", "`", "\\$", "\\`", "x", "yz", "é", "\u00a0", "\v", "\f", "\x01", "{\"k\": \"v\"}", "%", "!", ":", "A=1\n", "B='x'\n", "C=\"y\"\n"}
	files := make([]string, n)
	for i := range files {
		var text strings.Builder
		for range 1 + r.IntN(40) {
			text.WriteString(pieces[r.IntN(len(pieces))])
		}
		if r.IntN(40) == 0 {
			text.WriteString([]string{"\xff", "\x00", "\xe2\x28"}[r.IntN(3)])
		}
		files[i] = text.String()
	}
	return files
}
