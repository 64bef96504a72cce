package supervisor

import (
	"net"
	"os"
)

// connOf makes a connection of a descriptor that was handed over. It is consumed in any case.
func connOf(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "client")
	defer f.Close()
	return net.FileConn(f)
}
