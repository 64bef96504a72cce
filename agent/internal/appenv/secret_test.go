package appenv

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"beanstalk-agent/packaging/testbed/planted"
)

// TestNoValueIsEverPrinted: whatever prints, logs or marshals what this package hands out shows no value.
func TestNoValueIsEverPrinted(t *testing.T) {
	in := newInstance(t)
	in.write(t, DefaultDeploymentEnv, "A="+planted.Value+"\nexport B="+planted.Value+"\n"+planted.Value+"\nC.D="+planted.Value+"\nE='"+planted.Value+"\n"+planted.Value+"'\n")
	in.write(t, DefaultSecrets, "A=x"+planted.Value+"\n")
	in.process(t, 7, "A="+planted.Value, "X="+planted.Value)
	r := New(in.cfg)
	env, err := r.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Profile(t.Context(), ProfileOptions{Extra: []string{"F=" + planted.Value}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := r.Diff(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v := env.Vars()[0]
	if v.Value() != "x"+planted.Value || d.Vars[0].Name != "A" {
		t.Fatalf("the test lost its secrets: %v, %v", v, d.Vars)
	}
	// A field that fmt cannot call methods on is the hard case.
	type holder struct {
		v  Var
		vs []Var
		e  *Env
		ee Env
		d  Diff
	}
	h := holder{v, env.Vars(), env, *env, d}
	var out bytes.Buffer
	text := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	js := slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for _, x := range []any{v, &v, env.Vars(), env, *env, p, &p, p.Env, d, d.Vars, h, &h, []holder{h}, map[string]any{"a": h}, env.Warnings(), env.Sources()} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X"} {
			fmt.Fprintf(&out, verb+"\n", x)
		}
		text.Debug("x", "x", x)
		js.Debug("x", "x", x)
		json.NewEncoder(&out).Encode(x)
	}
	if strings.Contains(out.String(), planted.Value) || strings.Contains(out.String(), fmt.Sprintf("%x", planted.Value)) {
		t.Errorf("a value was printed:\n%s", around(out.String()))
	}
}

func around(s string) string {
	i := max(strings.Index(s, planted.Value), strings.Index(s, fmt.Sprintf("%x", planted.Value)))
	return s[max(0, i-200):min(len(s), i+100)]
}

// TestNoErrorHasAValue: every way a source can be wrong, told without a byte of it.
func TestNoErrorHasAValue(t *testing.T) {
	for name, parse := range map[string]func([]byte) (File, error){
		"systemd": func(b []byte) (File, error) { return ParseSystemd(b, 0) },
		"219":     func(b []byte) (File, error) { return ParseSystemd(b, AmazonLinux2) },
		"dotenv":  ParseDotenv, "docker": ParseDocker, "get-config": parseProperties, "shell": ParseShell, "json": ParseJSON,
		"environ": func(b []byte) (File, error) { v, err := parseEnviron(b); return File{Vars: v}, err },
	} {
		for _, text := range []string{
			planted.Value, "A=" + planted.Value + "\xff", "A=" + planted.Value + "\x00", "A='" + planted.Value, "=" + planted.Value, planted.Value + " B=1", "A B=" + planted.Value, planted.Value + "!=1",
			"A=" + strings.Repeat(planted.Value, 20000), `{"A":"` + planted.Value, `{"A":{"B":"` + planted.Value + `"}}`, `["` + planted.Value + `"]`, `{"A":1` + planted.Value + `}`, `{"A":"b"} ` + planted.Value,
			"\x00" + planted.Value, `{"` + planted.Value + `.x":"1\u0000"}`, "-----BEGIN\n" + planted.Value + "-==\n",
			"A=\"" + planted.Value + "\\\\$B${C}\" " + planted.Value, "A='it's " + planted.Value + "'", "A=" + planted.Value + "#${" + planted.Value + "}$x", "A: " + planted.Value, "`" + planted.Value + "`=1", "{\"" + planted.Value + "\": 1}", "{\"A\": \"\\ud800" + planted.Value + "\"}",
		} {
			file, err := parse([]byte(text))
			if s := fmt.Sprint(err, file.Dropped, file.Notes); strings.Contains(s, planted.Value) {
				t.Errorf("%s: a fault with a value: %s", name, s)
			}
		}
	}
}

// TestNothingEntersTheAgentsOwnEnvironment: an application's AWS_ACCESS_KEY_ID, HTTP_PROXY or AWS_ENDPOINT_URL in the
// agent's own environment would turn its CloudWatch client. So nothing in the module may set a variable there at all,
// and reading the application's leaves the agent's as it was.
func TestNothingEntersTheAgentsOwnEnvironment(t *testing.T) {
	in := newInstance(t)
	in.write(t, DefaultDeploymentEnv, "AWS_ACCESS_KEY_ID=planted-5c1e\nAWS_REGION=planted-5c1e\nHTTP_PROXY=planted-5c1e\nAWS_ENDPOINT_URL=planted-5c1e\nPATH=planted-5c1e\n")
	before := strings.Join(os.Environ(), "\x00")
	if _, err := New(in.cfg).Profile(t.Context(), ProfileOptions{}); err != nil {
		t.Fatal(err)
	}
	if strings.Join(os.Environ(), "\x00") != before {
		t.Error("the agent's environment changed")
	}
	banned := map[string]bool{"os.Setenv": true, "os.Clearenv": true, "syscall.Setenv": true, "unix.Setenv": true, "godotenv.Load": true, "godotenv.Overload": true}
	files := 0
	err := filepath.WalkDir("../../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		files++
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := sel.X.(*ast.Ident); ok && banned[x.Name+"."+sel.Sel.Name] {
					t.Errorf("%s calls %s.%s", path, x.Name, sel.Sel.Name)
				}
			}
			return true
		})
		return nil
	})
	if err != nil || files < 20 {
		t.Errorf("walked %d files: %v", files, err)
	}
}
