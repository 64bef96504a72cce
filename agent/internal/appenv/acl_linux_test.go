package appenv

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// allowWrite gives a user rwx by an access list (acl(5); the form is that of linux/posix_acl_xattr.h).
func allowWrite(path string, uid uint32) error {
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, uint32(2))
	for _, e := range []struct {
		Tag, Perm uint16
		ID        uint32
	}{{1, 7, ^uint32(0)}, {2, 7, uid}, {4, 5, ^uint32(0)}, {16, 7, ^uint32(0)}, {32, 5, ^uint32(0)}} {
		binary.Write(&b, binary.LittleEndian, e)
	}
	return unix.Setxattr(path, "system.posix_acl_access", b.Bytes(), 0)
}
