package site

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// newApp is the application: a page, a health page and a slow page, behind the two refusals that
// make a load balancer's health check fail in production.
func newApp(hosts []string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello from process %d of %s\n", os.Getpid(), r.Host)
	})
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /slow", slow)
	return allowHosts(hosts, wantHTTPS(mux))
}

// slow takes ?s=SECONDS, 2 by default and 60 at most, so that requests can be seen to wait.
func slow(w http.ResponseWriter, r *http.Request) {
	d, err := time.ParseDuration(cmp.Or(r.FormValue("s"), "2") + "s")
	if err != nil || d < 0 || d > time.Minute {
		http.Error(w, "s: want seconds, from 0 to 60", http.StatusBadRequest)
		return
	}
	select {
	case <-time.After(d):
		fmt.Fprintln(w, "late, but here")
	case <-r.Context().Done():
	}
}

// allowHosts refuses a Host that is not one of hosts with 400, as Django's ALLOWED_HOSTS does:
// ".example.com" admits its subdomains too, "*" everything.
func allowHosts(hosts []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.ContainsFunc(hosts, func(h string) bool { return admits(h, hostname(r.Host)) }) {
			http.Error(w, "Bad Request (400)", http.StatusBadRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func admits(pattern, host string) bool {
	pattern = strings.ToLower(pattern)
	if domain, ok := strings.CutPrefix(pattern, "."); ok {
		return host == domain || strings.HasSuffix(host, pattern)
	}
	return pattern == "*" || host == pattern
}

func hostname(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		hostport = host
	}
	return strings.ToLower(hostport)
}

// wantHTTPS redirects what did not reach the load balancer over https, as SECURE_SSL_REDIRECT does.
func wantHTTPS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Forwarded-Proto") != "https" {
			http.Redirect(w, r, "https://"+r.Host+r.URL.RequestURI(), http.StatusMovedPermanently)
			return
		}
		next.ServeHTTP(w, r)
	})
}
