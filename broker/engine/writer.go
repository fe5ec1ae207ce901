package engine

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/broker/wire"
)

// writer encodes packets and writes them with few system calls.
type writer struct {
	c       *conn
	packets []packet
	buffer  *[]byte
	// encoded is what is encoded and not written.
	encoded []byte
	// vectored is how much of encoded is in vector.
	vectored int
	// vector holds parts of encoded, and the large payloads between them.
	vector net.Buffers
	// vectorBytes is the size of the payloads in vector.
	vectorBytes int
}

const (
	// writeSize is the number of bytes from which they are written.
	writeSize = 32 << 10
	// largePayload is the size from which a payload is not copied.
	largePayload = 4 << 10
)

// writeBuffers pools the buffers of writers.
var writeBuffers = sync.Pool{New: func() any { b := make([]byte, 0, writeSize+2*largePayload); return &b }}

// newWriter returns a writer for one run of the writing goroutine.
func newWriter(c *conn) *writer { return &writer{c: c} }

// release returns the buffers to their pools.
func (w *writer) release() {
	if w.buffer != nil {
		writeBuffers.Put(w.buffer)
	}
	w.recycle()
}

// finishBatch clears the packets that were written, and returns the bytes of messages
// and of raw packets among them.
func (w *writer) finishBatch() (messages, raw int) {
	for i := range w.packets {
		if m := w.packets[i].msg; m != nil {
			messages += m.size()
		}
		raw += len(w.packets[i].raw)
	}
	clear(w.packets)
	w.packets = w.packets[:0]
	return messages, raw
}

// takeSpare returns the cleared slice of packets, to be used as the next queue.
func (w *writer) takeSpare() []packet {
	b := w.packets
	w.packets = nil
	if cap(b) == 0 {
		return nil
	}
	return b
}

// recycle returns the slice of packets to its pool.
func (w *writer) recycle() {
	if n := cap(w.packets); n > 0 && n <= 4096 {
		clear(w.packets)
		b := w.packets[:0]
		packetSlices.Put(&b)
	}
	w.packets = nil
}

// write encodes and writes the packets. last is set for the final ones of a
// connection.
func (w *writer) write(last bool) error {
	if w.buffer == nil {
		w.buffer = writeBuffers.Get().(*[]byte)
		w.encoded = (*w.buffer)[:0]
	}
	emit := w.c.e.trace.Load()
	var out Traffic
	out.Packets = uint64(len(w.packets))
	for i := range w.packets {
		p := &w.packets[i]
		if p.msg != nil {
			out.Publishes++
			out.Payload += uint64(len(p.msg.Payload))
		}
		if emit != nil {
			w.c.traceOut(emit, p)
		}
		w.encode(p)
		if len(w.encoded)+w.vectorBytes >= writeSize {
			if err := w.flush(last); err != nil {
				return err
			}
		}
	}
	w.c.e.stats.out.add(out)
	return w.flush(last)
}

// encode appends a packet.
func (w *writer) encode(p *packet) {
	switch {
	case p.raw != nil:
		w.encoded = append(w.encoded, p.raw...)
	case p.msg == nil:
		w.encoded = wire.AppendAck(w.encoded, p.first>>4, wire.Ack{PacketID: p.id, Code: p.code}, w.c.version)
	default:
		w.publish(p)
	}
}

// publish appends a PUBLISH, with its expiry interval and topic alias in MQTT 5. A
// large payload is not copied.
func (w *writer) publish(p *packet) {
	c, m := w.c, p.msg
	o := outgoing(m, p.ids, p.first&0xf)
	o.PacketID = p.id
	if c.version == wire.V5 {
		if !m.Expires.IsZero() {
			// [MQTT-3.3.2-6]; an expired message that is sent again has no time left
			remaining := max(time.Until(m.Expires), 0)
			o.HasExpiry, o.Expiry = true, uint32((remaining+time.Second-1)/time.Second)
		}
		if c.maxOutAliases > 0 {
			w.alias(&o)
		}
	}
	w.encoded = o.Append(w.encoded, c.version)
	if len(m.Payload) < largePayload {
		w.encoded = append(w.encoded, m.Payload...)
		return
	}
	w.vector = append(w.vector, w.encoded[w.vectored:], m.Payload)
	w.vectored = len(w.encoded)
	w.vectorBytes += len(m.Payload)
}

// alias assigns an alias to a topic while the client accepts more: the first topics
// keep theirs (MQTT 5.0, 3.3.2.3.4). As each is remembered, there are no more than a
// client may set itself.
func (w *writer) alias(o *wire.Outgoing) {
	c := w.c
	alias, ok := c.outAliases[o.Topic]
	if ok {
		o.Alias, o.OmitTopic = alias, true
		return
	}
	if len(c.outAliases) >= int(min(c.maxOutAliases, c.e.limits.TopicAliasMaximum)) || len(o.Topic) < 4 || len(o.Topic) > maxCachedTopic {
		return
	}
	if c.outAliases == nil {
		c.outAliases = make(map[string]uint16)
	}
	o.Alias = uint16(len(c.outAliases) + 1)
	c.outAliases[o.Topic] = o.Alias
}

// outgoing returns the PUBLISH of a message.
func outgoing(m *message, ids []uint32, f byte) wire.Outgoing {
	return wire.Outgoing{Flags: f, Topic: m.Topic, Identifiers: ids, Forward: m.forward, Payload: len(m.Payload)}
}

// tooLarge reports whether a message exceeds the client's maximum packet size
// [MQTT-3.1.2-24].
func (c *conn) tooLarge(m *message, ids []uint32, qos byte) bool {
	if c.maxPacket == 0 {
		return false
	}
	o := outgoing(m, ids, qos<<1)
	o.HasExpiry = !m.Expires.IsZero()
	size := o.Size(c.version)
	if c.maxOutAliases > 0 {
		size += 3 + 1
	}
	return size > c.maxPacket
}

// flush writes what is encoded. A client that accepts some of it in time gets more
// time, if the connection can resume after a deadline.
func (w *writer) flush(last bool) error {
	if len(w.encoded) == 0 {
		return nil
	}
	raw := w.c.netConn
	if err := w.setDeadline(last); err != nil {
		return err
	}
	w.c.e.stats.out.bytes.Add(uint64(len(w.encoded) + w.vectorBytes))
	var err error
	if len(w.vector) == 0 {
		err = w.writeAll(w.encoded, last)
	} else if all := append(w.vector, w.encoded[w.vectored:]); w.resumable() {
		for {
			var n int64
			n, err = all.WriteTo(raw)
			if !w.canResume(int(n), err, last) {
				break
			}
		}
	} else {
		for _, b := range all {
			if err = w.writeAll(b, last); err != nil {
				break
			}
		}
	}
	clear(w.vector)
	w.vector = w.vector[:0]
	if cap(w.encoded) <= cap(*w.buffer) {
		w.encoded = w.encoded[:0]
	} else {
		w.encoded = (*w.buffer)[:0]
	}
	w.vectored, w.vectorBytes = 0, 0
	return err
}

// setDeadline sets how long the client may accept nothing.
func (w *writer) setDeadline(last bool) error {
	d := w.c.e.limits.WriteTimeout
	if last {
		d = disconnectTimeout
	}
	return w.c.netConn.SetWriteDeadline(time.Now().Add(d))
}

// resumable reports whether the connection can continue after a write that was cut
// short by a deadline.
func (w *writer) resumable() bool {
	switch w.c.netConn.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}

// chunkSize is what is written at once to a connection that cannot resume after a
// deadline, such as TLS: a client that accepts that much in time gets more time.
const chunkSize = 16 << 10

// writeAll writes b, in chunks if the connection is not resumable.
func (w *writer) writeAll(b []byte, last bool) error {
	resumable := w.resumable()
	for {
		chunk := b
		if !resumable {
			chunk = b[:min(len(b), chunkSize)]
		}
		n, err := w.c.netConn.Write(chunk)
		b = b[n:]
		if len(b) == 0 || err != nil && !w.canResume(n, err, last) {
			return err
		}
		if err == nil && !resumable && !w.c.isEnding() {
			if err := w.setDeadline(last); err != nil {
				return err
			}
		}
	}
}

// canResume reports whether a write that stopped after n bytes with err is to be
// continued.
func (w *writer) canResume(n int, err error, last bool) bool {
	return err != nil && n > 0 && !last && w.resumable() && errors.Is(err, os.ErrDeadlineExceeded) &&
		!w.c.isEnding() && w.setDeadline(false) == nil
}
