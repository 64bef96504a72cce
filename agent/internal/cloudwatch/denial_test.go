package cloudwatch

import (
	"strings"
	"testing"

	"github.com/aws/smithy-go"
)

// The forms are those of the IAM User Guide, "Troubleshoot access denied error messages". A statement of the role's own
// policy is missing in one of them; in all others it would change nothing.
func TestDenialSaysWhy(t *testing.T) {
	const who = "User: arn:aws:sts::123456789012:assumed-role/web/i-0abc is not authorized to perform: cloudwatch:PutMetricData"
	for why, helps := range map[string]bool{
		"because no identity-based policy allows the cloudwatch:PutMetricData action":     true,
		"because no permissions boundary allows the cloudwatch:PutMetricData action":      false,
		"because no service control policy allows the cloudwatch:PutMetricData action":    false,
		"because no session policy allows the cloudwatch:PutMetricData action":            false,
		"because no VPC endpoint policy allows the cloudwatch:PutMetricData action":       false,
		"with an explicit deny in an identity-based policy":                               false,
		"with an explicit deny in a service control policy":                               false,
		"with an explicit deny in a resource control policy: arn:aws:organizations::1:p1": false,
		"": true,
	} {
		err := &smithy.GenericAPIError{Code: "AccessDenied", Message: strings.TrimSpace(who + " " + why)}
		got := sentence(denied, "BeanstalkAgent", err)
		if !strings.HasPrefix(got, "kept locally, not sent: role web may not PutMetricData") ||
			!helps && !strings.Contains(got, why) || strings.Contains(got, "put-role-policy --role-name web ") != helps {
			t.Errorf("%q: %s", why, got)
		}
	}
	// a role with a name such as CloudFormation makes: which policy denies is at the very end
	long := strings.Replace(who, "web", "awseb-e-3kz8pdmwxy-stack-AWSEBInstanceProfileRole-1ABCDEFGHIJ0", 1) +
		" with an explicit deny in a service control policy: "
	const policy = "arn:aws:organizations::210987654321:policy/o-a1b2c3d4e5/service_control_policy/p-0f9e8d7c"
	got := sentence(denied, "N", &smithy.GenericAPIError{Code: "AccessDenied", Message: long + policy})
	if !strings.Contains(got, policy+")") {
		t.Error(got)
	}
	got = sentence(denied, "N", &smithy.GenericAPIError{Code: "OptInRequired", Message: "The AWS Access Key Id needs a subscription"})
	if !strings.Contains(got, "needs a subscription") || strings.Contains(got, "put-role-policy") {
		t.Error(got)
	}
}

// What AWS says is printed escaped and within limits, without the request that was signed: it has the session's token.
func TestMessageOfAWSIsBoundedAndHasNoToken(t *testing.T) {
	for code, v := range map[string]verdict{"SignatureDoesNotMatch": refused, "AccessDenied": denied, "InvalidFormat": invalid} {
		err := &smithy.GenericAPIError{Code: code, Message: "does not match because \x1b[31m\u202e" + strings.Repeat("x", 4<<10) +
			"\n\nThe Canonical String for this request should have been\n'POST\nx-amz-security-token:TOKEN"}
		got := sentence(v, "N", err)
		if strings.Contains(got, "TOKEN") || strings.ContainsAny(got, "\x1b\n\u202e") || len(got) > 800 ||
			!strings.Contains(got, "does not match") && v != denied {
			t.Errorf("%s: %d bytes: %q", code, len(got), got)
		}
	}
}
