package client

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// DefaultMaxPacket is the default of Options.MaxPacket, and of
// broker.limits.max_packet.
const DefaultMaxPacket = 16 << 20

// The bounds of packets other than PUBLISH, of which SUBACK is the longest.
const (
	maxControl = 1 << 20
	// maxHeader is the size of a fixed header in bytes.
	maxHeader = 5
)

// The packet types that packetReader distinguishes.
const (
	typePublish = 3
	typePuback  = 4
	typeAuth    = 15
)

// packetReader splits what a broker sends into packets before paho reads it: paho
// allocates as much as a packet announces, up to 256 MiB. A PUBLISH that is too large
// is skipped, acknowledged and reported; a packet that no correct broker sends ends
// the connection.
type packetReader struct {
	source *bufio.Reader
	// limit is the maximum size of a PUBLISH with its header.
	limit int
	// header is what is read of the current packet and not passed on.
	header []byte
	// remaining is the number of bytes of the packet after header.
	remaining int
	ack       func(packet []byte) error
	tooLarge  func(topic string, size int)
	// translator is nil on a connection of 3.1.1.
	translator *translator
}

// newPacketReader returns a reader of conn. ack sends an acknowledgement, tooLarge
// reports a skipped message.
func newPacketReader(conn io.Reader, limit int, ack func([]byte) error, tooLarge func(topic string, size int)) *packetReader {
	return &packetReader{source: bufio.NewReader(conn), limit: limit, ack: ack, tooLarge: tooLarge}
}

// Read returns bytes of packets that are within the limits.
func (r *packetReader) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for len(r.header) == 0 && r.remaining == 0 {
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	if len(r.header) > 0 {
		n := copy(b, r.header)
		r.header = r.header[n:]
		return n, nil
	}
	n, err := r.source.Read(b[:min(len(b), r.remaining)])
	r.remaining -= n
	return n, err
}

// next reads the header of a packet, and the whole packet if it is too large.
func (r *packetReader) next() error {
	var header [maxHeader]byte
	n, size := 0, 0
	for {
		c, err := r.source.ReadByte()
		if err != nil {
			return err
		}
		header[n] = c
		n++
		if n == 1 {
			continue
		}
		size |= int(c&0x7f) << (7 * (n - 2))
		if c < 0x80 {
			break
		}
		if n == maxHeader {
			return errors.New("the broker sent a packet with a malformed length")
		}
	}
	isPublish := header[0]>>4 == typePublish
	switch {
	case isPublish && header[0]>>1&3 > 1: // paho would hold it until PUBREL
		return errors.New("the broker sent a message of QoS 2, which was not subscribed to")
	case !isPublish && size > maxControl:
		return fmt.Errorf("the broker sent a packet of type %d with %d bytes; the limit is %d", header[0]>>4, size, maxControl)
	case isPublish && n+size > r.limit:
		return r.skipPublish(header[0], n, size)
	}
	if r.translator != nil {
		return r.translate(header[0], size)
	}
	r.header, r.remaining = append(r.header[:0], header[:n]...), size
	return nil
}

// translate reads a packet of 5.0 and passes it on in the form of 3.1.1. The payload
// of a PUBLISH is not copied.
func (r *packetReader) translate(first byte, size int) error {
	if first>>4 != typePublish {
		if first>>4 == typeAuth {
			return malformed(typeAuth)
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(r.source, body); err != nil {
			return err
		}
		packet, err := r.translator.fromV5(first, body)
		r.header, r.remaining = packet, 0
		return err
	}
	left := size
	var prefix []byte // topic and packet id
	take := func(n int) ([]byte, error) {
		if left -= n; left < 0 {
			return nil, malformed(typePublish)
		}
		at := len(prefix)
		prefix = append(prefix, make([]byte, n)...)
		_, err := io.ReadFull(r.source, prefix[at:])
		return prefix[at:], err
	}
	length, err := take(2)
	if err != nil {
		return err
	}
	ids := 0
	if first>>1&3 > 0 {
		ids = 2
	}
	if _, err := take(int(binary.BigEndian.Uint16(length)) + ids); err != nil {
		return err
	}
	properties, digits := 0, 0
	for more := true; more; digits++ {
		c, err := r.source.ReadByte()
		if err != nil {
			return err
		}
		if digits > 3 {
			return malformed(typePublish)
		}
		properties |= int(c&0x7f) << (7 * digits)
		more = c >= 0x80
	}
	if left -= digits + properties; left < 0 {
		return malformed(typePublish)
	}
	if _, err := r.source.Discard(properties); err != nil {
		return err
	}
	r.header = append(appendHeader(nil, first, len(prefix)+left), prefix...)
	r.remaining = left
	return nil
}

// skipPublish skips a PUBLISH, and acknowledges it so that the broker does not send it
// again.
func (r *packetReader) skipPublish(first byte, header, size int) error {
	left := size
	take := func(n int) ([]byte, error) {
		if left -= n; left < 0 {
			return nil, errors.New("the broker sent a malformed PUBLISH")
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r.source, b); errors.Is(err, io.EOF) {
			return nil, io.ErrUnexpectedEOF
		} else if err != nil {
			return nil, err
		}
		return b, nil
	}
	length, err := take(2)
	if err != nil {
		return err
	}
	topic, err := take(int(binary.BigEndian.Uint16(length)))
	if err != nil {
		return err
	}
	var id []byte
	if first>>1&3 == 1 {
		if id, err = take(2); err != nil {
			return err
		}
	}
	r.tooLarge(string(topic), header+size)
	if _, err := io.CopyN(io.Discard, r.source, int64(left)); err != nil {
		return err
	}
	if id == nil {
		return nil
	}
	return r.ack([]byte{typePuback << 4, 2, id[0], id[1]})
}

// logTooLarge returns a function that logs messages that are too large, each topic
// once and a bounded number: a hostile broker could invent topics.
func logTooLarge(log *slog.Logger, limit int) func(topic string, size int) {
	const maxTopics = 20
	logged := make(map[string]bool)
	return func(topic string, size int) {
		if len(topic) > 200 {
			topic = topic[:200] + "…"
		}
		if logged[topic] || len(logged) >= maxTopics {
			return
		}
		logged[topic] = true
		log.Warn("a message is discarded: it exceeds this client's maximum packet size", "topic", topic, "size", size, "limit", limit)
	}
}
