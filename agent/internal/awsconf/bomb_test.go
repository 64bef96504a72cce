package awsconf

import (
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"

	"beanstalk-agent/packaging/testbed/planted"
)

// What an answer claims to be is not what is allocated for it, and how deep it is nested is not how deep the stack gets.
func TestBombsInAnswersAreErrors(t *testing.T) {
	const huge = "\x00\x00\x01\x00\x00\x00\x00\x00" // 2^40
	for name, body := range map[string]string{
		"a list of 2^40":     "\x9b" + huge,
		"a map of 2^40":      "\xbb" + huge,
		"a text of 2^40":     "\x7b" + huge,
		"bytes of 2^40":      "\x5b" + huge,
		"nested lists":       strings.Repeat("\x81", 200_000),
		"nested maps":        strings.Repeat("\xa1\x61a", 200_000),
		"nested tags":        strings.Repeat("\xc1", 200_000),
		"lists without end":  strings.Repeat("\x9f", 200_000),
		"a list in the type": "\xa1\x66__type\x9b" + huge,
		"nothing":            "",
	} {
		for _, status := range []int{200, 400, 500} {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
				w.Header().Set("Content-Type", "application/cbor")
				w.WriteHeader(status)
				io.WriteString(w, body)
			}))
			a, err := New(Config{CloudWatchEndpoint: server.URL, Region: "eu-west-1",
				Getenv: env(map[string]string{"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": planted.Value})})
			if err != nil {
				t.Fatal(err)
			}
			c, err := a.CloudWatch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err = cloudwatch.NewFromConfig(c).ListMetrics(t.Context(), nil, func(o *cloudwatch.Options) { o.RetryMaxAttempts = 1 })
			runtime.ReadMemStats(&after)
			if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 64 {
				t.Errorf("%s with %d: %d MB were allocated", name, status, n)
			}
			if status != 200 && err == nil {
				t.Errorf("%s with %d is no error", name, status)
			}
			server.Close()
		}
	}
}
