package appenv

import (
	"os"
	"sync"
	"time"
)

// texts are small files of the system, kept for as long as their stat is unchanged: each run asks five, which
// change once in a machine's life. The zero value is ready.
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
	data, err := os.ReadFile(path) // or a newer state than st: the next stat tells
	if err != nil {
		return "", err
	}
	if t.kept == nil {
		t.kept = map[string]text{}
	}
	delete(t.kept, path)
	if time.Since(st.changed).Abs() >= settle && int64(len(data)) == info.Size() { // see settle
		t.kept[path] = text{st, string(data)}
	}
	return string(data), nil
}
