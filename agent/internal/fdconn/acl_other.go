//go:build !linux

package fdconn

import "errors"

func setPrivate(int) error { return nil }

func setACL(string, []uint32) error { return errors.ErrUnsupported }
