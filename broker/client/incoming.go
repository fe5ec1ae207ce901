package client

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
)

// DefaultMaxPacket is the size of the largest packet that a connection takes
// where Options name none: the default of broker.limits.max_packet.
const DefaultMaxPacket = 16 << 20

// The bounds of what is no PUBLISH: SUBACK is the longest of these.
const (
	maxControl = 1 << 20
	maxHeader  = 5 // bytes of a fixed header
)

// The packet types of MQTT 3.1.1 that incoming looks at.
const (
	typePublish = 3
	typePuback  = 4
	typeAuth    = 15
)

// incoming is what a broker sends, cut into packets before paho sees it: paho
// allocates as much as a packet announces, up to 256 MiB. A PUBLISH that is too
// large is read past, acknowledged and reported; what no broker sends that keeps
// to the protocol ends the connection.
type incoming struct {
	in       *bufio.Reader
	limit    int    // bytes of a PUBLISH with its header
	head     []byte // of a header that is not handed on yet
	body     int    // bytes of the packet that follow it
	ack      func(packet []byte) error
	tooLarge func(topic string, size int)
	v5       *v5 // nil: the line speaks 3.1.1
}

func newIncoming(conn io.Reader, limit int, ack func([]byte) error, tooLarge func(topic string, size int)) *incoming {
	return &incoming{in: bufio.NewReader(conn), limit: limit, ack: ack, tooLarge: tooLarge}
}

// Read hands on bytes of packets that are within the limits.
func (r *incoming) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for len(r.head) == 0 && r.body == 0 {
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	if len(r.head) > 0 {
		n := copy(b, r.head)
		r.head = r.head[n:]
		return n, nil
	}
	n, err := r.in.Read(b[:min(len(b), r.body)])
	r.body -= n
	return n, err
}

// next reads the header of a packet, and the whole packet if it is too large.
func (r *incoming) next() error {
	var header [maxHeader]byte
	n, size := 0, 0
	for {
		c, err := r.in.ReadByte()
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
	case isPublish && header[0]>>1&3 > 1: // paho would keep it until PUBREL
		return errors.New("the broker sent a message of QoS 2, which was not subscribed to")
	case !isPublish && size > maxControl:
		return fmt.Errorf("the broker sent a packet of type %d with %d bytes; the limit is %d", header[0]>>4, size, maxControl)
	case isPublish && n+size > r.limit:
		return r.skip(header[0], n, size)
	}
	if r.v5 != nil {
		return r.translate(header[0], size)
	}
	r.head, r.body = append(r.head[:0], header[:n]...), size
	return nil
}

// translate reads a packet of 5.0 and hands it on in the form of 3.1.1. The
// payload of a PUBLISH is not copied.
func (r *incoming) translate(first byte, size int) error {
	if first>>4 != typePublish {
		if first>>4 == typeAuth {
			return malformed(typeAuth)
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(r.in, body); err != nil {
			return err
		}
		packet, err := r.v5.in(first, body)
		r.head, r.body = packet, 0
		return err
	}
	left := size
	var kept []byte // topic and packet id
	take := func(n int) ([]byte, error) {
		if left -= n; left < 0 {
			return nil, malformed(typePublish)
		}
		at := len(kept)
		kept = append(kept, make([]byte, n)...)
		_, err := io.ReadFull(r.in, kept[at:])
		return kept[at:], err
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
		c, err := r.in.ReadByte()
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
	if _, err := r.in.Discard(properties); err != nil {
		return err
	}
	r.head = append(appendHeader(nil, first, len(kept)+left), kept...)
	r.body = left
	return nil
}

// skip reads past a PUBLISH, and acknowledges it so that the broker does not
// send it again.
func (r *incoming) skip(first byte, header, size int) error {
	left := size
	take := func(n int) ([]byte, error) {
		if left -= n; left < 0 {
			return nil, errors.New("the broker sent a malformed PUBLISH")
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r.in, b); errors.Is(err, io.EOF) {
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
	if _, err := io.CopyN(io.Discard, r.in, int64(left)); err != nil {
		return err
	}
	if id == nil {
		return nil
	}
	return r.ack([]byte{typePuback << 4, 2, id[0], id[1]})
}

// closedAs gives the error by which paho knows a connection closed by itself,
// also where the connection is not TCP.
func closedAs(err error) error {
	if errors.Is(err, io.ErrClosedPipe) {
		return net.ErrClosed
	}
	return err
}

// logTooLarge reports messages that were not taken, each topic once and no more
// than a few: a hostile broker makes topics up.
func logTooLarge(log *slog.Logger, limit int) func(topic string, size int) {
	const most = 20
	logged := make(map[string]bool)
	return func(topic string, size int) {
		if len(topic) > 200 {
			topic = topic[:200] + "…"
		}
		if logged[topic] || len(logged) >= most {
			return
		}
		logged[topic] = true
		log.Warn("a message is not taken: it is larger than this client's limit of a packet", "topic", topic, "size", size, "limit", limit)
	}
}
