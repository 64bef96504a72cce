//go:build !linux

package session

const fionread = 0x4004667f // every BSD's

func onePage(int) {}

func lineMode(int) bool { return true }

func isDevice(int) bool { return true }
