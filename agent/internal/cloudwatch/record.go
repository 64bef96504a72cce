package cloudwatch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
	"time"
)

// record is one request as the spool stores it: a head line with a checksum, then readable JSON.
//
//	agent-metrics 1 CRC32C LENGTH
//	{"namespace":…,"at":SECONDS,"datums":[{"n":NAME,"u":UNIT,"d":{…},"v":[…],"c":[…]}]}
//
// It holds the namespace, so that a change of configuration does not redirect it. Counts that are all 1 are left out.
type record struct {
	Namespace string        `json:"namespace"`
	At        int64         `json:"at"`
	Datums    []recordDatum `json:"datums"`
}

type recordDatum struct {
	Name       string            `json:"n"`
	Unit       string            `json:"u"`
	Dimensions map[string]string `json:"d"`
	Values     []float64         `json:"v"`
	Counts     []float64         `json:"c,omitempty"`
}

const recordHead = "agent-metrics 1 "

// maxRecord limits what is read back: a record is one request, and its JSON is at most a few times larger.
const maxRecord = 8 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encodeRecord(namespace string, at time.Time, ds []Datum) ([]byte, error) {
	r := record{Namespace: namespace, At: at.Unix(), Datums: make([]recordDatum, len(ds))}
	for i, d := range ds {
		r.Datums[i] = recordDatum{d.Name, d.Unit, d.Dimensions, d.Values, d.Counts}
		if allOnes(d.Counts) {
			r.Datums[i].Counts = nil
		}
	}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode metrics: %w", err)
	}
	out := make([]byte, 0, len(body)+64)
	out = fmt.Appendf(out, "%s%08x %d\n", recordHead, crc32.Checksum(body, castagnoli), len(body))
	return append(out, body...), nil
}

// decodeRecord accepts only a whole record of encodeRecord that CloudWatch can accept: a file truncated by a power
// loss, or altered, is refused with the reason.
func decodeRecord(b []byte) (namespace string, at time.Time, ds []Datum, err error) {
	body, err := recordBody(b)
	if err != nil {
		return "", time.Time{}, nil, err
	}
	var r record
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return "", time.Time{}, nil, fmt.Errorf("read spooled metrics: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return "", time.Time{}, nil, errors.New("read spooled metrics: something follows the JSON object")
	}
	if why := badNamespace(r.Namespace); why != "" {
		return "", time.Time{}, nil, fmt.Errorf("read spooled metrics: namespace %q: %s", r.Namespace, why)
	}
	if len(r.Datums) == 0 || len(r.Datums) > maxDatums {
		return "", time.Time{}, nil, fmt.Errorf("read spooled metrics: %d datums", len(r.Datums))
	}
	ds = make([]Datum, len(r.Datums))
	for i, d := range r.Datums {
		ds[i] = d.datum()
		if why := ds[i].bad(); why != "" {
			return "", time.Time{}, nil, fmt.Errorf("read spooled metrics: metric %q: %s", d.Name, why)
		}
		ds[i].Value = mean(ds[i].Values, ds[i].Counts)
	}
	return r.Namespace, time.Unix(r.At, 0).UTC(), ds, nil
}

func recordBody(b []byte) ([]byte, error) {
	head, body, ok := bytes.Cut(b, []byte("\n"))
	rest, named := strings.CutPrefix(string(head), recordHead)
	sum, length, two := strings.Cut(rest, " ")
	if !ok || !named || !two {
		return nil, errors.New("read spooled metrics: not a file of this agent's spool")
	}
	if n, err := strconv.Atoi(length); err != nil || n != len(body) {
		return nil, fmt.Errorf("read spooled metrics: %d bytes where the head says %q", len(body), length)
	}
	if want := fmt.Sprintf("%08x", crc32.Checksum(body, castagnoli)); want != sum {
		return nil, errors.New("read spooled metrics: the checksum does not match")
	}
	return body, nil
}

func (d recordDatum) datum() Datum {
	if d.Counts == nil {
		d.Counts = make([]float64, len(d.Values))
		for i := range d.Counts {
			d.Counts[i] = 1
		}
	}
	return Datum{Name: d.Name, Unit: d.Unit, Dimensions: d.Dimensions, Values: d.Values, Counts: d.Counts}
}

// bad returns why CloudWatch would refuse d, or "".
func (d Datum) bad() string {
	if len(d.Values) == 0 || len(d.Values) > maxValues || len(d.Counts) != len(d.Values) {
		return fmt.Sprintf("%d values with %d counts", len(d.Values), len(d.Counts))
	}
	if len(d.Dimensions) > maxDimensions {
		return "too many dimensions"
	}
	why := badName(d.Name) + badUnit(d.Unit)
	for k, v := range d.Dimensions {
		why += badDimensionName(k) + badDimensionValue(v)
	}
	for i, v := range d.Values {
		why += badValue(v) + badValue(d.Counts[i])
		if !(d.Counts[i] > 0) {
			why += "a count that is not positive"
		}
	}
	return why
}

func allOnes(vs []float64) bool {
	for _, v := range vs {
		if v != 1 {
			return false
		}
	}
	return true
}
