//go:build !linux

package strictpath

func hasACL(string) bool { return false }
