package capacity

import "fmt"

// Print prints the advice for a terminal, 80 columns wide, ending in a newline.
func (a Advice) Print(printf func(format string, values ...any)) {
	printf("verdict       %s\n", a.Verdict)
	for _, why := range a.Why {
		printf("              %s\n", why)
	}
	printf("workers       %d now\n", a.Workers)
	if a.Verdict == NotWarm {
		return
	}
	printf("fit           %d at %s of the memory (%d if all were like the median)\n",
		a.Fit, percent(a.Target), a.FitBest)
	printf("a worker      %s of its own, the worst %s\n", size(a.PrivateMedian), size(a.PrivateWorst))
	printf("shared        %s, paid once\n", size(a.Shared))
	printf("others        %s\n", size(a.Others))
	if a.CPUFit > 0 {
		printf("cpu           good for %d such workers\n", a.CPUFit)
	}
	printf("bites first   %s\n", a.Bites)
	printf("with %-8d %s of the memory in use, every worker the worst\n", a.Advised, percent(a.Used))
	a.printSettings(printf)
}

func (a *Advice) printSettings(printf func(format string, values ...any)) {
	if len(a.Settings) == 0 {
		return
	}
	printf("\nto set (it restarts the application; each worker opens database connections of its own):\n")
	for _, s := range a.Settings {
		if s.Where == "Procfile" {
			printf("  in the Procfile, if its command has it:  %s %s\n", s.Name, s.Value)
			continue
		}
		printf("  option_settings:\n    %s:\n      %s: %s\n", s.Where, s.Name, s.Value)
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
