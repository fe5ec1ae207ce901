package broker

import (
	"net"
	"sync/atomic"
)

// tlsHandshakeByte is the first byte of TLS (RFC 8446, 5.1). No method of HTTP begins
// with it.
const tlsHandshakeByte = 0x16

// sniffingListener is a TLS listener that also accepts plain connections: the first
// byte decides, when it is read.
type sniffingListener struct {
	net.Listener
	certificates *certificates
}

// Accept returns a connection that is not read yet: waiting for its first byte would
// block the others.
func (l *sniffingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	first := &peekedConn{Conn: c}
	return &sniffedConn{tlsConn: l.certificates.server(first), raw: first}, nil
}

// sniffedConn is a connection of TLS, or a plain one. One goroutine reads at a time;
// other methods may be called from any.
type sniffedConn struct {
	tlsConn
	raw     *peekedConn
	decided bool
	plain   atomic.Bool
}

// Read decides by the first byte, and reads.
func (s *sniffedConn) Read(p []byte) (int, error) {
	if !s.decided && len(p) > 0 {
		first, err := s.raw.peek()
		if err != nil {
			return 0, err
		}
		s.decided = true
		s.plain.Store(first != tlsHandshakeByte)
	}
	if s.plain.Load() {
		return s.raw.Read(p)
	}
	return s.tlsConn.Read(p)
}

func (s *sniffedConn) Write(p []byte) (int, error) {
	if s.plain.Load() {
		return s.raw.Write(p)
	}
	return s.tlsConn.Write(p)
}

func (s *sniffedConn) Close() error {
	if s.plain.Load() {
		return s.raw.Close()
	}
	return s.tlsConn.Close()
}

// CloseWrite closes the connection for writing, by which the HTTP server ends a
// connection without a reset.
func (s *sniffedConn) CloseWrite() error {
	if !s.plain.Load() {
		return s.tlsConn.CloseWrite()
	}
	if half, ok := s.raw.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// IsPlain reports whether a connection of a TLS listener is not TLS. It is decided
// once something was read.
func IsPlain(c net.Conn) bool {
	s, ok := c.(*sniffedConn)
	return ok && s.plain.Load()
}

// peekedConn is a connection whose first byte can be read in advance.
type peekedConn struct {
	net.Conn
	first [1]byte
	// pending is set if the first byte is still to be returned by Read.
	pending bool
}

// peek reads the first byte, which Read returns again.
func (p *peekedConn) peek() (byte, error) {
	n, err := p.Conn.Read(p.first[:])
	for n == 0 && err == nil {
		n, err = p.Conn.Read(p.first[:])
	}
	if n == 0 {
		return 0, err
	}
	p.pending = true
	return p.first[0], nil
}

// Read returns the peeked byte first.
func (p *peekedConn) Read(b []byte) (int, error) {
	if p.pending && len(b) > 0 {
		p.pending = false
		return copy(b, p.first[:]), nil
	}
	return p.Conn.Read(b)
}
