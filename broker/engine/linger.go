package engine

import (
	"io"
	"net"
	"time"
)

// A connection that the engine ends is closed for writing first, and read until
// the client closes it too: where bytes of the client are left unread, closing
// resets the connection, and the client never reads why it was ended.
const (
	lingerTime     = time.Second
	lingerShutdown = 100 * time.Millisecond // while the server ends: a restart waits for it
)

// halfCloser is a connection that can be closed for writing alone.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

func (c *conn) canLinger() bool {
	_, ok := c.raw.(halfCloser)
	return ok
}

// halfClose tells the client that nothing more comes: over TLS by its
// close_notify, and then by TCP.
func (c *conn) halfClose() {
	for at := c.raw; at != nil; at = below(at) {
		if h, ok := at.(halfCloser); ok {
			_ = h.CloseWrite()
		}
	}
}

// below returns the connection under one of TLS or a WebSocket, or nil.
func below(c net.Conn) net.Conn {
	if n, ok := c.(interface{ NetConn() net.Conn }); ok {
		return n.NetConn()
	}
	return nil
}

// stopReading is called by whoever has written the last packet of a connection
// that lingers: the goroutine that reads wakes, and does the rest.
func (c *conn) stopReading() {
	c.halfClose()
	_ = c.raw.SetReadDeadline(time.Now()) // before drain sets another one
	c.once.Do(func() { close(c.closing) })
}

// linger closes a connection that lingers when the client has closed it too, or
// after a moment. The goroutine that reads calls it at its end.
func (c *conn) linger() {
	if c.s == nil {
		return
	}
	c.s.mu.Lock()
	lingers, d := c.lingers, lingerTime
	if c.draining {
		d = lingerShutdown
	}
	c.s.mu.Unlock()
	if !lingers {
		return
	}
	<-c.closing // the last packet is written, or cannot be
	c.drain(d)
}

// lingerRefused closes the connection of a client that was not let in.
func (c *conn) lingerRefused() {
	if !c.answered || !c.canLinger() {
		c.hangUp()
		return
	}
	_ = c.raw.SetWriteDeadline(time.Now().Add(goodbyeTime))
	c.halfClose()
	c.drain(lingerTime)
}

// drain reads what the client still sends, and closes the connection.
func (c *conn) drain(d time.Duration) {
	at := c.raw
	for next := below(at); next != nil; next = below(at) {
		at = next
	}
	_ = at.SetReadDeadline(time.Now().Add(d))
	_, _ = io.Copy(io.Discard, at)
	c.hangUp()
}

// over reports whether the engine has ended the connection: what comes after
// that is not handled.
func (c *conn) over() bool {
	select {
	case <-c.closing:
		return true
	default:
		return false
	}
}
