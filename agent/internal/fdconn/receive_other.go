//go:build !linux

package fdconn

func (c *Conn) readApart([]byte) (int, error) { return 0, ErrFiles }
