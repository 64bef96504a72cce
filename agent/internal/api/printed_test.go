package api

import "testing"

// Only the paths that are named change: the order of fields, numbers beyond a float's and texts stay as they are.
func TestRename(t *testing.T) {
	n := Names{".name": "job", ".list[].name": "job", ".verdict": "application", ".verdict.host": "host_header"}
	const in = `{"z":12345678901234567890,"name":"a<b>\u0001","list":[{"name":1,"other":{"name":2}},[],{}],"verdict":{"host":null,"x":1.50}}`
	const want = `{"z":12345678901234567890,"job":"a<b>\u0001","list":[{"job":1,"other":{"name":2}},[],{}],"application":{"host_header":null,"x":1.50}}`
	if got, err := n.Rename([]byte(in)); err != nil || string(got) != want {
		t.Errorf("%v\ngot  %s\nwant %s", err, got, want)
	}
	if got, err := (Names)(nil).Rename([]byte(in)); err != nil || string(got) != in {
		t.Errorf("without names: %v\n%s", err, got)
	}
	for _, bad := range []string{"", `{"a":`, `[1,`, `{"a" 1}`} {
		if got, err := n.Rename([]byte(bad)); err == nil {
			t.Errorf("%q is %q", bad, got)
		}
	}
}
