package appenv

import (
	"fmt"
	"strings"
	"testing"

	"github.com/joho/godotenv"
)

// environment4K is 4 KiB that systemd and godotenv read alike: what Beanstalk admits at most.
func environment4K() []byte {
	var b strings.Builder
	for i := 0; b.Len() < 4000; i++ {
		fmt.Fprintf(&b, "PROPERTY_%02d=value-%d/with:some.text@%s\n", i, i, strings.Repeat("x", i%60))
		if i%10 == 9 {
			fmt.Fprintf(&b, "QUOTED_%02d=\"two words\"\n", i)
		}
	}
	return []byte(b.String())[:strings.LastIndexByte(b.String()[:min(b.Len(), 4096)], '\n')+1]
}

func BenchmarkParseSystemd4K(b *testing.B) {
	data := environment4K()
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		f, err := ParseSystemd(data, AmazonLinux2023)
		if err != nil || len(f.Vars) < 40 {
			b.Fatal(err)
		}
		env := &Env{}
		env.add("x", f)
		if len(env.Vars()) != len(f.Vars) {
			b.Fatal("lost some")
		}
	}
}

// BenchmarkGodotenv4K is the same bytes by the usual library, made into the same list.
func BenchmarkGodotenv4K(b *testing.B) {
	data := environment4K()
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		m, err := godotenv.UnmarshalBytes(data)
		if err != nil || len(m) < 40 {
			b.Fatal(err)
		}
		out := make([]string, 0, len(m))
		for name, value := range m {
			out = append(out, name+"="+value)
		}
		if len(out) != len(m) {
			b.Fatal("lost some")
		}
	}
}

// BenchmarkResolveUnchanged is what every start of a run pays when no file changed; the files are real.
func BenchmarkResolveUnchanged(b *testing.B) {
	in := newInstance(b)
	in.write(b, DefaultDeploymentEnv, string(environment4K()))
	r := New(in.cfg)
	b.ReportAllocs()
	for b.Loop() {
		if env, err := r.Resolve(b.Context()); err != nil || len(env.vars) < 40 {
			b.Fatal(err)
		}
	}
}

func BenchmarkProfile(b *testing.B) {
	in := newInstance(b)
	in.write(b, DefaultDeploymentEnv, string(environment4K()))
	in.program(b, "/var/app/venv/x/bin/python")
	r := New(in.cfg)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Profile(b.Context(), ProfileOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
