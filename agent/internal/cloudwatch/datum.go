package cloudwatch

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
)

// Limits of PutMetricData. One datum beyond a limit fails the whole request, so each is enforced before sending.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html and API_MetricDatum.html
const (
	maxDatums     = 1000
	maxBody       = 1 << 20
	maxDimensions = 30
	maxValues     = 150
	maxName       = 255  // of a namespace, metric or dimension
	maxDimValue   = 1024 // of a dimension's value
	oldest        = 14 * 24 * time.Hour
	furthest      = 2 * time.Hour // ahead
)

var (
	maxMagnitude = math.Ldexp(1, 360)
	minMagnitude = math.Ldexp(1, -360)
)

// Payload is what one publish sends.
type Payload struct {
	Namespace string  `json:"namespace"`
	Datums    []Datum `json:"datums"`
}

// Datum is one series over one interval.
type Datum struct {
	Name       string            `json:"name"`
	Unit       string            `json:"unit"`
	Dimensions map[string]string `json:"dimensions"`
	Value      float64           `json:"value"`  // the mean
	Values     []float64         `json:"values"` // distinct, ascending, at most 150
	Counts     []float64         `json:"counts"` // how often each occurred
}

type dimension struct{ name, value string }
type dimensions []dimension

var units = func() map[string]bool {
	m := map[string]bool{}
	for _, u := range types.StandardUnit("").Values() {
		m[string(u)] = true
	}
	return m
}()

// badNamespace, badName, badDimensionName, badDimensionValue and badUnit return why CloudWatch would refuse, or "".
func badNamespace(s string) string {
	if strings.HasPrefix(s, "AWS/") {
		return "the prefix AWS/ is for Amazon's own"
	}
	if strings.HasPrefix(s, ":") {
		return "it must not begin with a colon"
	}
	return badText(s, maxName)
}

func badName(s string) string { return badText(s, maxName) }

func badDimensionName(s string) string {
	if strings.HasPrefix(s, ":") {
		return "it must not begin with a colon"
	}
	return badText(s, maxName)
}

func badDimensionValue(s string) string { return badText(s, maxDimValue) }

func badUnit(s string) string {
	if !units[s] {
		return "CloudWatch has no such unit"
	}
	return ""
}

func badText(s string, limit int) string {
	switch {
	case strings.TrimSpace(s) == "":
		return "it must not be empty"
	case len(s) > limit:
		return "it is longer than " + strconv.Itoa(limit) + " bytes"
	case strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII || r < ' ' || r == 0x7f }):
		return "it must be printable ASCII"
	}
	return ""
}

// clean makes any text printable ASCII. Other characters become Go's escapes, so that different names stay different.
func clean(s string) string {
	plain := func(r rune) bool { return r >= ' ' && r < 0x7f }
	if !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	q := strconv.QuoteToASCII(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// badValue returns why CloudWatch would refuse v, or "".
func badValue(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "not a number"
	case math.Abs(v) > maxMagnitude:
		return "out of range"
	}
	return ""
}

// zeroTiny turns a value below the documented range into zero. The lower end of that range is documented less clearly
// than the upper one.
func zeroTiny(v float64) float64 {
	if math.Abs(v) < minMagnitude {
		return 0
	}
	return v
}

// size is an upper bound for d in a request, in bytes: keys and heads, texts, 9 bytes a number.
func (d Datum) size() int {
	n := 128 + len(d.Name) + len(d.Unit) + 18*len(d.Values)
	for k, v := range d.Dimensions {
		n += 24 + len(k) + len(v)
	}
	return n
}

// input is the request that sends ds with the timestamp at.
func input(namespace string, at time.Time, ds []Datum) *sdk.PutMetricDataInput {
	in := &sdk.PutMetricDataInput{Namespace: &namespace, MetricData: make([]types.MetricDatum, len(ds))}
	for i := range ds {
		d, m := &ds[i], &in.MetricData[i]
		m.MetricName, m.Unit, m.Timestamp = &d.Name, types.StandardUnit(d.Unit), &at
		if len(d.Values) == 1 && d.Counts[0] == 1 {
			m.Value = &d.Values[0]
		} else {
			m.Values, m.Counts = d.Values, d.Counts
		}
		for _, name := range sortedKeys(d.Dimensions) {
			value := d.Dimensions[name]
			m.Dimensions = append(m.Dimensions, types.Dimension{Name: &name, Value: &value})
		}
	}
	return in
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
