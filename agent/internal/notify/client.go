package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// newClient follows no redirect (an address that moved would get the secret of another) and uses no
// proxy, whose setting could come from anywhere.
func newClient(transport http.RoundTripper) *http.Client {
	if transport == nil {
		transport = &http.Transport{
			DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout:   5 * time.Second,
			ResponseHeaderTimeout: 10 * time.Second,
			IdleConnTimeout:       10 * time.Second,
			ForceAttemptHTTP2:     true,
		}
	}
	return &http.Client{
		Transport:     transport,
		Timeout:       15 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type client struct{ http *http.Client }

// send tries once. A negative retryIn means that a retry is of no use; otherwise it is how long
// the server asks to wait. No error has the target's address or token in it.
func (s *sender) send(ctx context.Context, n notice) (retryIn time.Duration, err error) {
	t, err := s.target.expanded(s.expand)
	if err != nil {
		return 0, err
	}
	if s.where != nil {
		n.Host, n.Environment = s.where(ctx)
	}
	m, err := t.format(n)
	if err != nil {
		return -1, err
	}
	return s.client.post(ctx, m)
}

// expanded returns t with its secrets resolved. An error is worth a retry: the value may be set later.
func (t Target) expanded(expand func(string) (string, error)) (Target, error) {
	for _, secret := range []*string{&t.URL, &t.StartURL, &t.FailURL, &t.Token} {
		if expand == nil || *secret == "" {
			continue
		}
		value, err := expand(*secret)
		if err != nil {
			return Target{}, err
		}
		*secret = value
	}
	if err := checkURL(t.URL); err != nil && t.Type != Rollbar {
		return Target{}, fmt.Errorf("its url %w", err)
	}
	return t, nil
}

func (c *client) post(ctx context.Context, m message) (retryIn time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.url, bytes.NewReader(m.body))
	if err != nil {
		return -1, errors.New("its address cannot be used")
	}
	req.Header.Set("Content-Type", m.contentType)
	req.Header.Set("User-Agent", "beanstalk-agent")
	for name, value := range m.header {
		req.Header.Set(name, value)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, withoutAddress(err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	return judge(resp, answer)
}

// withoutAddress removes the address, whose path is the secret, from an error of net/http.
func withoutAddress(err error) error {
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		err = urlErr.Err
	}
	return fmt.Errorf("send notice: %w", err)
}

// errorWord reports whether s is an answer such as Slack's "channel_not_found". Anything longer
// could repeat the notice and is not quoted.
func errorWord(s string) bool {
	return s != "" && len(s) <= 40 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") == ""
}

func judge(resp *http.Response, answer []byte) (retryIn time.Duration, err error) {
	status := resp.StatusCode
	if 200 <= status && status <= 299 {
		return 0, nil
	}
	err = fmt.Errorf("answered %d %s", status, http.StatusText(status))
	if word := strings.TrimSpace(string(answer)); errorWord(word) {
		err = fmt.Errorf("%w: %s", err, word)
	}
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
	default:
		if status < 500 {
			return -1, err
		}
	}
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	return time.Duration(min(max(seconds, 0), int(maxPause/time.Second))) * time.Second, err
}
