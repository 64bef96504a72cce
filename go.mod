module beanstalk-agent

go 1.26.0

// Each direct dependency has its reason. All are the newest that build together;
// gopsutil, cron and godotenv the newest of their major version. The AWS modules
// share internal packages: take them up in one "go get", never one alone.
require (
	github.com/aws/aws-sdk-go-v2 v1.48.0 // metrics to CloudWatch, request signing for S3 claims
	github.com/aws/aws-sdk-go-v2/credentials v1.21.0 // the instance role's credentials, cached
	github.com/aws/aws-sdk-go-v2/feature/ec2/imds v1.20.9 // instance identity over IMDSv2
	github.com/aws/aws-sdk-go-v2/service/cloudwatch v1.76.0 // PutMetricData
	github.com/aws/smithy-go v1.28.9 // the SDK's error type; its protocol, run backwards, in the CloudWatch fake
	github.com/coreos/go-systemd/v22 v22.7.0 // readiness, watchdog, systemd over D-Bus
	github.com/creack/pty v1.1.24 // terminals in tests
	github.com/goccy/go-yaml v1.19.2 // configuration and cron.yaml: strict, with line and column
	github.com/joho/godotenv v1.5.1 // .env files; Beanstalk's own file is systemd grammar
	github.com/robfig/cron/v3 v3.0.1 // cron expressions and when they are next due
	github.com/rogpeppe/go-internal v1.16.0 // testscript: the command line, end to end
	github.com/shirou/gopsutil/v3 v3.24.5 // memory, load and disks of the host; other systems; a second opinion in tests
	github.com/spf13/cobra v1.10.2 // verbs, flags, completion
	github.com/spf13/pflag v1.0.9 // the types of cobra's errors of flags
	golang.org/x/sys v0.50.0 // what the kernel offers and the standard library does not name
	golang.org/x/term v0.48.0 // raw mode and window size
)

require (
	github.com/aws/aws-sdk-go-v2/internal/configsources v1.5.12 // indirect
	github.com/aws/aws-sdk-go-v2/internal/endpoints/v2 v2.8.12 // indirect
	github.com/go-ole/go-ole v1.2.6 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/lufia/plan9stats v0.0.0-20211012122336-39d0f177ccd0 // indirect
	github.com/power-devops/perfstat v0.0.0-20210106213030-5aafc221ea8c // indirect
	github.com/shoenig/go-m1cpu v0.1.6 // indirect
	github.com/tklauser/go-sysconf v0.3.12 // indirect
	github.com/tklauser/numcpus v0.6.1 // indirect
	github.com/yusufpapurcu/wmi v1.2.4 // indirect
	golang.org/x/tools v0.26.0 // indirect
)
