//go:build !linux

package command

import (
	"errors"
)

// OpenTerminal is for Linux only so far.
func OpenTerminal(rows, cols uint16, uid uint32) (*Terminal, error) {
	return nil, errors.New("terminals are only supported on Linux; use -T")
}
