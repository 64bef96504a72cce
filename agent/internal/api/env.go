package api

// Variable is one variable of the application's environment. Value is left out unless it was asked for.
type Variable struct {
	Name   string  `json:"name"`
	Value  *string `json:"value,omitempty"`
	Length int     `json:"length"` // bytes
	Source string  `json:"source"`
}

// Environment is the answer to `agent env`.
type Environment struct {
	Variables []Variable `json:"variables"`
	Warnings  []string   `json:"warnings,omitempty"` // never with a value
}

// Difference is one row of `agent env --diff`.
type Difference struct {
	Name string  `json:"name"`
	Kind string  `json:"kind"` // changed, only in the web process, only here
	Web  *string `json:"web,omitempty"`
	Here *string `json:"here,omitempty"`
}

// EnvironmentDiff is the answer to `agent env --diff`.
type EnvironmentDiff struct {
	PIDs        []int        `json:"pids"` // the web processes compared with
	Same        int          `json:"same"`
	Differences []Difference `json:"differences"`
	Unread      []string     `json:"unread,omitempty"` // web processes that could not be, with the reason
}
