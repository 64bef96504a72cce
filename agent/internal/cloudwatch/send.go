package cloudwatch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"regexp"
	"strings"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/smithy-go"
)

// API is the part of the SDK's client that is used.
type API interface {
	PutMetricData(context.Context, *sdk.PutMetricDataInput, ...func(*sdk.Options)) (*sdk.PutMetricDataOutput, error)
}

// verdict is the result of one attempt.
type verdict int

const (
	delivered   verdict = iota
	unreachable         // nothing was sent: no name, no connection, no credentials
	ambiguous           // bytes were sent, and no answer says whether they were applied
	throttled           // refused for now; nothing was applied
	denied              // refused until a policy changes
	invalid             // refused for the content of one of the datums
	refused             // refused for another reason
)

// attempt sends in once. Whether bytes were sent is observed, not derived from the error: its form is no contract, and
// a datum that may be sent twice must be counted.
func attempt(ctx context.Context, api API, in *sdk.PutMetricDataInput) (verdict, error) {
	var wrote atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { wrote.Store(true) }})
	_, err := api.PutMetricData(ctx, in)
	return judge(err, wrote.Load()), err
}

// judge classifies the end of an attempt. Every 4xx says that nothing was applied, except 408: the server did not
// receive the whole request.
func judge(err error, wrote bool) verdict {
	if err == nil {
		return delivered
	}
	status := 0
	if answer, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		status = answer.HTTPStatusCode()
	}
	code := errorCode(err)
	_, throttle := retry.DefaultThrottleErrorCodes[code]
	switch {
	case status != 0 && throttle || status == http.StatusTooManyRequests:
		return throttled
	case status >= 400 && status < 500 && status != http.StatusRequestTimeout:
		return judgeRefusal(status, code)
	case wrote:
		return ambiguous
	}
	return unreachable
}

func judgeRefusal(status int, code string) verdict {
	switch code {
	case "AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "NotAuthorized",
		"OptInRequired":
		return denied
	case "InvalidParameterValue", "InvalidParameterValueException", "InvalidParameterCombination",
		"InvalidParameterCombinationException", "MissingParameter", "MissingRequiredParameterException",
		"InvalidFormat", "ValidationError", "ValidationException", "SerializationException", "MalformedInput":
		return invalid
	}
	if status == http.StatusRequestEntityTooLarge {
		return invalid
	}
	return refused
}

func errorCode(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return ""
}

// sentence tells an operator why the metrics are not sent and what to do about it.
func sentence(v verdict, namespace string, err error) string {
	switch v {
	case denied:
		return denial(namespace, err)
	case throttled:
		return "kept locally, not sent yet: CloudWatch is throttling this account (PutMetricData); " +
			"the agent tries again by itself"
	case unreachable:
		return fmt.Sprintf("kept locally, not sent yet: cannot reach CloudWatch: %v", cause(err))
	case ambiguous:
		return fmt.Sprintf("kept locally, not known to be sent: no good answer from CloudWatch: %v", cause(err))
	case invalid:
		return fmt.Sprintf("CloudWatch refuses: %v; if it refuses everything, check this instance's clock", cause(err))
	}
	switch errorCode(err) {
	case "InvalidClientTokenId", "UnrecognizedClientException", "ExpiredToken", "ExpiredTokenException",
		"SignatureDoesNotMatch", "InvalidSignatureException", "MissingAuthenticationToken", "IncompleteSignature":
		return fmt.Sprintf("kept locally, not sent: CloudWatch does not accept the agent's credentials: %v; "+
			"check the instance's role, or AWS_ACCESS_KEY_ID of the agent's own service", cause(err))
	case "RequestExpired", "RequestTimeTooSkewed", "RequestInTheFuture":
		return fmt.Sprintf("kept locally, not sent yet: this instance's clock is wrong: %v; check chronyd", cause(err))
	}
	return fmt.Sprintf("kept locally, not sent: CloudWatch refuses: %v", cause(err))
}

// AWS names it: arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION or arn:aws:iam::ACCOUNT:user/PATH/USER.
var deniedPrincipal = regexp.MustCompile(`:(assumed-role|user)/([\w+=,.@/-]{1,600})`)

// denial names the role and AWS's reason, and where a statement is missing the command that adds the one permission
// needed, limited to the namespace. A statement changes nothing about an explicit deny, a boundary, or a policy of the
// organization (IAM User Guide, "Troubleshoot access denied error messages"). An answer without a reason, as services
// gave until 2021, has the likeliest: a missing statement.
func denial(namespace string, err error) string {
	kind, name, reason := "role", "the instance's role", ""
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		message := plainLine(api.ErrorMessage())
		if m := deniedPrincipal.FindStringSubmatch(message); m != nil {
			parts := strings.Split(strings.TrimRight(m[2], "/."), "/")
			kind, name = "user", parts[len(parts)-1]
			if m[1] == "assumed-role" {
				kind, name = "role", parts[0]
			}
		}
		if at := deniedReason.FindStringIndex(message); at != nil {
			reason = cut(message[at[0]:]) // it ends with the policy's ARN
		} else if api.ErrorCode() == "OptInRequired" {
			reason = cut(message)
		}
	}
	shown := name
	if strings.Contains(name, " ") {
		name = "ROLE"
	} else {
		shown = kind + " " + name
	}
	what := fmt.Sprintf("kept locally, not sent: %s may not PutMetricData", shown)
	if reason != "" && !strings.Contains(reason, "no identity-based policy allows") {
		return fmt.Sprintf("%s (AWS: %s); a statement of the role's own policy does not help: "+
			"whoever set this has to change it", what, reason)
	}
	return fmt.Sprintf("%s; run: aws iam put-%s-policy --%s-name %s "+
		"--policy-name beanstalk-agent-metrics --policy-document '%s'", what, kind, kind, name, Policy(namespace))
}

// deniedReason begins AWS's reason.
var deniedReason = regexp.MustCompile(`\b(because|with an explicit deny)\b`)

// maxMessage is how much of AWS's message is repeated, in bytes.
const maxMessage = 300

// firstLine is the part of AWS's message that is repeated, escaped.
func firstLine(message string) string { return cut(plainLine(message)) }

// plainLine is the first line, escaped. The lines after it can be the request that was signed, with the session's token
// (SignatureDoesNotMatch).
func plainLine(message string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(message), "\n")
	return clean(strings.TrimSpace(line))
}

func cut(line string) string {
	if len(line) > maxMessage {
		return line[:maxMessage] + "..."
	}
	return line
}

// Policy is the one IAM statement that publishing needs. PutMetricData has no resources: the condition limits it.
func Policy(namespace string) string {
	return fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"cloudwatch:PutMetricData",`+
		`"Resource":"*","Condition":{"StringEquals":{"cloudwatch:namespace":%q}}}]}`, namespace)
}

// cause is the innermost part of an SDK error that still explains it: the service's answer or the network's error,
// without the operation and the layers around it.
func cause(err error) error {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return fmt.Errorf("%s: %s", clean(api.ErrorCode()), firstLine(api.ErrorMessage()))
	}
	if answer, ok := errors.AsType[*awshttp.ResponseError](err); ok && answer.HTTPStatusCode() != 0 {
		return fmt.Errorf("status %d", answer.HTTPStatusCode())
	}
	if send, ok := errors.AsType[interface {
		error
		ConnectionError() bool
		Unwrap() error
	}](err); ok {
		return send.Unwrap()
	}
	return err
}
