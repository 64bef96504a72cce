package claim

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"beanstalk-agent/packaging/testbed/planted"
	"beanstalk-agent/packaging/testbed/versity"
)

// fakeS3 is one bucket in memory, for tests in which time or a single answer matters. It is faithful about conditions,
// unless told to ignore them, in which case it must make the contest fail. It knows nothing of signatures, permissions
// or AWS's own consistency; the contest against versitygw is what those tests stand on.
type fakeS3 struct {
	ignoreConditions bool
	ahead            time.Duration // of its clock against ours

	// Optional. before may answer in the bucket's place; after may do so once a request has taken effect.
	before, after func(w http.ResponseWriter, r *http.Request) bool

	mu      sync.Mutex
	objects map[string][]byte
	puts    int
	gets    int
}

func (f *fakeS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Date", time.Now().Add(f.ahead).UTC().Format(http.TimeFormat))
	if f.before != nil && f.before(w, r) {
		return
	}
	status, answer, tag := f.apply(r, body)
	if f.after != nil && f.after(w, r) {
		return
	}
	if status == http.StatusOK {
		w.Header().Set("ETag", tag)
	}
	w.WriteHeader(status)
	w.Write(answer)
}

// apply gives the tag of the very object that it answers with or has stored: another write may follow at once.
func (f *fakeS3) apply(r *http.Request, body []byte) (status int, answer []byte, tag string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old, exists := f.objects[r.URL.Path]
	if r.Method == http.MethodGet {
		f.gets++
		if !exists {
			return 404, errorXML("NoSuchKey"), ""
		}
		return 200, old, tagOf(old)
	}
	f.puts++
	match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match")
	switch {
	case f.ignoreConditions:
	case none != "" && exists, match != "" && exists && match != tagOf(old):
		return 412, errorXML("PreconditionFailed"), ""
	case match != "" && !exists:
		return 404, errorXML("NoSuchKey"), ""
	}
	if f.objects == nil {
		f.objects = map[string][]byte{}
	}
	f.objects[r.URL.Path] = body
	return 200, nil, tagOf(body)
}

func tagOf(b []byte) string {
	sum := md5.Sum(b)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

func errorXML(code string) []byte {
	return fmt.Appendf(nil, "<Error><Code>%s</Code><Message>as asked</Message></Error>", code)
}

const testBucket = "elasticbeanstalk-eu-west-1-123456789012"

// storeAt is a claimant of an S3 endpoint.
func storeAt(t testing.TB, endpoint, owner string) *Store {
	t.Helper()
	s, err := New(Config{
		Bucket: testBucket, Region: "us-east-1", Environment: "e-abc", Owner: owner, Endpoint: endpoint, Logger: planted.Log(t),
		Credentials: credentials.NewStaticCredentialsProvider(versity.AccessKey, versity.SecretKey, ""),
		Client:      &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.config.Client.CloseIdleConnections)
	return s
}
