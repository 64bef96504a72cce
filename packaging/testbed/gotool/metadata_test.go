package gotool

import (
	"net/http"
	"sync"
	"testing"
)

// An agent asks for its identity and for notices at the same moment, and many agents may share a mock.
func TestMetadataAnswersManyAtOnce(t *testing.T) {
	url := Metadata(t, nil)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				req, err := http.NewRequest(http.MethodPut, url+"/latest/api/token", nil)
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("X-aws-ec2-metadata-token-ttl-seconds", "60")
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
			}
		})
	}
	wg.Wait()
}
