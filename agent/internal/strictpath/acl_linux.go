package strictpath

import "golang.org/x/sys/unix"

// hasACL reports whether an access list of the file says who may write it, too. The group's bits of its mode are then
// the most that the list gives.
func hasACL(path string) bool {
	n, err := unix.Lgetxattr(path, "system.posix_acl_access", nil)
	return err == nil && n > 0
}
