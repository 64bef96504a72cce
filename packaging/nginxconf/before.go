package nginxconf

import (
	"regexp"
	"slices"
	"strings"
)

// Takes returns the locations of exactly this path, or that a regular expression names so, and those with one of the
// given names. nginx refuses a second one of a kind.
func Takes(list []Directive, path string, names ...string) (found []Location) {
	for _, l := range Locations(Directive{Block: list}) {
		same := strings.TrimSuffix(l.Path, "/") == path
		switch l.Kind {
		case "@":
			same = slices.Contains(names, l.Path)
		case "~", "~*":
			same = strings.Contains(strings.ReplaceAll(l.Path, `\`, ""), path)
		}
		if same {
			found = append(found, l)
		}
	}
	return found
}

// Before returns what answers or redirects a load balancer's request for path before any location is looked for:
// return, rewrite and if of the server, and a question to somebody else whether the request may pass.
//
// A check has no X-Forwarded-Proto; a server that redirects when that is "http" leaves it alone. Any other condition
// may be met.
func Before(server []Directive, path string) (list []Directive) {
	for _, d := range server {
		switch d.Name {
		case "return":
			list = append(list, d)
		case "auth_request":
			if d.Arg(0) != "off" {
				list = append(list, d)
			}
		case "rewrite":
			if rewrites(d, path) {
				list = append(list, d)
			}
		case "if":
			if !neverOfACheck(d) && len(Before(d.Block, path)) > 0 {
				list = append(list, d)
			}
		}
	}
	return list
}

// rewrites reports whether a rewrite applies to path. Where Go cannot read its expression it is taken to.
func rewrites(d Directive, path string) bool {
	re, err := regexp.Compile(d.Arg(0))
	return err != nil || re.MatchString(path)
}

// neverOfACheck reports whether a condition wants a value of X-Forwarded-Proto or of another forwarding header.
func neverOfACheck(d Directive) bool {
	condition := strings.Trim(strings.Join(d.Args, " "), "() ")
	variable, rest, _ := strings.Cut(condition, " ")
	if rest == "" { // written without blanks, ($a=b), nginx refuses it, or the value alone, ($a): set
		return strings.HasPrefix(variable, "$http_x_forwarded_")
	}
	value := strings.Trim(strings.TrimLeft(rest, "=~* "), `"' `)
	wants := strings.HasPrefix(rest, "=") || strings.HasPrefix(rest, "~") && !strings.Contains(value, "^$")
	variable = strings.ToLower(variable)
	forwarded := strings.HasPrefix(variable, "$http_") && strings.Contains(variable, "forwarded")
	return forwarded && wants && value != ""
}
