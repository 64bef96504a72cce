package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"
)

// tries is how often a source that answers 404 is asked.
const tries = 5

func (i *Init) files(c Config) error {
	for _, path := range byName(c.Files) {
		if err := i.file(path, c.Files[path]); err != nil {
			return fmt.Errorf("file %s: %w", path, err)
		}
	}
	return nil
}

// file renames what is there to NAME.bak, also when the content is the same, and
// writes in its place: until it is done the path is missing, then partial.
func (i *Init) file(path string, f File) error {
	content, link, err := f.text()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	mode, err := f.mode(path)
	if err != nil {
		return err
	}
	old := os.Rename(path, path+".bak") == nil
	err = i.write(path, f, content, link)
	if err != nil && old { // without an old file, a partial one stays
		os.Rename(path+".bak", path)
	}
	if err != nil {
		return err
	}
	i.changed[path] = true
	if err := os.Chmod(path, mode); err != nil { // follows a link: the target's mode changes
		return err
	}
	return f.chown(path)
}

// text returns the content, and whether it is a link's target.
func (f File) text() (content []byte, link bool, err error) {
	link = len(fmt.Sprint(f.Mode)) == 6 && fmt.Sprint(f.Mode)[:2] == "12"
	switch v := f.Content.(type) {
	case nil:
	case string:
		content = []byte(v)
		if f.Encoding == "base64" {
			content, err = base64.StdEncoding.DecodeString(v)
		}
	default:
		content, err = json.Marshal(v)
	}
	if err == nil && len(content) == 0 && f.Source == "" {
		err = fmt.Errorf("file specified without source or content")
	}
	return content, link, err
}

// mode is the one asked for, else that of the existing file, else 0644.
func (f File) mode(path string) (os.FileMode, error) {
	switch v := f.Mode.(type) {
	case nil:
		if info, err := os.Stat(path); err == nil {
			return info.Mode().Perm(), nil
		}
		return 0o644, nil
	case string:
		n, err := strconv.ParseUint(v, 8, 32)
		return os.FileMode(n & 0o777), err
	default:
		return 0, fmt.Errorf("mode %v is no string", v)
	}
}

func (f File) chown(path string) error {
	uid, gid := 0, 0
	if f.Owner != "" {
		u, err := user.Lookup(f.Owner)
		if err != nil {
			return err
		}
		uid, _ = strconv.Atoi(u.Uid)
	}
	if f.Group != "" {
		g, err := user.LookupGroup(f.Group)
		if err != nil {
			return err
		}
		gid, _ = strconv.Atoi(g.Gid)
	}
	return os.Chown(path, uid, gid)
}

func (i *Init) write(path string, f File, content []byte, link bool) error {
	if link {
		return os.Symlink(string(content), path)
	}
	w, err := os.Create(path)
	if err != nil {
		return err
	}
	defer w.Close()
	if f.Source != "" {
		return i.download(w, f.Source)
	}
	_, err = w.Write(content)
	return err
}

// download takes whatever comes for the file, short or an error page; only a
// status tells it of a failure.
func (i *Init) download(w io.Writer, url string) error {
	for n := 1; ; n++ {
		resp, err := http.Get(url)
		if err != nil {
			return err
		}
		if resp.StatusCode == http.StatusOK {
			io.Copy(w, resp.Body)
			return resp.Body.Close()
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound || n == tries {
			return fmt.Errorf("get %s: %s", url, resp.Status)
		}
		time.Sleep(i.Pause)
	}
}
