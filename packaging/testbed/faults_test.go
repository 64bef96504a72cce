package testbed

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"beanstalk-agent/packaging/testbed/gotool"
	"beanstalk-agent/packaging/testbed/planted"
)

// fault is something that goes wrong while a deployment brings a new agent.
type fault struct {
	name   string
	damage func(t *testing.T, app string) // to the bundle
	before string                         // on the instance
	after  string                         // takes it back
	says   string                         // in the log of the installation, if it can
	starts bool                           // it goes wrong only after the old agent was stopped
}

const (
	fromBundle = "\n      from='.agent'\n" // not the comment above it
	noSum      = "0000000000000000000000000000000000000000000000000000000000000000"
)

var bundled = ".agent/agent-linux-" + runtime.GOARCH

func from(address string) func(*testing.T, string) {
	return func(t *testing.T, app string) {
		edit(t, app, ".ebextensions/agent.config", fromBundle, "\n      from='"+address+"'\n")
	}
}

// impatient is from with a time limit that a test can wait for.
func impatient(address, tool string) func(*testing.T, string) {
	return func(t *testing.T, app string) {
		from(address)(t, app)
		edit(t, app, ".ebextensions/agent.config", "timeout -k 5 60 "+tool, "timeout -k 1 3 "+tool)
	}
}

var faults = []fault{
	{name: "the binary is cut short", says: "does not have the SHA-256", damage: func(t *testing.T, app string) {
		if err := os.Truncate(filepath.Join(app, bundled), 1<<20); err != nil {
			t.Fatal(err)
		}
	}},
	{name: "the checksums are missing", says: "get .agent/SHA256SUMS", damage: func(t *testing.T, app string) {
		os.Remove(filepath.Join(app, ".agent/SHA256SUMS"))
	}},
	{name: "there is no binary for this machine", says: "has no line for", damage: func(t *testing.T, app string) {
		write(t, app, ".agent/SHA256SUMS", noSum+"  agent-linux-riscv64\n")
	}},
	{name: "the address refuses", says: "get https://127.0.0.1:1/", damage: from("https://127.0.0.1:1/agent#" + noSum)},
	{name: "the address never answers", says: "get https://127.0.0.1:4444/", damage: impatient("https://127.0.0.1:4444/agent#"+noSum, "curl"),
		before: `systemd-run --quiet --unit=deaf /usr/bin/python3 -c 'import socket, time; s = socket.create_server(("127.0.0.1", 4444)); time.sleep(3000)'`,
		after:  "systemctl stop deaf"},
	{name: "the address has no checksum", says: "needs #SUM", damage: from("https://127.0.0.1:1/agent")},
	{name: "the bucket cannot be reached", says: "get s3://", damage: impatient("s3://no-such-bucket/agent#"+noSum, "aws")},
	{name: "the checksums are not the ones named", says: "is not the file whose SHA-256", damage: from(".agent#" + noSum)},
	{name: "the disk is full", says: "No space left",
		before: `mount -t tmpfs -o size=$(($(stat -c %s /opt/agent/bin/agent) / 1024 + 600))k tmpfs /mnt && cp -a /opt/agent/. /mnt && mount --bind /mnt /opt/agent`,
		after:  "umount -l /opt/agent /mnt"},
	{name: "the log's disk is full",
		before: `mount -t tmpfs -o size=4k tmpfs /mnt && touch /mnt/log && head -c 4k /dev/zero >/mnt/full && mount --bind /mnt/log /var/log/agent-install.log`,
		after:  "umount /var/log/agent-install.log /mnt"},
	{name: "the disk is read-only", says: "Read-only file system",
		before: "mount --bind /opt/agent /opt/agent && mount -o remount,bind,ro /opt/agent",
		after:  "umount -l /opt/agent"},
	{name: "the new agent would not take the configuration", says: "agent.yaml:", damage: func(t *testing.T, app string) {
		edit(t, app, ".ebextensions/agent-yaml.config", "      metrics:", "      metricks:")
	}},
	{name: "the new agent does not start", says: "the old one is restored", starts: true,
		before: `mkdir -p /etc/systemd/system/agent.service.d && printf '[Service]\nExecStartPre=/bin/sh -c "! /opt/agent/bin/agent version | grep -q 2.0.0"\n' \
			>/etc/systemd/system/agent.service.d/test.conf && systemctl daemon-reload`,
		after: "rm -r /etc/systemd/system/agent.service.d && systemctl daemon-reload"},
}

// Whatever goes wrong with the new agent, the deployment succeeds, the application
// is up, and the old agent and what it runs go on.
func TestFaultsLeaveDeploymentAndOldAgent(t *testing.T) {
	b := newBox(t, "box-fault")
	b.Do("build")
	b.Do("up", b.App("1.0.0"))
	wait(t, "the agent", func() bool { return b.Version("1") == "1.0.0" })
	w := b.startWork(t)
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			b.T = t
			b.endure(t, f, w)
		})
		b.T = t
	}
	t.Run("and an address that is as it should be", func(t *testing.T) {
		b.T = t
		b.fromHTTPS(t)
	})
	t.Run("and a bucket that is as it should be", func(t *testing.T) {
		b.T = t
		b.fromS3(t)
	})
}

func (b *box) endure(t *testing.T, f fault, w *work) {
	app := b.App("2.0.0")
	if f.damage != nil {
		f.damage(t, app)
	}
	if f.before != "" {
		b.On("1", f.before)
	}
	agent := b.PID("1", "agent")
	b.Do("deploy", app) // fails the test when the deployment fails
	log := b.On("1", "cat /var/log/agent-install.log")
	if f.after != "" {
		b.On("1", f.after)
	}
	for _, want := range []string{f.says, "what was there goes on"} {
		if f.says != "" && !strings.Contains(log, want) {
			t.Errorf("the log does not say %q:\n%s", want, log)
		}
	}
	if got := b.Version("1"); got != "1.0.0" {
		b.Do("deploy", b.App("1.0.0")) // the next fault wants it, too
		t.Fatalf("version %s answers, want the old one", got)
	}
	if now := b.PID("1", "agent"); now != agent && !f.starts {
		t.Errorf("the agent was restarted: %s, then %s", agent, now)
	}
	b.goesOn(t, w)
	if left := b.On("1", "ls -A /opt/agent /opt/agent/bin | grep -E '^[.]' || :"); left != "" {
		t.Errorf("left behind in /opt/agent: %s", left)
	}
}

// fromHTTPS serves the three files from the instance itself, under a certificate
// that is trusted there.
func (b *box) fromHTTPS(t *testing.T) {
	app := b.App("2.0.0")
	sum := b.moveOut(t, app, "served")
	certificate(t, filepath.Join(b.Dir, "served.pem"))
	write(t, b.Dir, "serve", `#!/usr/bin/python3
import http.server, ssl
server = http.server.HTTPServer(("127.0.0.1", 4443), http.server.SimpleHTTPRequestHandler)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain("/box/served.pem")
server.socket = tls.wrap_socket(server.socket, server_side=True)
server.serve_forever()
`)
	b.On("1", `cat /box/served.pem >>/etc/ssl/certs/ca-certificates.crt
		systemd-run --quiet --unit=served --working-directory=/box/served /box/serve`)
	from("https://127.0.0.1:4443#"+sum)(t, app)
	b.Do("deploy", app)
	if got := b.Version("1"); got != "2.0.0" {
		t.Errorf("version %s answers, want the new one:\n%s", got, b.On("1", "cat /var/log/agent-install.log"))
	}
	b.Do("deploy", app) // with the binary in place, only the checksums are fetched
	log := b.On("1", "journalctl -u served --no-pager")
	if n := strings.Count(log, "GET /agent-linux"); n != 1 {
		t.Errorf("the binary was fetched %d times:\n%s", n, log)
	}
}

// fromS3 has the aws CLI fetch from a gateway that answers for S3's own address,
// with the role's keys. The gateway takes no session token, so the role has none
// here; and it cannot prove what a bucket's policy or IAM would say.
func (b *box) fromS3(t *testing.T) {
	gateway := gotool.Build(t, gotool.VersityGW)
	app := b.App("3.0.0")
	sum := b.moveOut(t, app, "s3/agents/v3")
	certificate(t, filepath.Join(b.Dir, "served.pem"))
	write(t, b.Dir, "bin/versitygw", string(read(t, gateway)))
	b.On("1", `echo "127.0.0.1 s3.us-east-1.amazonaws.com s3.amazonaws.com" >>/etc/hosts
		cat /box/served.pem >>/etc/ssl/certs/ca-certificates.crt
		sed -i 's/"Token": "[^"]*"/"Token": ""/' /box/instances/*.json && systemctl restart box-metadata
		mkdir -p /root/.aws && printf '[default]\nregion = us-east-1\nca_bundle = /box/served.pem\ns3 =\n  addressing_style = path\n' >/root/.aws/config
		systemd-run --quiet --unit=gateway -E ROOT_ACCESS_KEY=AKIDBOX -E ROOT_SECRET_KEY=`+planted.Value+` \
			/box/bin/versitygw --port 127.0.0.1:443 --cert /box/served.pem --key /box/served.pem posix --nometa /box/s3`)
	// an application may have keys of its own, which are not for this
	b.Do("config", "AWS_ACCESS_KEY_ID=the-application's", "AWS_SECRET_ACCESS_KEY="+planted.Value, "AWS_PROFILE=the-application's")
	wait(t, "the gateway", func() bool { return b.Holds("1", "curl -so /dev/null https://s3.us-east-1.amazonaws.com/") })
	from("s3://agents/v3#"+sum)(t, app)
	b.Do("deploy", app)
	if got := b.Version("1"); got != "3.0.0" {
		t.Errorf("version %s answers, want the new one:\n%s", got, b.On("1", "cat /var/log/agent-install.log"))
	}
}

// moveOut takes the three files out of an application into a directory of the
// environment, and returns the sum to name. From there, and from nowhere else.
func (b *box) moveOut(t *testing.T, app, dir string) string {
	t.Helper()
	sums := read(t, filepath.Join(app, ".agent/SHA256SUMS"))
	to := filepath.Join(b.Dir, dir)
	if err := os.CopyFS(to, os.DirFS(filepath.Join(app, ".agent"))); err != nil {
		t.Fatal(err)
	}
	os.RemoveAll(filepath.Join(app, ".agent"))
	return fmt.Sprintf("%x", sha256.Sum256(sums))
}

// certificate writes key and certificate for 127.0.0.1 and S3, which is its own
// authority.
func certificate(t *testing.T, path string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "box"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:  []string{"s3.us-east-1.amazonaws.com", "s3.amazonaws.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})...)
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// withoutAgent deploys what cannot be fetched to an instance that never had an agent,
// as a new one is while the address is down: it is an instance all the same.
func (b *box) withoutAgent(t *testing.T) {
	app := b.App("1.0.0")
	from("https://127.0.0.1:1/agent#"+noSum)(t, app)
	b.Do("deploy", app)
	if left := b.On("1", "find /opt/agent /usr/bin/agent /etc/systemd/system/agent* 2>/dev/null || :"); strings.Contains(left, "bin/agent") {
		t.Errorf("without an agent there is\n%s", left)
	}
}

// What Install, the services and a deployment wrote is gone after the deployment of
// remove.config, and an uninstall then finds nothing to do.
func TestRemovalLeavesNothing(t *testing.T) {
	b := newBox(t, "box-gone")
	b.Do("build")
	bare := filepath.Join(t.TempDir(), "bare")
	if err := os.CopyFS(bare, os.DirFS("sample")); err != nil {
		t.Fatal(err)
	}
	b.Do("up", bare)
	// /usr/lib and the like are left out because they are this machine's, and large
	const look = `find / -xdev \( -path /proc -o -path /sys -o -path /box -o -path /var/log/journal -o -path /var/lib/systemd -o -path /var/tmp -o \
			-path /root -o -path /home -o -path /usr/lib -o -path /usr/share -o -path /usr/include -o -path /usr/local \) -prune -o -print | sort
		systemctl list-unit-files --plain --no-legend | sort; ps -eo comm= | grep -x agent; find /run -maxdepth 1 | sort`
	b.On("1", look+" >/box/before")
	app := b.App("1.0.0")
	b.withoutAgent(t)
	b.Do("deploy", app)
	wait(t, "a good status", func() bool { return b.fresh(t, "1") })
	b.startWork(t)
	write(t, app, ".ebextensions/agent.config", string(read(t, "../examples/remove.config")))
	b.Do("deploy", app)
	b.Do("deploy", bare)
	b.On("1", look+" >/box/after")
	if left := b.On("1", "diff /box/before /box/after | grep '^>' || :"); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
	b.On("1", "/box/bin/agent uninstall 2>&1 | grep -x 'nothing to do'")
}
