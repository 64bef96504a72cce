package supervisor

// locks maps a name to the run that holds it. Runs end with their supervisor, so it is not saved.
type locks map[string]string

// take gives name to run id, or returns the run that holds it.
func (l *locks) take(name, id string) (holder string, ok bool) {
	if name == "" {
		return "", true
	}
	if holder, held := (*l)[name]; held {
		return holder, false
	}
	if *l == nil {
		*l = make(locks)
	}
	(*l)[name] = id
	return id, true
}

func (l *locks) release(name, id string) {
	if (*l)[name] == id {
		delete(*l, name)
	}
}
