package cloudwatchfake

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// query answers in the awsQuery protocol: ListMetrics and GetMetricStatistics, and PutMetricData as others send it.
func (s *Server) query(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, 8*maxBody))
	if err != nil {
		return // the client went away
	}
	rec := Request{At: s.now(), Body: raw, Gzip: r.Header.Get("Content-Encoding") == "gzip"}
	w.Header().Set("Content-Type", "text/xml")
	out, err := s.act(r, rec)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		out = xmlError{Type: "Sender", Code: "InvalidParameterValue", Message: err.Error()}
	}
	xml.NewEncoder(w).Encode(out)
}

func (s *Server) act(r *http.Request, rec Request) (any, error) {
	body, refused := inflate(r, rec.Body)
	if refused != nil {
		return nil, refused
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	switch action := form.Get("Action"); action {
	case "ListMetrics":
		return s.listMetrics(form), nil
	case "GetMetricStatistics":
		return s.statistics(form)
	case "PutMetricData":
		return s.putQuery(rec, form)
	default:
		return nil, fmt.Errorf("action %q is not answered here", action)
	}
}

type xmlError struct {
	XMLName xml.Name `xml:"ErrorResponse"`
	Type    string   `xml:"Error>Type"`
	Code    string   `xml:"Error>Code"`
	Message string   `xml:"Error>Message"`
}

type xmlDimension struct {
	Name  string
	Value string
}

type xmlMetric struct {
	Namespace  string
	MetricName string
	Dimensions []xmlDimension `xml:"Dimensions>member"`
}

type listMetricsResponse struct {
	XMLName xml.Name    `xml:"http://monitoring.amazonaws.com/doc/2010-08-01/ ListMetricsResponse"`
	Metrics []xmlMetric `xml:"ListMetricsResult>Metrics>member"`
}

func (s *Server) listMetrics(form url.Values) listMetricsResponse {
	var out listMetricsResponse
	seen := map[string]bool{}
	for _, p := range s.Points() {
		if n := form.Get("Namespace"); n != "" && n != p.Namespace {
			continue
		}
		if n := form.Get("MetricName"); n != "" && n != p.Name {
			continue
		}
		m := xmlMetric{Namespace: p.Namespace, MetricName: p.Name, Dimensions: xmlDimensions(p.Dimensions)}
		if key := fmt.Sprint(m); !seen[key] {
			seen[key] = true
			out.Metrics = append(out.Metrics, m)
		}
	}
	return out
}

func xmlDimensions(dims map[string]string) []xmlDimension {
	var out []xmlDimension
	for k, v := range dims {
		out = append(out, xmlDimension{k, v})
	}
	slices.SortFunc(out, func(a, b xmlDimension) int { return strings.Compare(a.Name, b.Name) })
	return out
}

type xmlEntry struct {
	Key   string  `xml:"key"`
	Value float64 `xml:"value"`
}

type xmlDatapoint struct {
	Timestamp   string
	SampleCount *float64   `xml:",omitempty"`
	Average     *float64   `xml:",omitempty"`
	Sum         *float64   `xml:",omitempty"`
	Minimum     *float64   `xml:",omitempty"`
	Maximum     *float64   `xml:",omitempty"`
	Extended    []xmlEntry `xml:"ExtendedStatistics>entry,omitempty"`
	Unit        string
}

type statisticsResponse struct {
	XMLName    xml.Name       `xml:"http://monitoring.amazonaws.com/doc/2010-08-01/ GetMetricStatisticsResponse"`
	Datapoints []xmlDatapoint `xml:"GetMetricStatisticsResult>Datapoints>member"`
	Label      string         `xml:"GetMetricStatisticsResult>Label"`
}

// statistics aggregates what has exactly the asked dimensions, as CloudWatch does: nothing is added across them.
func (s *Server) statistics(form url.Values) (statisticsResponse, error) {
	out := statisticsResponse{Label: form.Get("MetricName")}
	from, err1 := time.Parse(time.RFC3339, form.Get("StartTime"))
	to, err2 := time.Parse(time.RFC3339, form.Get("EndTime"))
	period, err3 := strconv.Atoi(form.Get("Period"))
	if err1 != nil || err2 != nil || err3 != nil || period < 1 {
		return out, fmt.Errorf("StartTime, EndTime and Period are required")
	}
	dims := formDimensions(form, "")
	type bucket struct {
		at   int64
		unit string
	}
	buckets := map[bucket][]Point{}
	for _, p := range s.Points() {
		if p.Namespace != form.Get("Namespace") || p.Name != out.Label || p.Time.Before(from) || !p.Time.Before(to) ||
			fmt.Sprint(p.Dimensions) != fmt.Sprint(dims) || form.Get("Unit") != "" && form.Get("Unit") != p.Unit {
			continue
		}
		b := bucket{p.Time.Unix() / int64(period) * int64(period), p.Unit}
		buckets[b] = append(buckets[b], p)
	}
	for b, points := range buckets {
		d := datapoint(points, formList(form, "Statistics"), formList(form, "ExtendedStatistics"))
		d.Timestamp, d.Unit = time.Unix(b.at, 0).UTC().Format(time.RFC3339), b.unit
		out.Datapoints = append(out.Datapoints, d)
	}
	return out, nil
}

func formList(form url.Values, name string) (out []string) {
	for i := 1; form.Has(fmt.Sprintf("%s.member.%d", name, i)); i++ {
		out = append(out, form.Get(fmt.Sprintf("%s.member.%d", name, i)))
	}
	return out
}

func formDimensions(form url.Values, prefix string) map[string]string {
	out := map[string]string{}
	for i := 1; ; i++ {
		one := fmt.Sprintf("%sDimensions.member.%d.", prefix, i)
		if !form.Has(one + "Name") {
			return out
		}
		out[form.Get(one+"Name")] = form.Get(one + "Value")
	}
}

func datapoint(points []Point, statistics, extended []string) xmlDatapoint {
	var all []weighed
	var n, sum float64
	for _, p := range points {
		for i, v := range p.Values {
			all = append(all, weighed{v, p.Counts[i]})
			n += p.Counts[i]
			sum += v * p.Counts[i]
		}
	}
	slices.SortFunc(all, func(a, b weighed) int { return cmp.Compare(a.value, b.value) })
	average, low, high := sum/n, all[0].value, all[len(all)-1].value
	var d xmlDatapoint
	for _, s := range statistics {
		switch s {
		case "SampleCount":
			d.SampleCount = &n
		case "Average":
			d.Average = &average
		case "Sum":
			d.Sum = &sum
		case "Minimum":
			d.Minimum = &low
		case "Maximum":
			d.Maximum = &high
		}
	}
	for _, s := range extended {
		if p, err := strconv.ParseFloat(strings.TrimPrefix(s, "p"), 64); err == nil && p > 0 && p <= 100 {
			d.Extended = append(d.Extended, xmlEntry{s, percentile(all, n*p/100)})
		}
	}
	return d
}

type weighed struct{ value, count float64 }

// percentile returns the value at which the counts of all sorted values reach rank.
func percentile(all []weighed, rank float64) float64 {
	for _, w := range all {
		if rank -= w.count; rank <= 0 {
			return w.value
		}
	}
	return all[len(all)-1].value
}
