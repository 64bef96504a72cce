package appenv

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseJSON(t *testing.T) {
	in := "\ufeff{\n  \"A\": \"1\",\n  \"B\": \"it's\\n\\u00e9\\ufffd \\ud83d\\ude00\",\r\n  \"a.b-c\": \"\", \"A\": \"2\"\n}\n"
	f, err := ParseJSON([]byte(in))
	if got, want := joined(f.Vars), "A=2|B=it's\né\ufffd \U0001F600|a.b-c="; err != nil || got != want {
		t.Errorf("got  %q, %v\nwant %q", got, err, want)
	}
	if got := f.Vars[1].Line; got != 3 {
		t.Errorf("B is in line %d, want 3", got)
	}
	if f, err := ParseJSON([]byte(" {} \n")); err != nil || len(f.Vars) != 0 {
		t.Errorf("an application without variables: %v, %v", f.Vars, err)
	}
}

// FIELD.md E4: what is no object of strings is told, with each place, and never an empty environment.
func TestParseJSONTellsAllFaults(t *testing.T) {
	for in, want := range map[string]string{
		"{\"A\": 1,\n \"B\": null, \"C\": true,\n\"D\": [\"x\"], \"E\": {\"F\": \"x\"}, \"G\": \"ok\"}": "1:7 2:7 2:18 3:6 3:18",
		"{\"A\": \"1\"":          "1:10",
		"{\"A\": \"1\",}":        "1:11",
		"{\"A\": \"1\"\n \"B\"}": "2:2",
		"{\"A\" \"1\"}":          "1:6",
		"{A: 1}":                 "1:2",
		"":                       "1:1",
		"A=1\n":                  "1:1",
		"[{\"key\": \"A\"}]":     "1:1",
		"\"A\"":                  "1:1",
		"12":                     "1:1",
		"{} x":                   "1:4",
		"{\"A\":\"1\"}\n{}":      "2:1",
		"{\"A=B\": \"1\", \"\": \"2\", \"C\": \"\\u0000\", \"D\": \"\\ud800\"}": "1:2 1:14 1:28 1:43",
		"{\"A\": \"\xff\"}": "1:8",
	} {
		_, err := ParseJSON([]byte(in))
		if faults, _ := err.(Faults); places(faults) != want {
			t.Errorf("%q: faults at %q, want %q:\n%v", in, places(faults), want, err)
		}
	}
}

func FuzzParseJSON(f *testing.F) {
	for _, s := range []string{`{"A":"b","A":"c"}`, `{}`, `{"A":1}`, `[]`, `{"A":"b"} x`, `{"A":"\ud800"}`, `{"A":"b",}`, `{"A":{"B":["c"]}}`, "{\"A\":\"\xff\"}", `{"A":null}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := ParseJSON(data)
		if err != nil {
			return
		}
		checkVars(t, data, file)
		var want map[string]string // encoding/json is the oracle
		data = []byte(strings.TrimPrefix(string(data), "\ufeff"))
		if err := json.Unmarshal(data, &want); err != nil || !maps.Equal(values(file), want) || !utf8.Valid(data) {
			t.Errorf("%q gave %q, want %q, %v", data, values(file), want, err)
		}
	})
}
