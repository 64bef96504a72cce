package platform

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"beanstalk-agent/packaging/testbed/planted"
)

// TestAnAgentOlderThanTheFirstDeploymentLearnsOfIt: .ebextensions start the agent before the engine has written what
// the instance is, and before there is a web process.
func TestAnAgentOlderThanTheFirstDeploymentLearnsOfIt(t *testing.T) {
	root := tree(t, map[string]string{"/opt/elasticbeanstalk/bin/x": ""})
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		i := NewInstance(t.Context(), Options{Root: root})
		if f := i.Facts(); !f.Beanstalk || f.WebUnit != "" || f.EnvironmentName != "" {
			t.Fatalf("before: %+v", f)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			i.Run(t.Context(), planted.Log(t, &out))
		}()
		<-i.Identified()
		time.Sleep(time.Hour) // in the bubble
		for name, text := range al2023 {
			name = strings.TrimSuffix(name, "!")
			if strings.Contains(name, "get-config") {
				continue
			}
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if f := i.Facts(); f.WebUnit != "web.service" || f.AppPort != 8000 {
			t.Errorf("after the deployment, at once: %+v", f)
		}
		<-done
		if f := i.Facts(); f.EnvironmentName != "shop-prod" || f.WebUnit != "web.service" || f.InstanceID != "i-0abc" {
			t.Errorf("after the deployment: %+v", f)
		}
		if n := strings.Count(out.String(), "\n"); n != 2 {
			t.Errorf("%d lines were logged:\n%s", n, out.String())
		}
	})
}
