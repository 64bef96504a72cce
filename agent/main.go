// Agent gives a web application on Elastic Beanstalk what it lost by leaving
// Heroku: scheduled commands and one-off commands with the application's own
// environment, memory metrics that can be alarmed on, and health checks that
// carry the right Host.
//
// This package reads the command line, wires the parts, and exits; the parts
// are under agent/internal. Begin reading at cmd_run.go.
package main

import (
	"os"
	_ "time/tzdata" // a job's zone must be known on a host without zone files
)

func main() {
	os.Exit(run(os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr}))
}
