package client

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

// DefaultMaxPacket is the default of Options.MaxPacket, and of
// broker.limits.max_packet.
const DefaultMaxPacket = 16 << 20

// maxControl bounds packets other than PUBLISH, of which SUBACK is the longest.
const maxControl = 1 << 20

// read is the reading goroutine.
func (c *Conn) read(r *bufio.Reader) {
	defer close(c.readerDone)
	for {
		err := c.readPacket(r)
		if err == nil {
			continue
		}
		if !c.hasFailed() { // else it is the answer to our end
			c.noteEnd(err)
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) { // else the writer has the reason
			c.fail(fmt.Errorf("connection to %s lost: %w", c.name, err))
		}
		return
	}
}

// noteEnd sets endedByPeer by an error of reading or writing.
func (c *Conn) noteEnd(err error) {
	if errors.As(err, new(*DisconnectError)) || slices.ContainsFunc([]error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE}, func(peer error) bool { return errors.Is(err, peer) }) {
		c.endedByPeer.Store(true)
	}
}

// readHeader reads a fixed header. n is its length, size that of the body.
func readHeader(r *bufio.Reader) (first byte, n, size int, err error) {
	if first, err = r.ReadByte(); err != nil {
		return 0, 0, 0, err
	}
	for n = 1; ; {
		digit, err := r.ReadByte()
		if err != nil {
			return 0, 0, 0, unexpected(err)
		}
		size |= int(digit&0x7f) << (7 * (n - 1))
		n++
		if digit < 0x80 {
			return first, n, size, nil
		}
		if n == 5 {
			return 0, 0, 0, errors.New("the broker sent a packet with a malformed length")
		}
	}
}

// readBody reads a body of a size that was checked.
func readBody(r *bufio.Reader, size int) ([]byte, error) {
	body := make([]byte, size)
	_, err := io.ReadFull(r, body)
	return body, unexpected(err)
}

// unexpected returns the error of reading within a packet.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readPacket reads and handles one packet. A packet that no correct broker sends is an
// error, and one that is too large is not read into memory.
func (c *Conn) readPacket(r *bufio.Reader) error {
	first, n, size, err := readHeader(r)
	if err != nil {
		return err
	}
	kind := first >> 4
	if kind == wire.PublishType {
		switch {
		case first>>1&3 > 1:
			return errors.New("the broker sent a message of QoS 2, which was not subscribed to")
		case n+size > c.options.MaxPacket:
			return c.skipPublish(r, first, n, size)
		}
	} else if size > maxControl {
		return fmt.Errorf("the broker sent a packet of type %d with %d bytes; the limit is %d", kind, size, maxControl)
	}
	body, err := readBody(r, size)
	if err != nil {
		return err
	}
	if err := c.handle(first, body); err != nil {
		if malformed := new(wire.Error); errors.As(err, &malformed) {
			return fmt.Errorf("the broker sent a malformed packet of type %d: %w", kind, err)
		}
		return err
	}
	return nil
}

// handle handles a packet.
func (c *Conn) handle(first byte, body []byte) error {
	switch kind := first >> 4; kind {
	case wire.PublishType:
		d, err := wire.DecodeDelivery(first, body, c.version)
		if err != nil {
			return err
		}
		c.deliver(d)
	case wire.Puback:
		a, err := wire.DecodeServerAck(kind, body, c.version)
		if err != nil {
			return err
		}
		c.acknowledged(a)
	case wire.Suback, wire.Unsuback:
		a, err := wire.DecodeServerAck(kind, body, c.version)
		if err != nil {
			return err
		}
		c.mu.Lock()
		answer := c.state.requests[a.PacketID]
		delete(c.state.requests, a.PacketID)
		c.mu.Unlock()
		if answer != nil && kind == wire.Suback {
			answer <- a // does not block: it is buffered, and answered once
		}
	case wire.Pingresp:
		c.mu.Lock()
		c.state.pingSent = time.Time{}
		c.mu.Unlock()
		c.wakeWriter() // the next ping may be due before the answer to this one was
	case wire.Disconnect:
		code, reason, err := wire.DecodeServerDisconnect(body)
		if err != nil || c.version != wire.V5 {
			return fmt.Errorf("the broker sent a malformed packet of type %d", kind)
		}
		ended := &DisconnectError{Code: code, Text: reason}
		c.mu.Lock()
		c.state.disconnected = ended
		c.mu.Unlock()
		return ended
	default:
		return fmt.Errorf("the broker sent a packet of type %d, which was not expected", kind)
	}
	return nil
}

// deliver passes a message to the caller, and acknowledges it unless the caller does.
func (c *Conn) deliver(d wire.Delivery) {
	m := topics.Message{Topic: string(d.Topic), Payload: d.Payload, QoS: d.QoS, Retain: d.Retain}
	if deliver := c.options.OnDelivery; deliver != nil {
		deliver(m, func() { c.ack(d.QoS, d.PacketID) })
		return
	}
	if c.options.OnMessage != nil {
		c.options.OnMessage(m)
	}
	c.ack(d.QoS, d.PacketID)
}

// ack acknowledges a message of QoS 1.
func (c *Conn) ack(qos byte, id uint16) {
	if qos == 0 {
		return
	}
	c.sendControl(func(b []byte) []byte { return wire.AppendAck(b, wire.Puback, wire.Ack{PacketID: id}, c.version) })
}

// skipPublish skips a PUBLISH that is too large, reports it, and acknowledges it so
// that the broker does not send it again.
func (c *Conn) skipPublish(r *bufio.Reader, first byte, header, size int) error {
	left := size
	take := func(n int) ([]byte, error) {
		if left -= n; left < 0 {
			return nil, errors.New("the broker sent a malformed PUBLISH")
		}
		return readBody(r, n)
	}
	length, err := take(2)
	if err != nil {
		return err
	}
	topic, err := take(int(binary.BigEndian.Uint16(length)))
	if err != nil {
		return err
	}
	qos, id := first>>1&3, uint16(0)
	if qos == 1 {
		b, err := take(2)
		if err != nil {
			return err
		}
		id = binary.BigEndian.Uint16(b)
	}
	if report := c.options.TooLarge; report != nil {
		report(string(topic), header+size)
	} else if c.logTooLarge.allow(string(topic)) {
		c.log.Warn("a message is discarded: it exceeds this client's maximum packet size", "topic", shortTopic(string(topic)), "size", header+size, "limit", c.options.MaxPacket)
	}
	if _, err := io.CopyN(io.Discard, r, int64(left)); err != nil {
		return unexpected(err)
	}
	c.ack(qos, id)
	return nil
}

// topicLimiter limits log entries to one for each topic and a number of topics: a
// hostile broker could invent topics.
type topicLimiter struct{ logged map[string]bool }

// maxLoggedTopics is the number of topics.
const maxLoggedTopics = 20

// allow reports whether an entry about a topic may be logged, and counts it.
func (l *topicLimiter) allow(topic string) bool {
	topic = shortTopic(topic)
	if l.logged[topic] || len(l.logged) >= maxLoggedTopics {
		return false
	}
	if l.logged == nil {
		l.logged = make(map[string]bool)
	}
	l.logged[topic] = true
	return true
}

// shortTopic returns a topic, or its beginning if it is long.
func shortTopic(topic string) string {
	if len(topic) > 200 {
		return topic[:200] + "…"
	}
	return topic
}

// isPeerClosed reports whether an error of writing means that the broker closed the
// connection.
func isPeerClosed(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.ErrClosedPipe)
}
