// Floor links the libraries that the agent links, builds a CloudWatch client,
// and sleeps: what a program with these libraries costs before it does anything.
package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	_ "github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	_ "github.com/goccy/go-yaml"
	_ "github.com/joho/godotenv"
	"github.com/robfig/cron/v3"
	_ "github.com/shirou/gopsutil/v3/process"
	_ "github.com/spf13/cobra"
)

func main() {
	runtime.GOMAXPROCS(1)
	client := cloudwatch.NewFromConfig(aws.Config{Region: "eu-west-1"})
	entries := cron.New()
	debug.FreeOSMemory()
	fmt.Println("ready")
	time.Sleep(24 * time.Hour)
	runtime.KeepAlive(client)
	runtime.KeepAlive(entries)
}
