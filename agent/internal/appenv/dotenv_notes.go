package appenv

import "strings"

// compare notes what another well-known reader reads otherwise: Node's dotenv (its LINE pattern), which knows no
// escapes but \n and \r and begins a comment at any "#"; and those that replace $NAME: godotenv, Ruby's dotenv and
// Node's dotenv-expand. A note never has a value in it.
func (d *dotenv) compare(st statement, literal string) {
	switch {
	case st.colon:
		d.note(st, st.at, `"NAME: value" is read as Node's dotenv does; python-dotenv drops the line`)
	case st.loose:
		d.note(st, st.value, "the value has quotes within its quotes and is read to the last one, as Node's dotenv "+
			"does; python-dotenv drops the line")
	case st.early:
		d.note(st, st.end-1, "this quote closes the value, because the backslash before it is escaped; "+
			"python-dotenv reads on if a later line has another quote")
	}
	if !isNodeName(st.name) || d.src[st.faulty] == '\'' {
		d.note(st, st.faulty, "the name is not only of letters, digits, _, . and -: python-dotenv reads it, "+
			"Node's dotenv does not")
	}
	text := d.src[st.value:st.end]
	if st.quote == 0 {
		d.compareBare(st, text)
	} else if i := strings.Index(text, "${"); st.quote == '\'' && i >= 0 && strings.Contains(text[i:], "}") {
		d.note(st, st.value+i, "${NAME} is replaced within single quotes, too, as python-dotenv does; "+
			"Node's dotenv, godotenv and shells keep it")
	}
	if st.quote != '\'' {
		if i := dollarName(text); i >= 0 {
			d.note(st, st.value+i, `"$" without braces is kept, as python-dotenv and Node's dotenv do; `+
				"godotenv, Ruby's dotenv, dotenv-expand and shells replace what follows it")
		}
	}
	if i, problem := escapeBesides(text, st.quote); i >= 0 {
		d.note(st, st.value+i, problem)
	}
}

// compareBare compares a value without quotes.
func (d *dotenv) compareBare(st statement, text string) {
	switch i := strings.IndexByte(text, '#'); {
	case i == 0:
		d.note(st, st.value, `the value begins with "#", as python-dotenv and godotenv read it; `+
			"for Node's dotenv and shells this is a comment")
	case i > 0:
		d.note(st, st.value+i, `"#" is a part of the value, as python-dotenv and shells read it; `+
			"for Node's dotenv a comment begins there")
	case strings.HasPrefix(text, "`"):
		d.note(st, st.value, "the backtick is a part of the value, as python-dotenv reads it; "+
			"for Node's dotenv it is a quote")
	}
}

// dollarName returns the offset of the first "$" before a name or a command, or -1.
func dollarName(s string) int {
	for i := 0; i+1 < len(s); i++ {
		if s[i] == '$' && (s[i+1] == '(' || isNodeName(s[i+1:i+2]) && s[i+1] != '.' && s[i+1] != '-') {
			return i
		}
	}
	return -1
}

// escapeBesides returns the offset of the first backslash within quotes on which readers differ, or -1.
func escapeBesides(text string, quote byte) (i int, problem string) {
	if quote == 0 {
		return -1, ""
	}
	for i = 1; i+1 < len(text)-1; i++ {
		if text[i] != '\\' {
			continue
		}
		switch c := text[i+1]; {
		case c == '\\' || c == '\'' || quote == '"' && strings.IndexByte(`"abftv`, c) >= 0:
			return i, "this backslash is an escape, as python-dotenv reads it; Node's dotenv keeps it"
		case quote == '"' && strings.IndexByte("$`!", c) >= 0:
			return i, "this backslash is kept, as python-dotenv and Node's dotenv do; shells and `heroku config -s` " +
				"mean none (--format shell)"
		}
	}
	return -1, ""
}

// isNodeName reports whether Node's dotenv takes s as a name.
func isNodeName(s string) bool {
	return s != "" && strings.Trim(s, nodeName) == ""
}

// nodeName has the bytes of a name for Node's dotenv.
const nodeName = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"
