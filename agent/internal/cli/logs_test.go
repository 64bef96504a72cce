package cli

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"beanstalk-agent/agent/internal/runs"
)

// Reason: the application names its jobs. One that was named as a command's id was shown in its place, once the record of
// that was gone.
func TestLogsShowNoJobForACommand(t *testing.T) {
	jobs := map[string]string{"ckflj3d3": "ckflj3d3-20261130t180000z-1", "nightly": "nightly-20261130t180000z-1"}
	socket := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch q := r.URL.Query(); {
		case strings.HasSuffix(r.URL.Path, "/output"):
			w.Write([]byte("a job's output\n"))
		case r.URL.Path != "/v1/runs":
			w.WriteHeader(404)
			json.NewEncoder(w).Encode(map[string]any{"error": "there is no such run", "hint": "agent ps"})
		case jobs[q.Get("name")] != "":
			json.NewEncoder(w).Encode([]runs.Run{{ID: jobs[q.Get("name")]}})
		default:
			w.Write([]byte("[]"))
		}
	}))
	for name, want := range map[string]string{
		"nightly":  "a job's output\n",
		"ckflj3d3": "error: there is no such run\nhint: of the job of this name the newest run is ckflj3d3-20261130t180000z-1\n",
		"other":    "error: there is no such run\nhint: agent ps\n",
	} {
		if got := anSGR.ReplaceAllString(onPTY(t, []string{"--socket", socket, "logs", name}), ""); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}
