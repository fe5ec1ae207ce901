package engine

import (
	"io"
	"net"
	"time"
)

// When the engine ends a connection, it closes its own direction first and reads until
// the client closes too: closing with unread bytes resets the connection, and the
// client would never read the reason.
const (
	lingerTime = time.Second
	// lingerTimeAtShutdown is shorter, as a restart waits for it.
	lingerTimeAtShutdown = 100 * time.Millisecond
)

// halfCloser is a connection that can be closed for writing alone.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// canLinger reports whether the connection can be closed for writing alone.
func (c *conn) canLinger() bool {
	_, ok := c.netConn.(halfCloser)
	return ok
}

// halfClose tells the client that nothing more follows: close_notify for TLS, and then
// FIN.
func (c *conn) halfClose() {
	for nc := c.netConn; nc != nil; nc = underlying(nc) {
		if h, ok := nc.(halfCloser); ok {
			_ = h.CloseWrite()
		}
	}
}

// underlying returns the connection below one of TLS or a WebSocket, or nil.
func underlying(c net.Conn) net.Conn {
	if n, ok := c.(interface{ NetConn() net.Conn }); ok {
		return n.NetConn()
	}
	return nil
}

// beginLinger closes a lingering connection for writing, and wakes the reading
// goroutine, which does the rest. It is called by the goroutine that has written the
// last packet.
func (c *conn) beginLinger() {
	c.halfClose()
	_ = c.netConn.SetReadDeadline(time.Now()) // before readUntilClosed sets another one
	c.closeOnce.Do(func() { close(c.closed) })
}

// linger reads from a lingering connection until the client closes it, for a bounded
// time. The reading goroutine calls it at its end.
func (c *conn) linger() {
	if c.s == nil {
		return
	}
	c.s.mu.Lock()
	lingers, d := c.lingering, lingerTime
	if c.draining {
		d = lingerTimeAtShutdown
	}
	c.s.mu.Unlock()
	if !lingers {
		return
	}
	<-c.closed // the last packet is written, or cannot be
	c.readUntilClosed(d)
}

// lingerRefused is linger for a client that was refused.
func (c *conn) lingerRefused() {
	if !c.refusalSent || !c.canLinger() {
		c.close()
		return
	}
	_ = c.netConn.SetWriteDeadline(time.Now().Add(disconnectTimeout))
	c.halfClose()
	c.readUntilClosed(lingerTime)
}

// readUntilClosed discards what the client still sends, for d at most, and closes the
// connection.
func (c *conn) readUntilClosed(d time.Duration) {
	nc := c.netConn
	for next := underlying(nc); next != nil; next = underlying(nc) {
		nc = next
	}
	_ = nc.SetReadDeadline(time.Now().Add(d))
	_, _ = io.Copy(io.Discard, nc)
	c.close()
}

// isClosed reports whether the engine has ended the connection: packets that arrive
// after that are not handled.
func (c *conn) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}
