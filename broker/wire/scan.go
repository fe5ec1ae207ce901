package wire

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// scanner reads a body. The first fault stays; what is read after it is zero.
type scanner struct {
	rest []byte
	err  error
}

func (s *scanner) fail(err error) {
	if s.err == nil {
		s.err = err
	}
	s.rest = nil
}

func (s *scanner) take(n int, what string) []byte {
	if s.err != nil {
		return nil
	}
	if len(s.rest) < n {
		s.fail(malformed(what + " is cut short"))
		return nil
	}
	b := s.rest[:n:n]
	s.rest = s.rest[n:]
	return b
}

func (s *scanner) byte(what string) byte {
	if b := s.take(1, what); b != nil {
		return b[0]
	}
	return 0
}

func (s *scanner) uint16(what string) uint16 {
	if b := s.take(2, what); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (s *scanner) uint32(what string) uint32 {
	if b := s.take(4, what); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (s *scanner) varint(what string) int {
	if s.err != nil {
		return 0
	}
	v, n, ok, err := varint(s.rest)
	switch {
	case err != nil:
		s.fail(err)
	case !ok:
		s.fail(malformed(what + " is cut short"))
	default:
		s.rest = s.rest[n:]
	}
	return v
}

// bytes reads binary data; it is not nil unless there is a fault.
func (s *scanner) bytes(what string) []byte {
	n := s.uint16(what)
	return s.take(int(n), what)
}

// text reads a UTF-8 string.
func (s *scanner) text(what string) []byte {
	b := s.bytes(what)
	if s.err == nil && !wellFormed(b) {
		s.fail(malformed(what + " is no UTF-8 string"))
		return nil
	}
	return b
}

// end makes what is left over a fault.
func (s *scanner) end(what string) error {
	if s.err == nil && len(s.rest) > 0 {
		s.fail(malformed(what + " is followed by more"))
	}
	return s.err
}

// wellFormed tells whether b is UTF-8 without surrogates and U+0000
// [MQTT-1.5.4-1, -2; MQTT 3.1.1: MQTT-1.5.3-1, -2].
func wellFormed(b []byte) bool { return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0 }
