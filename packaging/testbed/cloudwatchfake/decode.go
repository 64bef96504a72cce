package cloudwatchfake

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/smithy-go/encoding/cbor"
)

// decodePut reads the body of a PutMetricData out of plain CBOR, not through the SDK's own schemas: a mistake that the
// client's encoder and its decoder share would not be seen. A member it does not know is an error.
func decodePut(v cbor.Value) (points []Point, err error) {
	defer func() {
		if e, ok := recover().(wrongShape); ok {
			points, err = nil, fmt.Errorf("%s", string(e))
		}
	}()
	var namespace string
	for k, v := range asMap(v) {
		switch k {
		case "Namespace":
			namespace = asString(v)
		case "MetricData":
			for _, d := range asList(v) {
				points = append(points, decodeDatum(d))
			}
		case "EntityMetricData":
			for _, e := range asList(v) {
				for _, d := range asList(asMap(e)["MetricData"]) {
					points = append(points, decodeDatum(d))
				}
			}
		case "StrictEntityValidation":
		default:
			panic(wrongShape("unknown member " + k))
		}
	}
	for i := range points {
		points[i].Namespace = namespace
	}
	return points, nil
}

type wrongShape string

func decodeDatum(v cbor.Value) Point {
	p := Point{Resolution: 60}
	for k, v := range asMap(v) {
		switch k {
		case "MetricName":
			p.Name = asString(v)
		case "Unit":
			p.Unit = asString(v)
		case "Value":
			p.Values, p.Counts = []float64{asFloat(v)}, []float64{1}
		case "Values":
			p.Values = asFloats(v)
		case "Counts":
			p.Counts = asFloats(v)
		case "StorageResolution":
			p.Resolution = int(asFloat(v))
		case "Timestamp":
			p.Time = asTime(v)
		case "Dimensions":
			p.Dimensions = asDimensions(v)
		case "StatisticValues": // accepted and not used: the agent never sends it
			asMap(v)
		default:
			panic(wrongShape("unknown member " + k))
		}
	}
	if len(p.Counts) == 0 {
		p.Counts = slices.Repeat([]float64{1}, len(p.Values))
	}
	return p
}

func asMap(v cbor.Value) cbor.Map {
	m, ok := v.(cbor.Map)
	if !ok {
		panic(wrongShape(fmt.Sprintf("%T where a map belongs", v)))
	}
	return m
}

func asList(v cbor.Value) cbor.List {
	l, ok := v.(cbor.List)
	if !ok {
		panic(wrongShape(fmt.Sprintf("%T where a list belongs", v)))
	}
	return l
}

func asString(v cbor.Value) string {
	s, ok := v.(cbor.String)
	if !ok {
		panic(wrongShape(fmt.Sprintf("%T where a text belongs", v)))
	}
	return string(s)
}

func asFloat(v cbor.Value) float64 {
	switch v := v.(type) {
	case cbor.Float64:
		return float64(v)
	case cbor.Float32:
		return float64(v)
	case cbor.Uint:
		return float64(v)
	case cbor.NegInt:
		return -float64(v)
	}
	panic(wrongShape(fmt.Sprintf("%T where a number belongs", v)))
}

func asFloats(v cbor.Value) []float64 {
	var out []float64
	for _, f := range asList(v) {
		out = append(out, asFloat(f))
	}
	return out
}

func asTime(v cbor.Value) time.Time {
	t, ok := v.(*cbor.Tag)
	if !ok || t.ID != 1 {
		panic(wrongShape("a timestamp is not tagged 1"))
	}
	sec, frac := math.Modf(asFloat(t.Value))
	return time.Unix(int64(sec), int64(frac*1e9)).UTC()
}

func asDimensions(v cbor.Value) map[string]string {
	out := map[string]string{}
	for _, d := range asList(v) {
		m := asMap(d)
		out[asString(m["Name"])] = asString(m["Value"])
	}
	return out
}

// validate enforces what the documents say a request may hold: API_PutMetricData, API_MetricDatum, API_Dimension.
func validate(points []Point, now time.Time) *refusal {
	if len(points) == 0 {
		return refuse(400, "MissingParameter", "MetricData is required")
	}
	if len(points) > 1000 {
		return invalid("MetricData has %d members, at most 1000 are allowed", len(points))
	}
	if e := checkNamespace(points[0].Namespace); e != nil {
		return e
	}
	for i, p := range points {
		if e := validatePoint(p, now); e != nil {
			e.message = fmt.Sprintf("MetricData.member.%d: %s", i+1, e.message)
			return e
		}
	}
	return nil
}

func validatePoint(p Point, now time.Time) *refusal {
	if e := checkText("MetricName", p.Name, 255); e != nil {
		return e
	}
	if p.Unit != "" && !slices.Contains(types.StandardUnit("").Values(), types.StandardUnit(p.Unit)) {
		return invalid("Unit %q", p.Unit)
	}
	if p.Resolution != 1 && p.Resolution != 60 {
		return invalid("StorageResolution %d", p.Resolution)
	}
	if p.Time.Before(now.Add(-14*24*time.Hour)) || p.Time.After(now.Add(2*time.Hour)) {
		return invalid("Timestamp %s", p.Time.Format(time.RFC3339))
	}
	if len(p.Dimensions) > 30 {
		return invalid("%d dimensions, at most 30 are allowed", len(p.Dimensions))
	}
	for name, value := range p.Dimensions {
		if strings.HasPrefix(name, ":") {
			return invalid("dimension name %q begins with a colon", name)
		}
		if e := checkText("dimension name", name, 255); e != nil {
			return e
		}
		if e := checkText("dimension value", value, 1024); e != nil {
			return e
		}
	}
	return validateValues(p)
}

func validateValues(p Point) *refusal {
	if len(p.Values) == 0 || len(p.Values) > 150 || len(p.Values) != len(p.Counts) {
		return invalid("%d values with %d counts", len(p.Values), len(p.Counts))
	}
	for i, v := range p.Values {
		if math.IsNaN(v) || math.IsInf(v, 0) || math.Abs(v) > math.Ldexp(1, 360) {
			return invalid("value %v", v)
		}
		if c := p.Counts[i]; !(c > 0) || c > math.Ldexp(1, 360) {
			return invalid("count %v", c)
		}
	}
	return nil
}

func checkNamespace(s string) *refusal {
	if strings.HasPrefix(s, ":") || strings.HasPrefix(s, "AWS/") {
		return invalid("Namespace %q is reserved", s)
	}
	return checkText("Namespace", s, 255)
}

func checkText(what, s string, limit int) *refusal {
	if strings.TrimSpace(s) == "" {
		return refuse(400, "MissingParameter", "%s is required", what)
	}
	if len(s) > limit {
		return invalid("%s has %d bytes, at most %d are allowed", what, len(s), limit)
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return invalid("%s %q is not printable ASCII", what, s)
	}
	return nil
}

func invalid(format string, args ...any) *refusal {
	e := refuse(400, "InvalidParameterValue", format, args...)
	e.shape = "InvalidParameterValueException"
	return e
}
