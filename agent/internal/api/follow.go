package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// OutputAt is the header of a followed output that says which place of it the body begins at.
const OutputAt = "Agent-Output-At"

// Follow copies a run's output to w until the run ends: from its beginning, or from its last lines where lines is above
// 0. It goes on where it stopped when the agent restarts meanwhile, and says what was cut from the output.
func (c *Client) Follow(ctx context.Context, id string, lines int, patience time.Duration, w io.Writer) error {
	f := &follower{client: c, path: Path("runs", id, "output"), w: w, at: -1, lines: lines}
	return c.Wait(ctx, patience, func(ctx context.Context) error {
		for {
			if ended, err := f.read(ctx); ended || err != nil {
				return err
			}
		}
	})
}

type follower struct {
	client *Client
	path   string
	w      io.Writer
	at     int64 // read up to here; -1: nothing yet
	lines  int
}

// read copies one answer, which ends with the run or where its output was cut. ended: there is no more.
func (f *follower) read(ctx context.Context) (ended bool, err error) {
	query := fmt.Sprintf("?follow&at=%d", f.at)
	if f.at < 0 {
		query = fmt.Sprintf("?follow&at&lines=%d", f.lines)
	}
	resp, err := f.client.do(ctx, http.MethodGet, f.path+query, nil)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	begin, err := strconv.ParseInt(resp.Header.Get(OutputAt), 10, 64)
	if err != nil { // an older agent: it begins at the beginning
		return f.readOlder(resp.Body)
	}
	switch {
	case f.at < 0 || f.at == begin:
	case f.at < begin:
		fmt.Fprintf(f.w, "\n[agent: %d bytes cut here]\n", begin-f.at)
	default:
		fmt.Fprint(f.w, "\n[agent: output was cut here]\n")
	}
	n, err := io.Copy(f.w, resp.Body)
	ended = err == nil && n == 0 && f.at == begin
	f.at = begin + n
	return ended, err
}

func (f *follower) readOlder(body io.Reader) (ended bool, err error) {
	f.at = max(f.at, 0)
	if _, err := io.CopyN(io.Discard, body, f.at); err != nil {
		return errors.Is(err, io.EOF), err
	}
	n, err := io.Copy(f.w, body)
	f.at += n
	return err == nil, err
}
