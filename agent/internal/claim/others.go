package claim

import (
	"context"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// sharer is an environment, or a group of such, whose instances share registers.
type sharer struct{ Environment, Group string }

// key is the sharer's folder. No environment's name has a dot.
func (s sharer) key() string {
	if s.Group != "" {
		return "group." + objectName(s.Group)
	}
	return objectName(s.Environment)
}

// Other is a job of another environment or group, by the register that it has in the bucket.
type Other struct {
	Environment string // "" when it is a group's
	Group       string
	Job         string
	Modified    time.Time // when the register was written last

	key string
}

// Limits of one look at the bucket.
const (
	maxPages = 5 // of 1000 objects
	maxPage  = 2 << 20
)

// Others lists the jobs of other environments and groups in the bucket, and reports whether it is all of them. It costs
// as much as a claim for each 1000 registers in the bucket, which an agent looks through once an hour at most.
func (s *Store) Others(ctx context.Context) (list []Other, whole bool, err error) {
	token := ""
	for range maxPages {
		page, err := s.s3.list(ctx, token)
		if err != nil {
			return nil, false, fmt.Errorf("look for other environments in the bucket: %w", err)
		}
		for _, c := range page.Contents {
			if o, ok := s.s3.other(c.Key); ok {
				o.Modified = c.LastModified
				list = append(list, o)
			}
		}
		if token = page.NextContinuationToken; !page.IsTruncated || token == "" {
			return list, true, nil
		}
	}
	return list, false, nil
}

// ReadOther returns the register of another environment's job.
func (s *Store) ReadOther(ctx context.Context, o Other) (Register, error) {
	r, err := s.s3.getKey(ctx, o.key, o.Job)
	if err != nil {
		return Register{}, fmt.Errorf("read who ran %q elsewhere: %w", o.Job, err)
	}
	return r.Register, nil
}

// listing is what ListObjectsV2 answers.
type listing struct {
	Contents []struct {
		Key          string
		LastModified time.Time
	}
	IsTruncated           bool
	NextContinuationToken string
}

func (b *bucket) list(ctx context.Context, token string) (listing, error) {
	q := url.Values{"list-type": {"2"}, "prefix": {b.prefix}}
	if token != "" {
		q.Set("continuation-token", token)
	}
	_, body, err := b.do(ctx, call{method: http.MethodGet, path: "?" + q.Encode(), limit: maxPage})
	if err != nil {
		return listing{}, err
	}
	var l listing
	if len(body) > maxPage {
		return l, errors.New("the list is too long")
	}
	return l, xml.Unmarshal(body, &l)
}

// other reads a register's key. It is false for this environment's own, and for whatever is no job's.
func (b *bucket) other(key string) (Other, bool) {
	rest, ok := strings.CutPrefix(key, b.prefix)
	folder, file, ok2 := strings.Cut(rest, "/")
	job, ok3 := strings.CutSuffix(file, ".json")
	if !ok || !ok2 || !ok3 || strings.Contains(file, "/") || strings.HasPrefix(key, b.keys) {
		return Other{}, false
	}
	o := Other{key: key}
	group, isGroup := strings.CutPrefix(folder, "group.")
	if isGroup {
		o.Group, ok = nameOf(group)
	} else {
		o.Environment, ok = nameOf(folder)
	}
	o.Job, ok2 = nameOf(job)
	return o, ok && ok2 && !isLock(o.Job)
}

// nameOf is the name that objectName made s of.
func nameOf(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '_' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		c, err := hex.DecodeString(s[i+1 : i+3])
		if err != nil {
			return "", false
		}
		b.Write(c)
		i += 2
	}
	return b.String(), objectName(b.String()) == s && s != ""
}
