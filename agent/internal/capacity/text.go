package capacity

import (
	"fmt"
	"strings"
)

// Text renders the advice for a terminal, 80 columns wide, ending in a newline.
func (a Advice) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "verdict       %s\n", a.Verdict)
	for _, why := range a.Why {
		fmt.Fprintf(&b, "              %s\n", why)
	}
	fmt.Fprintf(&b, "workers       %d now\n", a.Workers)
	if a.Verdict == NotWarm {
		return b.String()
	}
	fmt.Fprintf(&b, "fit           %d at %s of the memory (%d if all were like the median)\n",
		a.Fit, percent(a.Target), a.FitBest)
	fmt.Fprintf(&b, "a worker      %s of its own, the worst %s\n", size(a.PrivateMedian), size(a.PrivateWorst))
	fmt.Fprintf(&b, "shared        %s, paid once\n", size(a.Shared))
	fmt.Fprintf(&b, "others        %s\n", size(a.Others))
	if a.CPUFit > 0 {
		fmt.Fprintf(&b, "cpu           good for %d such workers\n", a.CPUFit)
	}
	fmt.Fprintf(&b, "bites first   %s\n", a.Bites)
	fmt.Fprintf(&b, "with %-8d %s of the memory in use, every worker the worst\n", a.Advised, percent(a.Used))
	a.writeSettings(&b)
	return b.String()
}

func (a *Advice) writeSettings(b *strings.Builder) {
	if len(a.Settings) == 0 {
		return
	}
	b.WriteString("\nto set (it restarts the application; each worker opens database connections of its own):\n")
	for _, s := range a.Settings {
		if s.Where == "Procfile" {
			fmt.Fprintf(b, "  in the Procfile, if its command has it:  %s %s\n", s.Name, s.Value)
			continue
		}
		fmt.Fprintf(b, "  option_settings:\n    %s:\n      %s: %s\n", s.Where, s.Name, s.Value)
	}
}

func percent(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }

func size(bytes uint64) string {
	switch {
	case bytes >= 10<<30:
		return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
	case bytes >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(bytes)/(1<<30))
	}
	return fmt.Sprintf("%.0f MiB", float64(bytes)/(1<<20))
}
