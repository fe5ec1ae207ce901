package wire

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// scanner reads a body. It keeps the first error; what is read after it is zero.
type scanner struct {
	rest []byte
	err  error
}

// fail sets the error, and ends reading.
func (s *scanner) fail(err error) {
	if s.err == nil {
		s.err = err
	}
	s.rest = nil
}

// next returns the next n bytes. what names them in the error.
func (s *scanner) next(n int, what string) []byte {
	if s.err != nil {
		return nil
	}
	if len(s.rest) < n {
		s.fail(malformed(what + " is truncated"))
		return nil
	}
	b := s.rest[:n:n]
	s.rest = s.rest[n:]
	return b
}

func (s *scanner) readByte(what string) byte {
	if b := s.next(1, what); b != nil {
		return b[0]
	}
	return 0
}

func (s *scanner) readUint16(what string) uint16 {
	if b := s.next(2, what); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (s *scanner) readUint32(what string) uint32 {
	if b := s.next(4, what); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// readVarint reads a variable byte integer.
func (s *scanner) readVarint(what string) int {
	if s.err != nil {
		return 0
	}
	v, n, ok, err := varint(s.rest)
	switch {
	case err != nil:
		s.fail(err)
	case !ok:
		s.fail(malformed(what + " is truncated"))
	default:
		s.rest = s.rest[n:]
	}
	return v
}

// readBytes reads binary data. It returns nil only after an error.
func (s *scanner) readBytes(what string) []byte {
	n := s.readUint16(what)
	return s.next(int(n), what)
}

// readText reads a UTF-8 string.
func (s *scanner) readText(what string) []byte {
	b := s.readBytes(what)
	if s.err == nil && !validText(b) {
		s.fail(malformed(what + " is not a valid UTF-8 string"))
		return nil
	}
	return b
}

// checkEnd returns an error if bytes are left.
func (s *scanner) checkEnd(what string) error {
	if s.err == nil && len(s.rest) > 0 {
		s.fail(malformed(what + " has trailing bytes"))
	}
	return s.err
}

// validText reports whether b is UTF-8 without surrogates and U+0000 [MQTT-1.5.4-1,
// -2; MQTT 3.1.1: MQTT-1.5.3-1, -2].
func validText(b []byte) bool { return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0 }
