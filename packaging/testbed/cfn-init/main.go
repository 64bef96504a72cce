// Command cfn-init does on the instance in a box what AWS's tool of that name does
// on an instance: it carries out the keys of .ebextensions, in the order and with
// the faults that were measured of AWS's own (1.4-31, and 2.x for systemd).
//
// It proves that our files stand what the real tool does to them: a fixed order
// whatever the file says, commands sorted as strings, a test that skips silently,
// "env" that replaces the environment, no time limit, a background child that
// holds the output open hanging the deployment, "files:" that renames what is there
// to NAME.bak and takes a short body for success. It cannot prove what Elastic
// Beanstalk's service does with a file before that: which keys it lets through is
// known from its documentation only. packages, sources and service managers other
// than systemd are not carried out: they end it with an error that says so.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"time"
)

func main() { os.Exit(run(os.Args[1:], os.Stderr)) }

func run(args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet("cfn-init", flag.ContinueOnError)
	flags.SetOutput(stderr)
	compile := flags.String("compile", "", "read the .config files of `DIR` and write --metadata")
	leader := flags.Bool("leader", true, "with --compile: whether leader_only commands are for this instance")
	metadata := flags.String("metadata", "/var/lib/cfn-init/data/metadata.json", "`FILE` of the stack's metadata")
	configset := flags.String("configsets", "", "carry out this `SET`")
	logs := flags.String("logs", "/var/log", "`DIR` of cfn-init.log and cfn-init-cmd.log")
	for _, ignored := range []string{"s", "r", "region"} { // Beanstalk passes them
		flags.String(ignored, "", "")
	}
	if err := flags.Parse(args); err != nil {
		return 2
	}
	var err error
	if *compile != "" {
		err = compileTo(*metadata, *compile, *leader)
	} else {
		err = carryOut(*metadata, *configset, *logs)
	}
	if err != nil {
		fmt.Fprintln(stderr, "cfn-init:", err)
		return 1
	}
	return 0
}

func compileTo(metadata, dir string, leader bool) error {
	m, err := Compile(dir, leader)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(metadata, data, 0o600)
}

func carryOut(metadata, set, logs string) error {
	data, err := os.ReadFile(metadata)
	if err != nil {
		return err
	}
	var m Metadata
	if err := json.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("read %q: %w", metadata, err)
	}
	logFile, err := os.OpenFile(logs+"/cfn-init.log", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer logFile.Close()
	output, err := os.OpenFile(logs+"/cfn-init-cmd.log", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer output.Close()
	i := Init{Log: log.New(logFile, "", log.LstdFlags), Output: output, Pause: 2250 * time.Millisecond} // 9 s in all, as measured
	return i.Run(m, set)
}
