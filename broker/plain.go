package broker

import (
	"net"
	"sync/atomic"
)

// recordHandshake is the first byte of TLS (RFC 8446, 5.1). No method of HTTP begins
// with it.
const recordHandshake = 0x16

// sniffing is a listener of TLS whose connections may turn out to be plain: the
// first byte decides, when it is read.
type sniffing struct {
	net.Listener
	certificates *certificates
}

func (l *sniffing) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	first := &peeked{Conn: c}
	return &sniffed{certified: l.certificates.server(first), below: first}, nil
}

// sniffed is a connection of TLS, or a plain one. One goroutine reads at a time;
// the other methods may be called by any.
type sniffed struct {
	certified
	below  *peeked
	looked bool
	plain  atomic.Bool
}

func (s *sniffed) Read(p []byte) (int, error) {
	if !s.looked && len(p) > 0 {
		first, err := s.below.peek()
		if err != nil {
			return 0, err
		}
		s.looked = true
		s.plain.Store(first != recordHandshake)
	}
	if s.plain.Load() {
		return s.below.Read(p)
	}
	return s.certified.Read(p)
}

func (s *sniffed) Write(p []byte) (int, error) {
	if s.plain.Load() {
		return s.below.Write(p)
	}
	return s.certified.Write(p)
}

func (s *sniffed) Close() error {
	if s.plain.Load() {
		return s.below.Close()
	}
	return s.certified.Close()
}

// CloseWrite is how the HTTP server ends a connection without a reset.
func (s *sniffed) CloseWrite() error {
	if !s.plain.Load() {
		return s.certified.CloseWrite()
	}
	if half, ok := s.below.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// IsPlain reports whether a connection of a TLS listener is not TLS. It is decided
// once something was read.
func IsPlain(c net.Conn) bool {
	s, ok := c.(*sniffed)
	return ok && s.plain.Load()
}

// peeked is a connection whose first byte was looked at.
type peeked struct {
	net.Conn
	first [1]byte
	left  bool // the first byte is still to be read
}

// peek reads the first byte and leaves it to be read.
func (p *peeked) peek() (byte, error) {
	n, err := p.Conn.Read(p.first[:])
	for n == 0 && err == nil {
		n, err = p.Conn.Read(p.first[:])
	}
	if n == 0 {
		return 0, err
	}
	p.left = true
	return p.first[0], nil
}

func (p *peeked) Read(b []byte) (int, error) {
	if p.left && len(b) > 0 {
		p.left = false
		return copy(b, p.first[:]), nil
	}
	return p.Conn.Read(b)
}
