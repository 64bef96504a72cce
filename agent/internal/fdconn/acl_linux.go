package fdconn

import (
	"encoding/binary"
	"math"

	"golang.org/x/sys/unix"
)

// setPrivate gives a socket the mode that it is bound with (unix_bind in the kernel takes its descriptor's, less the
// umask), so that it is never there with another.
func setPrivate(fd int) error { return unix.Fchmod(fd, 0o600) }

// setACL admits the owner and users, each to read and write. The format is linux/posix_acl_xattr.h.
func setACL(path string, users []uint32) error {
	const (
		version                                = 2
		owner, user, group, mask, other        = 0x01, 0x02, 0x04, 0x10, 0x20
		none, readWrite                        = 0, 6
		noID                            uint32 = math.MaxUint32
	)
	b := binary.LittleEndian.AppendUint32(nil, version)
	entry := func(tag, perm uint16, id uint32) {
		b = binary.LittleEndian.AppendUint16(b, tag)
		b = binary.LittleEndian.AppendUint16(b, perm)
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	entry(owner, readWrite, noID)
	for _, id := range users {
		entry(user, readWrite, id)
	}
	entry(group, none, noID)
	entry(mask, readWrite, noID)
	entry(other, none, noID)
	return unix.Lsetxattr(path, "system.posix_acl_access", b, 0)
}
