// Command fakecloudwatch serves the CloudWatch fake on one address, for demonstrations and for tests of whole hosts.
//
//	go run ./packaging/testbed/fakecloudwatch -listen 127.0.0.1:4566
//	AWS_ENDPOINT_URL_CLOUDWATCH=http://127.0.0.1:4566 agent run
//	aws --endpoint-url http://127.0.0.1:4566 cloudwatch list-metrics
//	curl -X POST 'http://127.0.0.1:4566/-/fault?kind=throttle&n=3'
//
// It prints the address it listens on. What the fake cannot prove is said in its package.
package main

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"

	"beanstalk-agent/packaging/testbed/cloudwatchfake"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to serve on")
	flag.Parse()
	l, err := net.Listen("tcp", *listen)
	if err == nil {
		fmt.Printf("http://%s\n", l.Addr())
		err = http.Serve(l, &cloudwatchfake.Server{})
	}
	fmt.Fprintln(os.Stderr, "error:", err)
	os.Exit(1)
}
