package engine

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
)

// conn is a network connection. What the client is to get is put into out, and
// written by a goroutine that lives while there is something to write. Fields
// above the line belong to the goroutine that reads, those below are guarded by
// the session's mutex.
type conn struct {
	e        *Engine
	raw      net.Conn
	listener string
	remote   string
	in       reader
	s        *session // once CONNECT was taken
	who      *Client  // who it says it is, since CONNECT
	since    time.Time
	version  byte
	answered bool // it was told in CONNACK that it is not let in
	reported bool // why is in the log
	bridge   bool // of another broker: it is not given its own, and retain flags are kept
	hasWill  bool
	aliases  map[uint16]string // of topics, that the client gave
	publish  wire.Publish
	may      permission
	pace     pace
	part     int // memory counted for the frame that is being read
	// of the packets that are handled now, until they are counted
	publishes, payload uint64
	greeted            atomic.Bool   // it has its session
	closing            chan struct{} // closed with the connection
	once               sync.Once

	silence time.Duration // that the client may keep; 0: for ever
	heard   atomic.Int64  // when it was heard last, since Engine.began
	timer   *time.Timer
	waiting atomic.Int32  // turns whose acknowledgements wait for the store
	room    chan struct{} // has a value when waiting went down
	order   *ackOrder     // nil: nothing of the connection was paced yet
	account *account      // of the client's user; nil: it has no limit
	unacked atomic.Int32  // QoS 1 and 2 of the client that are not acknowledged

	// Below: guarded by session.mu.
	out      []packet
	held     int  // bytes of messages in out and on their way
	answers  int  // bytes of raw packets there
	taken    int  // packets on their way
	writing  bool // a goroutine does
	ending   bool // nothing more is put into out
	draining bool // it ends when everything is written
	lingers  bool // the goroutine that reads closes it, after what the client still sends
	dropping bool // the last message was dropped, and it was told
	left     bool // memory is taken out of the account
	memory   int  // that is counted for the connection, beside what is in out
	why      string

	maxPacket int // that the client takes; 0: any
	aliasMax  uint16
	aliasOut  map[string]uint16 // the writing goroutine's alone
}

// packet is one in the queue of a connection: a PUBLISH of m, an
// acknowledgement, or raw.
type packet struct {
	m     *message
	ids   []uint32
	raw   []byte
	id    uint16
	first byte // of the frame
	code  byte
}

func newConn(e *Engine, raw net.Conn, listener string) *conn {
	c := &conn{e: e, raw: raw, listener: listener, closing: make(chan struct{}), room: make(chan struct{}, 1), since: time.Now()}
	if a := raw.RemoteAddr(); a != nil {
		c.remote = a.String()
	}
	c.in = newReader(raw, e.limits.MaxPacket)
	return c
}

// cost is the memory that a connection takes up before it asks for anything.
func (c *conn) cost() int {
	if c.in.plain == nil {
		return costConnection + costSecure
	}
	return costConnection
}

// hangUp closes the connection, which ends the goroutine that reads.
func (c *conn) hangUp() {
	c.once.Do(func() { close(c.closing) })
	_ = c.raw.Close()
}

// pause waits.
func (c *conn) pause(d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-c.closing:
		return net.ErrClosed
	}
}

// ahead is how many turns a client may be ahead of the store. Then it is not
// read until the store has caught up: what is not stored is in memory.
const ahead = 16

// settle waits while the client is too far ahead of the store.
func (c *conn) settle() error {
	for c.waiting.Load() > ahead {
		select {
		case <-c.room:
		case <-c.closing:
			return net.ErrClosed
		}
	}
	return nil
}

// stored says that the store is one turn further.
func (c *conn) stored() {
	c.waiting.Add(-1)
	select {
	case c.room <- struct{}{}:
	default:
	}
}

// The rest is called with the session's mutex held, but for run's goroutines.

// offer puts a QoS 0 message into the queue, or drops it where the client has
// enough to read.
func (c *conn) offer(m *message, f byte, ids []uint32) {
	if len(c.out)+c.taken >= c.e.limits.MaxQueuedMessages || c.held+m.size() > c.e.limits.MaxQueuedBytes {
		c.s.drop(m.Topic, queueFull)
		c.dropping = true
		return
	}
	if n := costPacket + m.memory(); c.held+n > memoryFree && !c.s.admits(n) {
		why := ""
		if !c.dropping {
			why = c.s.noMemory(n)
		}
		c.s.drop(m.Topic, why)
		c.dropping = true
		return
	}
	c.dropping = false
	c.put(packet{m: m, ids: ids, first: wire.PublishType<<4 | f})
}

// deliver puts the next packet of a flight into the queue.
func (c *conn) deliver(d *delivery) {
	if d.phase == store.Releasing {
		c.put(packet{id: d.id, first: wire.Pubrel << 4})
		return
	}
	f := flags(d.qos, d.retain)
	if d.sent {
		f |= wire.FlagDup // [MQTT-3.3.1-1]
	}
	c.put(packet{m: d.m, ids: d.ids, id: d.id, first: wire.PublishType<<4 | f})
}

// reply puts a packet into the queue that is not a message. One that asks
// without reading the answers is not served for ever.
func (c *conn) reply(p packet) {
	l := &c.e.limits
	switch {
	case len(c.out) > 2*l.MaxQueuedMessages || c.answers+len(p.raw) > l.MaxQueuedBytes:
		c.end(wire.QuotaExceeded, "it does not read what it asks for")
	case c.answers+len(p.raw) > memoryFree && !c.s.admits(p.memory()):
		c.end(wire.QuotaExceeded, "it does not read what it asks for: "+c.s.noMemory(p.memory()))
	case c.maxPacket > 0 && len(p.raw) > c.maxPacket: // [MQTT-3.1.2-24]
		c.end(wire.PacketTooLarge, "it asks for more at once than it takes")
	default:
		c.put(p)
	}
}

func (c *conn) put(p packet) {
	if c.ending {
		return
	}
	if c.out == nil {
		c.out = *packets.Get().(*[]packet)
	}
	if p.m != nil {
		c.held += p.m.size()
		if p.id == 0 {
			c.e.memory.take(p.m)
		}
	}
	c.answers += len(p.raw)
	c.s.hold(p.memory())
	c.out = append(c.out, p)
}

// discard throws away what is queued and not on its way.
func (c *conn) discard() {
	for i := range c.out {
		if m := c.out[i].m; m != nil {
			c.held -= m.size()
		}
		c.answers -= len(c.out[i].raw)
	}
	c.s.written(c.out)
	c.out = nil
}

// written takes packets that are not queued any more out of the account. The
// caller holds the mutex.
func (s *session) written(batch []packet) {
	n := 0
	for i := range batch {
		if p := &batch[i]; p.m != nil && p.id == 0 {
			s.e.memory.drop(p.m)
		}
		n += batch[i].memory()
	}
	s.hold(-n)
}

// space is how many packets more the queue should have, so that there is
// something to write and nothing waits long.
func (c *conn) space() int {
	if c.ending || c.held > 64<<10 {
		return 0
	}
	return 2*replayed - len(c.out)
}

// wake has what is in the queue written.
func (c *conn) wake() {
	if len(c.out) > 0 || c.draining || c.s.conn == c && c.s.looking {
		c.start()
	}
}

func (c *conn) start() {
	if !c.writing {
		c.writing = true
		c.e.running.Go(c.write)
	}
}

func (c *conn) isEnding() bool {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.ending
}

// end ends the connection after what is queued, with a DISCONNECT where the
// client understands one (MQTT 5.0, 4.13). Code 0 says nothing.
func (c *conn) end(code byte, why string) {
	if c.ending {
		return
	}
	if code != 0 && c.version == wire.V5 {
		c.put(packet{raw: c.goodbye(code, why)})
	}
	c.ending, c.why = true, why
	c.lingers = code != 0 && c.canLinger()
	if code != 0 && code != wire.ServerShuttingDown {
		c.e.stats.ended[code].Add(1)
		c.e.ended(c.s.id, c.remote, why)
	}
	_ = c.raw.SetWriteDeadline(time.Now().Add(goodbyeTime)) // also of a write that stands still
	c.start()
}

// goodbye is a DISCONNECT. It says why as far as the client has room for it
// [MQTT-3.14.2-3].
func (c *conn) goodbye(code byte, why string) []byte {
	pk := wire.Packet{ProtocolVersion: wire.V5, ReasonCode: code}
	pk.Properties.ReasonString = why
	raw, err := wire.Append(nil, wire.Disconnect, pk)
	if err != nil || c.maxPacket > 0 && len(raw) > c.maxPacket {
		return []byte{wire.Disconnect << 4, 1, code}
	}
	return raw
}

// write writes what is queued until there is nothing more.
func (c *conn) write() {
	s := c.s
	w := newWriter(c)
	defer w.release()
	for {
		s.mu.Lock()
		s.written(w.batch)
		messages, raw := w.done()
		c.held, c.answers = c.held-messages, c.answers-raw
		c.taken = 0
		if s.conn == c {
			s.advance()
		}
		if len(c.out) == 0 {
			if c.draining && !c.ending && s.idle() {
				c.end(wire.ServerShuttingDown, "the server ends")
				s.mu.Unlock()
				continue
			}
			if s.conn == c && s.looking && !c.ending {
				s.mu.Unlock()
				continue
			}
			ending, lingers := c.ending, c.lingers
			c.writing = ending // nobody starts another
			s.mu.Unlock()
			switch {
			case lingers:
				c.stopReading()
			case ending:
				c.hangUp()
			}
			return
		}
		w.batch, c.out = c.out, w.spare()
		c.taken = len(w.batch)
		goodbye := c.ending
		if s.conn == c {
			s.onTheWire(w.batch)
		}
		s.mu.Unlock()
		if err := w.write(goodbye); err != nil {
			s.mu.Lock()
			if !c.ending {
				c.ending, c.why = true, "it does not take what it is sent: "+err.Error()
				if errors.Is(err, os.ErrDeadlineExceeded) {
					c.e.stats.ended[wire.Unspecified].Add(1)
					c.e.ended(s.id, c.remote, c.why)
				}
			}
			s.written(w.batch)
			c.discard()
			s.mu.Unlock()
			c.hangUp()
			return
		}
	}
}

// idle tells whether everything is written that can be without the client. The
// caller holds the mutex.
func (s *session) idle() bool { return s.flow.queue.len() == 0 && s.flow.again == 0 }

// onTheWire notes which flights are about to be written. The caller holds the
// mutex.
func (s *session) onTheWire(batch []packet) {
	from := 0
	for i := range batch {
		p := &batch[i]
		if p.m == nil || p.id == 0 {
			continue
		}
		for n := s.flow.flights.len(); from < n && s.flow.flights.at(from).id != p.id; {
			from++
		}
		if from < s.flow.flights.len() {
			s.flow.flights.at(from).sent = true
			from++
			continue
		}
		from = 0 // not in their order: from the beginning
		if _, d := s.flow.find(p.id); d != nil {
			d.sent = true
		}
	}
}

// acknowledge puts acknowledgements into the queue. Without err the store has
// what they speak for.
func (c *conn) acknowledge(acks []ack, err error) {
	if len(acks) == 0 {
		return
	}
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range acks {
		if err != nil && a.stored {
			a.Code = wire.QuotaExceeded
			if a.kind == wire.Pubrec {
				s.release(a.PacketID)
			}
			if c.version != wire.V5 {
				// there is no way to say no [MQTT 3.1.1: MQTT-3.3.5-2]
				c.end(wire.QuotaExceeded, "what it published cannot be stored: "+err.Error())
				return
			}
		}
		if a.kind != wire.Pubrec || a.Code >= 0x80 {
			c.unacked.Add(-1)
		}
		if c.version != wire.V5 && (a.kind == wire.Puback || a.kind == wire.Pubrec) {
			a.Code = wire.Success
		}
		c.reply(packet{id: a.PacketID, first: a.kind << 4, code: a.Code})
	}
	c.wake()
}

var packets = sync.Pool{New: func() any { p := make([]packet, 0, 16); return &p }}
