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

// done forgets the batch that was written, and returns the bytes of messages and
// of raw packets in it.
func (w *writer) done() (messages, raw int) {
	for i := range w.batch {
		if m := w.batch[i].m; m != nil {
			messages += m.size()
		}
		raw += len(w.batch[i].raw)
	}
	clear(w.batch)
	w.batch = w.batch[:0]
	return messages, raw
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
// ones keep theirs (MQTT 5.0, 3.3.2.3.4). Each is remembered, so there are no
// more than a client may use itself.
func (w *writer) alias(o *wire.Outgoing) {
	c := w.c
	known, ok := c.aliasOut[o.Topic]
	if ok {
		o.Alias, o.OmitTopic = known, true
		return
	}
	if len(c.aliasOut) >= int(min(c.aliasMax, c.e.limits.TopicAliasMaximum)) || len(o.Topic) < 4 || len(o.Topic) > routeTopic {
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
	raw := w.c.raw
	if err := w.patience(goodbye); err != nil {
		return err
	}
	w.c.e.stats.out.bytes.Add(uint64(len(w.b) + w.loose))
	var err error
	if len(w.vector) == 0 {
		err = w.all(w.b, goodbye)
	} else if all := append(w.vector, w.b[w.sealed:]); w.plain() {
		for {
			var n int64
			n, err = all.WriteTo(raw)
			if !w.goesOn(int(n), err, goodbye) {
				break
			}
		}
	} else {
		for _, b := range all {
			if err = w.all(b, goodbye); err != nil {
				break
			}
		}
	}
	clear(w.vector)
	w.vector = w.vector[:0]
	if cap(w.b) <= cap(*w.buffer) {
		w.b = w.b[:0]
	} else {
		w.b = (*w.buffer)[:0]
	}
	w.sealed, w.loose = 0, 0
	return err
}

// patience sets how long the client may take nothing.
func (w *writer) patience(goodbye bool) error {
	d := w.c.e.limits.WriteTimeout
	if goodbye {
		d = goodbyeTime
	}
	return w.c.raw.SetWriteDeadline(time.Now().Add(d))
}

// plain tells whether the connection can go on after a write that took only
// some of it.
func (w *writer) plain() bool {
	switch w.c.raw.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}

// piece is what is written at once to a connection that cannot go on after a
// deadline, as TLS: a client that takes so much in time gets more time.
const piece = 16 << 10

// all writes b.
func (w *writer) all(b []byte, goodbye bool) error {
	plain := w.plain()
	for {
		now := b
		if !plain {
			now = b[:min(len(b), piece)]
		}
		n, err := w.c.raw.Write(now)
		b = b[n:]
		switch {
		case len(b) == 0 || err != nil && !w.goesOn(n, err, goodbye):
			return err
		case err == nil && !plain && !w.c.isEnding():
			if err := w.patience(goodbye); err != nil {
				return err
			}
		}
	}
}

// goesOn tells whether a write is to be taken up again where it stands.
func (w *writer) goesOn(n int, err error, goodbye bool) bool {
	return err != nil && n > 0 && !goodbye && w.plain() && errors.Is(err, os.ErrDeadlineExceeded) &&
		!w.c.isEnding() && w.patience(false) == nil
}
