package appenv

import (
	"os"
	"sync"
	"time"
)

// texts caches small files of the system as long as their stat is unchanged: each run reads five, which hardly ever
// change. The zero value is ready.
type texts struct {
	mu   sync.Mutex
	kept map[string]text
}

type text struct {
	stamp
	body string
}

func (t *texts) read(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	st := stampOf(info)
	t.mu.Lock()
	defer t.mu.Unlock()
	if k, ok := t.kept[path]; ok && k.same(st) {
		return k.body, nil
	}
	data, err := os.ReadFile(path) // perhaps a newer state than st: the next stat will differ
	if err != nil {
		return "", err
	}
	if t.kept == nil {
		t.kept = map[string]text{}
	}
	delete(t.kept, path)
	if time.Since(st.changed).Abs() >= minAge && int64(len(data)) == info.Size() {
		t.kept[path] = text{st, string(data)}
	}
	return string(data), nil
}
