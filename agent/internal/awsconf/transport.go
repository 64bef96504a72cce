package awsconf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// Time limits of one request to AWS; the caller's context may be shorter.
const (
	dialLimit      = 5 * time.Second
	handshakeLimit = 5 * time.Second
	answerLimit    = 10 * time.Second

	// Idle connections go before the next publish. AWS closes them on its own terms, and a POST written into a
	// connection that is just being closed leaves the answer unknown; a fresh handshake costs 1 to 2 ms of CPU.
	idleLimit = 20 * time.Second
)

// bundles are the files in which systems keep all trusted authorities: Amazon Linux, Debian, others. Go's own loader
// also reads every file of the directories beside them, which costs 2.6 MB and 11 ms for the same certificates again.
var bundles = []string{
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/ssl/ca-bundle.pem",
	"/etc/ssl/cert.pem",
}

// newHTTPClient returns the client of all requests to AWS. A proxy is taken from the agent's own environment, as every
// AWS client does; the application's environment never enters this process.
func newHTTPClient(getenv func(string) string) *http.Client {
	dialer := &net.Dialer{Timeout: dialLimit, KeepAlive: 30 * time.Second}
	roots := sync.OnceValue(func() *x509.CertPool { return loadRoots(getenv) })
	return &http.Client{Transport: bounded{&http.Transport{
		Proxy:       http.ProxyFromEnvironment,
		DialContext: dialer.DialContext,
		// Dialling TLS ourselves keeps the authorities unread until the first https request.
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			d := tls.Dialer{NetDialer: dialer, Config: &tls.Config{RootCAs: roots(), MinVersion: tls.VersionTLS12}}
			ctx, cancel := context.WithTimeout(ctx, dialLimit+handshakeLimit)
			defer cancel()
			return d.DialContext(ctx, network, addr)
		},
		TLSHandshakeTimeout:   handshakeLimit,
		ResponseHeaderTimeout: answerLimit,
		IdleConnTimeout:       idleLimit,
		MaxIdleConnsPerHost:   1,
	}}}
}

// maxBody is far above what AWS answers the agent: the longest, a page of S3's list of objects, has some 400 kB.
const maxBody = 1 << 20

// bounded fails each body at maxBody: the SDK reads it whole into memory.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxBody)
	}
	return resp, err
}

// loadRoots reads the first bundle that exists. Nil, when none does or it holds nothing, means the system's own way.
func loadRoots(getenv func(string) string) *x509.CertPool {
	named := []string{getenv("AWS_CA_BUNDLE"), getenv("SSL_CERT_FILE")}
	for _, name := range append(named, bundles...) {
		if name == "" {
			continue
		}
		pem, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		if pool := x509.NewCertPool(); pool.AppendCertsFromPEM(pem) {
			return pool
		}
	}
	return nil
}
