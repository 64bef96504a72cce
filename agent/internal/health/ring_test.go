package health

import (
	"net/http"
	"testing"
	"time"
)

// The beginning of an outage is in the history for a day, however often somebody asks meanwhile; a state that changes
// with each answer costs no more than its limit.
func TestHistoryKeepsTheBeginningOfAnOutage(t *testing.T) {
	var r ring
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	add := func(healthy bool, n int) {
		for range n {
			at = at.Add(15 * time.Second)
			status := http.StatusOK
			if !healthy {
				status = http.StatusServiceUnavailable
			}
			r.add(Result{At: at, Healthy: healthy, Status: status})
		}
	}
	add(true, 3)
	if list := r.list(); len(list) != 3 || list == nil {
		t.Fatalf("%d of 3 results", len(list))
	}
	add(true, 100)
	begun := at.Add(15 * time.Second)
	add(false, 240) // an hour
	list := r.list()
	if len(list) != 52 || !list[1].At.Equal(begun) || list[1].Healthy || !list[0].Healthy {
		t.Errorf("%d results, the second %+v; want the first of all, the outage's first of %s, and the last 50", len(list), list[1], begun)
	}
	for i := 1; i < len(list); i++ {
		if !list[i].At.After(list[i-1].At) {
			t.Errorf("result %d is of %s, the one before of %s", i, list[i].At, list[i-1].At)
		}
	}
	add(true, 24*240)
	if list = r.list(); len(list) != 51 { // a day later only the recovery
		t.Errorf("%d results a day later", len(list))
	}
	for i := range 1000 {
		add(i%2 == 0, 1)
	}
	if list = r.list(); len(list) > 50+maxChanges {
		t.Errorf("%d results of a state that flaps", len(list))
	}
}

func TestHistoryOfNothingIsAList(t *testing.T) {
	if list := new(ring).list(); list == nil || len(list) > 0 {
		t.Errorf("%#v: JSON would be null", list)
	}
}
