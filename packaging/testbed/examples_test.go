package testbed

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// example reads a .config file of packaging/examples.
func example(t *testing.T, path string) map[string]any {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return config
}

// walk calls visit with every mapping of a document.
func walk(node any, visit func(map[string]any)) {
	switch n := node.(type) {
	case map[string]any:
		visit(n)
		for _, child := range n {
			walk(child, visit)
		}
	case []any:
		for _, child := range n {
			walk(child, visit)
		}
	}
}

// dashboardBody joins a dashboard's body with a word in place of each reference.
func dashboardBody(t *testing.T, body any) map[string]any {
	t.Helper()
	var text strings.Builder
	for _, part := range body.(map[string]any)["Fn::Join"].([]any)[1].([]any) {
		if s, ok := part.(string); ok {
			text.WriteString(s)
		} else {
			text.WriteString("REFERENCE")
		}
	}
	var parsed map[string]any
	if err := json.Unmarshal([]byte(text.String()), &parsed); err != nil {
		t.Fatalf("the dashboard's body is no JSON: %v\n%s", err, text.String())
	}
	return parsed
}

// exampleMetrics lists the agent's metrics that the examples name, each as its name
// and the names of its dimensions.
func exampleMetrics(t *testing.T) []string {
	t.Helper()
	var all []string
	paths, _ := filepath.Glob("../examples/*.config")
	for _, path := range paths {
		walk(example(t, path), func(m map[string]any) {
			if m["Namespace"] == "BeanstalkAgent" {
				line := m["MetricName"].(string)
				for _, d := range m["Dimensions"].([]any) {
					line += " " + d.(map[string]any)["Name"].(string)
				}
				all = append(all, line)
			}
			if body, ok := m["DashboardBody"]; ok {
				all = append(all, widgetMetrics(dashboardBody(t, body))...)
			}
		})
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// widgetMetrics reads the lists ["BeanstalkAgent", metric, dimension, value, …].
func widgetMetrics(body map[string]any) []string {
	var all []string
	walk(body, func(m map[string]any) {
		lists, _ := m["metrics"].([]any)
		for _, l := range lists {
			list := l.([]any)
			if list[0] != "BeanstalkAgent" {
				continue
			}
			line := list[1].(string)
			for n := 2; n+1 < len(list); n += 2 {
				line += " " + list[n].(string)
			}
			all = append(all, line)
		}
	})
	return all
}

// sends checks that what the examples watch is what the agent sends: an alarm on a
// name or a dimension that nobody sends is silent for ever. The jobs' figures are
// there at the first sample after the agent has read the new cron file.
func (b *box) sends(t *testing.T, instance string) {
	watched := exampleMetrics(t)
	if len(watched) < 10 {
		t.Fatalf("the examples name only %q", watched)
	}
	// Not sent before a worker is ten minutes old. That it is made at all, and
	// bears no further dimension, is for the agent's own tests.
	watched = slices.DeleteFunc(watched, func(w string) bool { return w == "worker_headroom EnvironmentName" })
	var sent, missing []string
	defer func() {
		if len(missing) > 0 {
			t.Errorf("examples watch %q; sent is\n%s", missing, strings.Join(sent, "\n"))
		}
	}()
	wait(t, "the agent sends what the examples watch", func() bool {
		sent = b.sent(t, instance)
		missing = slices.DeleteFunc(slices.Clone(watched), func(w string) bool { return slices.Contains(sent, w) })
		return len(missing) == 0
	})
}

// sent lists what the agent sends, each as its name and the names of its dimensions.
func (b *box) sent(t *testing.T, instance string) (lines []string) {
	var payload struct {
		Datums []struct {
			Name       string
			Dimensions map[string]string
		}
	}
	text := b.On(instance, "agent metrics --once --json")
	if err := json.Unmarshal([]byte(text), &payload); err != nil {
		t.Fatalf("agent metrics --once --json: %v\n%s", err, text)
	}
	for _, d := range payload.Datums {
		line := d.Name
		for _, name := range slices.Sorted(maps.Keys(d.Dimensions)) {
			line += " " + name
		}
		lines = append(lines, line)
	}
	return lines
}

// Every name that a Ref or a GetAtt uses is in the same file, or one of the names
// that Beanstalk's own template is documented to have.
func TestExamplesReferToWhatThereIs(t *testing.T) {
	known := []string{"AWSEBEnvironmentName", "AWSEBAutoScalingGroup", "AWSEBV2LoadBalancer", "AWS::Region"}
	paths, _ := filepath.Glob("../examples/*.config")
	if len(paths) < 5 {
		t.Fatalf("only %q", paths)
	}
	for _, path := range paths {
		config := example(t, path)
		resources, _ := config["Resources"].(map[string]any)
		walk(config, func(m map[string]any) {
			name, _ := m["Ref"].(string)
			if get, ok := m["Fn::GetAtt"].([]any); ok {
				name = get[0].(string)
			}
			if name != "" && resources[name] == nil && !slices.Contains(known, name) {
				t.Errorf("%s refers to %s", path, name)
			}
			if _, ok := m["Fn::Sub"]; ok {
				t.Errorf("%s uses Fn::Sub, which Beanstalk does not know", path)
			}
		})
	}
}

// The scripts of the workflow are read by the shell that runs them there.
func TestWorkflowIsReadByBash(t *testing.T) {
	scripts := 0
	walk(example(t, "../examples/github-deploy.yml"), func(m map[string]any) {
		script, ok := m["run"].(string)
		if !ok {
			return
		}
		scripts++
		cmd := exec.CommandContext(t.Context(), "bash", "-n")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%v: %s\n%s", err, out, script)
		}
	})
	if scripts < 3 {
		t.Errorf("it has %d scripts", scripts)
	}
}

// The statement is in many places; a person copies whichever is nearest, and twice
// copied it must be one policy.
func TestPolicyIsTheSameEverywhere(t *testing.T) {
	var policy bytes.Buffer
	if err := json.Compact(&policy, read(t, "../examples/metrics-policy.json")); err != nil {
		t.Fatal(err)
	}
	line := "aws iam put-role-policy --role-name aws-elasticbeanstalk-ec2-role --policy-name beanstalk-agent-metrics --policy-document '" +
		policy.String() + "'"
	joined := regexp.MustCompile("` \\+\n\t+`") // a long string, over several lines of source
	for _, path := range []string{"../../README.md", "../../.ebextensions/agent.config", "../docs/install.md",
		"../../agent/internal/cloudwatch/wire_test.go"} { // which says what status says
		if !strings.Contains(joined.ReplaceAllString(string(read(t, path)), ""), line) {
			t.Errorf("%s does not have the line\n%s", path, line)
		}
	}
}
