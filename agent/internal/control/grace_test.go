package control

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/runs"
)

// Whoever may start and stop runs decides no longer than runs.MaxGrace when they end.
func TestOnlyRootMayGiveALongGrace(t *testing.T) {
	s := &Server{}
	for name, route := range map[string]func(*call) error{"exec": s.exec, "stop": s.stop} {
		for _, grace := range []time.Duration{-1, runs.MaxGrace + 1, 1000 * time.Hour} {
			body := strings.NewReader(fmt.Sprintf(`{"grace":%d}`, grace))
			c := &call{Caller: api.Caller{UID: 1000}, r: httptest.NewRequest("POST", "/v1/runs", body)}
			if err := answerOf(route, c); err == nil || !strings.Contains(err.Error(), "expected 0s to 10m") {
				t.Errorf("%s, %s: %v", name, grace, err)
			}
		}
	}
}

// answerOf is the answer of a route that has no backend: going further is an error of another text.
func answerOf(route func(*call) error, c *call) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it went on: %v", p)
		}
	}()
	return route(c)
}
