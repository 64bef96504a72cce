package cli

import "testing"

// A person gets memory in megabytes and no digits without meaning.
func TestFigure(t *testing.T) {
	for _, tt := range []struct {
		value float64
		unit  string
		want  string
	}{
		{14494720, "Bytes", "13.8 MB"}, {-14494720, "Bytes", "-13.8 MB"}, {3 << 20, "Bytes/Second", "3.0 MB"}, {1000, "Bytes", "1000"},
		{14494720, "Count", "14494720"}, {7.2986561, "Percent", "7.299"}, {0, "Percent", "0"}, {1234.5, "Milliseconds", "1234"},
	} {
		if got := figure(tt.value, tt.unit); got != tt.want {
			t.Errorf("%v %s: got %q, want %q", tt.value, tt.unit, got, tt.want)
		}
	}
}
