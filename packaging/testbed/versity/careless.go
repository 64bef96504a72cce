package versity

import (
	"crypto/md5"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// Careless is a store that ignores conditions: the negative control, against which whatever relies on them must be seen
// to fail. It checks no signature and knows get and put alone.
func Careless(t testing.TB) string {
	t.Helper()
	var mu sync.Mutex
	objects := map[string][]byte{}
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if r.Method == http.MethodPut {
			objects[r.URL.Path] = body
		}
		object, ok := objects[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, "<Error><Code>NoSuchKey</Code></Error>")
			return
		}
		sum := md5.Sum(object)
		w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:])+`"`)
		if r.Method == http.MethodGet {
			w.Write(object)
		}
	}))
	t.Cleanup(h.Close)
	return h.URL
}
