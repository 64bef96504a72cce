package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"beanstalk-agent/agent/internal/api"
)

// arguments takes as many as the verb's synopsis names; those in brackets may be missing.
func arguments(c *cobra.Command, args []string) error {
	_, synopsis, _ := strings.Cut(c.Use, " ")
	names := strings.Fields(synopsis)
	least := len(slices.DeleteFunc(slices.Clone(names), func(s string) bool { return s[0] == '[' }))
	switch {
	case len(args) > len(names) && len(names) == 0:
		return fmt.Errorf("%s takes no arguments, have %q", c.CommandPath(), args[0])
	case len(args) > len(names):
		return fmt.Errorf("%s takes %s, have also %q", c.CommandPath(), synopsis, args[len(names)])
	case len(args) < least:
		return fmt.Errorf("%s needs %s", c.CommandPath(), synopsis)
	}
	return nil
}

// oneID takes one argument, which names something: an empty one would ask another route.
func oneID(c *cobra.Command, args []string) error {
	if err := arguments(c, args); err != nil {
		return err
	}
	return notEmpty(args)
}

// notEmpty refuses an argument that is empty: a script's variable was not set, and no argument means all.
func notEmpty(args []string) error {
	if len(args) > 0 && args[0] == "" {
		return errors.New("an empty id")
	}
	return nil
}

// flagError says in our words what is wrong with a flag.
func flagError(_ *cobra.Command, err error) error {
	if e, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		want := map[string]string{"duration": "a length of time such as 90s, 5m or 2h", "int": "a number",
			"bool": "true or false"}[e.GetFlag().Value.Type()]
		if want != "" {
			return fmt.Errorf("--%s: expected %s, have %q", e.GetFlag().Name, want, e.GetValue())
		}
	}
	if e, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return fmt.Errorf("--%s needs a value", e.GetFlag().Name)
	}
	if e, ok := errors.AsType[*pflag.NotExistError](err); ok && len(e.GetSpecifiedName()) == 1 {
		return fmt.Errorf("unknown flag: -%s", e.GetSpecifiedName())
	}
	return err
}

// newHelpCmd replaces cobra's, which takes a verb that does not exist for success.
func newHelpCmd(root *cobra.Command) *cobra.Command {
	return &cobra.Command{Use: "help [VERB…]", Short: "what a verb does, its flags and exit statuses",
		Args: cobra.ArbitraryArgs, RunE: func(_ *cobra.Command, args []string) error {
			c, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				err := fmt.Errorf("there is no verb %q", strings.Join(args, " "))
				return misuse(suggest(root, args, err))
			}
			return c.Help()
		}}
}

// helpPage has what a verb does in one sentence, then all about it.
const helpPage = `{{with .Short}}{{.}}

{{end}}{{with .Long}}{{.}}

{{end}}{{.UsageString}}`

// habits are what people type who come from another tool, and what does that here.
var habits = map[string]string{
	"bash": shell, "sh": shell, "shell": shell, "console": shell, "ssh": shell,
	"top": "agent ps", "ls": "agent ps", "list": "agent ps",
	"jobs": "agent cron list", "crontab": "agent cron list", "schedule": "agent cron list",
	"tail": "agent logs -f ID", "log": "agent logs ID", "printenv": "agent env",
	"memory": "agent metrics --once", "free": "agent metrics --once",
	"start": "sudo systemctl start agent", "restart": "sudo systemctl restart agent",
}

const shell = "agent exec -- bash"

// changing are verbs that are never guessed: who mistyped another would stop or start something.
var changing = []string{"stop", "hold", "release", "drain", "undrain", "reload", "install", "uninstall", "run", "pause",
	"resume"}

// suggest gives misuse a hint: the habit's way, or the verb that was probably meant, else the page of help.
func suggest(root *cobra.Command, args []string, err error) error {
	c, rest, _ := root.Find(args)
	if c == nil {
		c = root
	}
	e := &api.Error{Message: err.Error(), Hint: c.CommandPath() + " --help"}
	if len(rest) > 0 && c.ParseFlags(rest) == nil { // --socket and --config stand before a verb, too
		rest = c.Flags().Args()
	}
	if len(rest) == 0 {
		return e
	}
	if way := habits[rest[0]]; way != "" && (c == root || c.Name() == "run") {
		e.Hint = way
		return e
	}
	if !c.HasSubCommands() {
		return e
	}
	root.SuggestionsMinimumDistance, c.SuggestionsMinimumDistance = 2, 2
	names := slices.DeleteFunc(c.SuggestionsFor(rest[0]), func(s string) bool { return slices.Contains(changing, s) })
	if len(names) > 0 {
		before := c.CommandPath() + " "
		e.Hint = "did you mean: " + before + strings.Join(names, ", "+before)
	}
	return e
}
