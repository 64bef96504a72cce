package cloudwatchfake

import (
	"encoding/xml"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"
)

type putResponse struct {
	XMLName xml.Name `xml:"http://monitoring.amazonaws.com/doc/2010-08-01/ PutMetricDataResponse"`
}

// putQuery is PutMetricData as the AWS command line and agents with an older SDK send it: under the same rules as the
// other protocol, but without faults.
func (s *Server) putQuery(rec Request, form url.Values) (putResponse, error) {
	var points []Point
	var err error
	for i := 1; err == nil && form.Has(fmt.Sprintf("MetricData.member.%d.MetricName", i)); i++ {
		var p Point
		p, err = s.formDatum(form, fmt.Sprintf("MetricData.member.%d.", i))
		points = append(points, p)
	}
	if err == nil {
		if e := validate(points, s.now()); e != nil {
			err = e
		}
	}
	rec.Datums, rec.Applied, rec.Status = len(points), err == nil, 200
	if err != nil {
		rec.Status, rec.Code = 400, "InvalidParameterValue"
	}
	s.note(rec, points)
	return putResponse{}, err
}

// formDatum reads the datum whose parameters begin with prefix. A statistic set alone is refused: nothing here sends
// one without the values it was made of.
func (s *Server) formDatum(form url.Values, prefix string) (p Point, err error) {
	get := func(name string) string { return form.Get(prefix + name) }
	p = Point{Namespace: form.Get("Namespace"), Name: get("MetricName"), Unit: get("Unit"),
		Dimensions: formDimensions(form, prefix), Time: s.now().UTC(), Resolution: 60}
	if at := get("Timestamp"); at != "" {
		if p.Time, err = time.Parse(time.RFC3339, at); err != nil {
			return p, err
		}
	}
	if r := get("StorageResolution"); r != "" {
		if p.Resolution, err = strconv.Atoi(r); err != nil {
			return p, err
		}
	}
	values := formList(form, prefix+"Values")
	if v := get("Value"); v != "" {
		values = []string{v}
	}
	if p.Values, err = numbers(values); err != nil {
		return p, err
	}
	if p.Counts, err = numbers(formList(form, prefix+"Counts")); len(p.Counts) == 0 {
		p.Counts = slices.Repeat([]float64{1}, len(p.Values))
	}
	return p, err
}

func numbers(words []string) ([]float64, error) {
	var out []float64
	for _, w := range words {
		n, err := strconv.ParseFloat(w, 64)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}
