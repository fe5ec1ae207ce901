package engine

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/broker/wire"
)

// writer encodes the packets of a batch and writes them gathered.
type writer struct {
	c      *conn
	batch  []packet
	buffer *[]byte
	b      []byte      // what is encoded and not written
	sealed int         // how much of b is in vector
	vector net.Buffers // b and the large payloads between
	loose  int         // bytes in vector
}

const (
	gathered = 32 << 10 // bytes, then they are written
	large    = 4 << 10  // bytes of a payload that is not copied
)

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, gathered+2*large); return &b }}

func newWriter(c *conn) *writer { return &writer{c: c} }

func (w *writer) release() {
	if w.buffer != nil {
		buffers.Put(w.buffer)
	}
	w.recycle()
}

// done forgets the batch that was written and returns its size.
func (w *writer) done() (size int) {
	for i := range w.batch {
		if m := w.batch[i].m; m != nil {
			size += m.size()
		}
	}
	clear(w.batch)
	w.batch = w.batch[:0]
	return size
}

// spare is the empty batch, for what comes next.
func (w *writer) spare() []packet {
	b := w.batch
	w.batch = nil
	if cap(b) == 0 {
		return nil
	}
	return b
}

func (w *writer) recycle() {
	if n := cap(w.batch); n > 0 && n <= 4096 {
		clear(w.batch)
		b := w.batch[:0]
		packets.Put(&b)
	}
	w.batch = nil
}

// write writes the batch.
func (w *writer) write(goodbye bool) error {
	if w.buffer == nil {
		w.buffer = buffers.Get().(*[]byte)
		w.b = (*w.buffer)[:0]
	}
	see := w.c.e.trace.Load()
	var out Traffic
	out.Packets = uint64(len(w.batch))
	for i := range w.batch {
		p := &w.batch[i]
		if p.m != nil {
			out.Publishes++
			out.Payload += uint64(len(p.m.Payload))
		}
		if see != nil {
			w.c.traceOut(see, p)
		}
		w.encode(p)
		if len(w.b)+w.loose >= gathered {
			if err := w.flush(goodbye); err != nil {
				return err
			}
		}
	}
	w.c.e.stats.out.add(out)
	return w.flush(goodbye)
}

func (w *writer) encode(p *packet) {
	switch {
	case p.raw != nil:
		w.b = append(w.b, p.raw...)
	case p.m == nil:
		w.b = wire.AppendAck(w.b, p.first>>4, wire.Ack{PacketID: p.id, Code: p.code}, w.c.version)
	default:
		w.publish(p)
	}
}

func (w *writer) publish(p *packet) {
	c, m := w.c, p.m
	o := outgoing(m, p.ids, p.first&0xf)
	o.PacketID = p.id
	if c.version == wire.V5 {
		if !m.Expires.IsZero() {
			// [MQTT-3.3.2-6]; what is sent again although it expired has no time left
			left := max(time.Until(m.Expires), 0)
			o.HasExpiry, o.Expiry = true, uint32((left+time.Second-1)/time.Second)
		}
		if c.aliasMax > 0 {
			w.alias(&o)
		}
	}
	w.b = o.Append(w.b, c.version)
	if len(m.Payload) < large {
		w.b = append(w.b, m.Payload...)
		return
	}
	w.vector = append(w.vector, w.b[w.sealed:], m.Payload)
	w.sealed = len(w.b)
	w.loose += len(m.Payload)
}

// alias gives a topic an alias, as long as the client takes more: the first
// ones keep theirs (MQTT 5.0, 3.3.2.3.4).
func (w *writer) alias(o *wire.Outgoing) {
	c := w.c
	known, ok := c.aliasOut[o.Topic]
	if ok {
		o.Alias, o.OmitTopic = known, true
		return
	}
	if len(c.aliasOut) >= int(c.aliasMax) || len(o.Topic) < 4 {
		return
	}
	if c.aliasOut == nil {
		c.aliasOut = make(map[string]uint16)
	}
	o.Alias = uint16(len(c.aliasOut) + 1)
	c.aliasOut[o.Topic] = o.Alias
}

func outgoing(m *message, ids []uint32, f byte) wire.Outgoing {
	return wire.Outgoing{Flags: f, Topic: m.Topic, Identifiers: ids, Forward: m.forward, Payload: len(m.Payload)}
}

// tooLarge tells whether a message is more than the client takes
// [MQTT-3.1.2-24].
func (c *conn) tooLarge(m *message, ids []uint32, qos byte) bool {
	if c.maxPacket == 0 {
		return false
	}
	o := outgoing(m, ids, qos<<1)
	o.HasExpiry = !m.Expires.IsZero()
	size := o.Size(c.version)
	if c.aliasMax > 0 {
		size += 3 + 1
	}
	return size > c.maxPacket
}

// flush writes what is encoded. A client that takes some of it in time gets
// more time, over a connection that can go on after that.
func (w *writer) flush(goodbye bool) error {
	if len(w.b) == 0 {
		return nil
	}
	patience := w.c.e.limits.WriteTimeout
	if goodbye {
		patience = goodbyeTime
	}
	raw := w.c.raw
	if err := raw.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	w.c.e.stats.out.bytes.Add(uint64(len(w.b) + w.loose))
	var err error
	if len(w.vector) == 0 {
		rest := w.b
		for {
			var n int
			n, err = raw.Write(rest)
			if rest = rest[n:]; !w.goesOn(n, err, goodbye) {
				break
			}
		}
	} else {
		all := append(w.vector, w.b[w.sealed:])
		for {
			var n int64
			n, err = all.WriteTo(raw)
			if !w.goesOn(int(n), err, goodbye) {
				break
			}
		}
		clear(w.vector)
		w.vector = w.vector[:0]
	}
	if cap(w.b) <= cap(*w.buffer) {
		w.b = w.b[:0]
	} else {
		w.b = (*w.buffer)[:0]
	}
	w.sealed, w.loose = 0, 0
	return err
}

func (w *writer) goesOn(n int, err error, goodbye bool) bool {
	if err == nil || n == 0 || goodbye || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	if _, plain := w.c.raw.(*net.TCPConn); !plain {
		return false
	}
	return w.c.raw.SetWriteDeadline(time.Now().Add(w.c.e.limits.WriteTimeout)) == nil
}
