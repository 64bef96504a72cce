package scheduler

import (
	"os"
	"strings"
	"testing"
)

// The document names every key there is, and its example is a good file.
func TestDocument(t *testing.T) {
	b, err := os.ReadFile("../packaging/docs/cron.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	for key := range jobKeys {
		if !strings.Contains(doc, "`"+key+"`") {
			t.Errorf("cron.md does not name %s", key)
		}
	}
	_, rest, _ := strings.Cut(doc, "```yaml\n")
	example, _, _ := strings.Cut(rest, "```")
	table, err := Parse("cron.yaml", []byte(example), ParseOptions{})
	if err != nil || len(table.Jobs) != 2 || len(table.Warnings) > 0 {
		t.Errorf("its example: %d jobs, %v, %v", len(table.Jobs), table.Warnings, err)
	}
}
