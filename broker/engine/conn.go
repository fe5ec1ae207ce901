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

// conn is a network connection. Packets for the client are appended to queue, and
// written by a goroutine that runs while the queue is not empty. The first group of
// fields belongs to the reading goroutine, the last is guarded by the session's mutex.
type conn struct {
	e        *Engine
	netConn  net.Conn
	listener string
	remote   string
	reader   reader
	// s is nil until CONNECT was accepted.
	s *session
	// client is who the client claims to be, since CONNECT.
	client  *Client
	since   time.Time
	version byte
	// refusalSent is set when a CONNACK refused the client.
	refusalSent bool
	// refusalLogged is set when the reason for refusing the client is in the log.
	refusalLogged bool
	// bridge is set for a bridge of another broker, which does not get its own
	// messages, and gets retain flags as published.
	bridge  bool
	hasWill bool
	// aliases holds the topic aliases that the client has set (MQTT 5.0, 3.3.2.3.4).
	aliases    map[uint16]string
	publish    wire.Publish
	canPublish publishPermission
	// packetLimit is the size of the largest packet from the client, in bytes.
	packetLimit int
	readLimiter readLimiter
	// partialMemory is the memory accounted for a large frame that is being read.
	partialMemory int
	// publishCount and payloadBytes count the packets of the current read, until they
	// are added to the statistics.
	publishCount, payloadBytes uint64
	// hasSession is set when the handshake has attached a session.
	hasSession atomic.Bool
	// closed is closed with the connection.
	closed    chan struct{}
	closeOnce sync.Once

	// keepAliveTimeout is the time without a packet after which the connection ends;
	// 0: never.
	keepAliveTimeout time.Duration
	// lastReceived is when data was last received, since Engine.started.
	lastReceived atomic.Int64
	timer        *time.Timer
	// unstored counts batches whose acknowledgements wait for the store.
	unstored atomic.Int32
	// storeAdvanced has a value when unstored has decreased.
	storeAdvanced chan struct{}
	// ackOrder is nil until a retained message of the connection is deferred.
	ackOrder *ackOrder
	// budget is that of the client's user; nil: no limit.
	budget *writeBudget
	// unacked counts messages of QoS 1 and 2 from the client that are not
	// acknowledged.
	unacked atomic.Int32

	// Guarded by s.mu from here on. queue holds the packets to be written.
	queue []packet
	// queuedBytes is the size of the messages in queue and in the writer.
	queuedBytes int
	// rawBytes is the size of the raw packets there.
	rawBytes int
	// beingWritten is the number of packets in the writer.
	beingWritten int
	// writing is set while a goroutine writes.
	writing bool
	// ending is set when nothing more may be queued.
	ending bool
	// draining is set when the connection ends as soon as everything is written.
	draining bool
	// lingering is set when the reading goroutine closes the connection, after it has
	// read what the client still sends.
	lingering bool
	// dropReported is set when the last message was dropped, and that was reported.
	dropReported bool
	// memoryReleased is set when memory is no longer accounted for.
	memoryReleased bool
	// memory is what is accounted for the connection besides its queue.
	memory int
	reason string

	// maxPacket is the client's maximum packet size in bytes; 0: no limit.
	maxPacket     int
	maxOutAliases uint16
	// outAliases belongs to the writing goroutine.
	outAliases map[string]uint16
}

// packet is an entry of a connection's queue: a PUBLISH of msg, an acknowledgement, or
// raw.
type packet struct {
	msg *message
	ids []uint32
	raw []byte
	id  uint16
	// first is the first byte of the frame: type and flags.
	first byte
	code  byte
}

// newConn returns a connection that run is to serve.
func newConn(e *Engine, raw net.Conn, listener string) *conn {
	c := &conn{e: e, netConn: raw, listener: listener, closed: make(chan struct{}), storeAdvanced: make(chan struct{}, 1), since: time.Now()}
	if a := raw.RemoteAddr(); a != nil {
		c.remote = a.String()
	}
	c.packetLimit = e.limits.MaxPacket
	c.reader = newReader(raw, e.limits.MaxPacket)
	return c
}

// baseMemory is the memory that a connection takes before its client sends anything.
func (c *conn) baseMemory() int {
	if c.reader.rawConn == nil {
		return costConnection + costSecure
	}
	return costConnection
}

// close closes the network connection, which ends the reading goroutine.
func (c *conn) close() {
	c.closeOnce.Do(func() { close(c.closed) })
	_ = c.netConn.Close()
}

// sleep waits for d, or until the connection is closed.
func (c *conn) sleep(d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-c.closed:
		return net.ErrClosed
	}
}

// maxUnstored is how many batches of a client may wait for the store. Beyond that its
// connection is not read: what is not stored is held in memory.
const maxUnstored = 16

// waitForStore waits while more than maxUnstored batches of the client wait for the
// store.
func (c *conn) waitForStore() error {
	for c.unstored.Load() > maxUnstored {
		select {
		case <-c.storeAdvanced:
		case <-c.closed:
			return net.ErrClosed
		}
	}
	return nil
}

// batchStored is called when the store has taken a batch.
func (c *conn) batchStored() {
	c.unstored.Add(-1)
	select {
	case c.storeAdvanced <- struct{}{}:
	default:
	}
}

// The rest is called with the session's mutex held, but for run's goroutines.

// enqueueQoS0 queues a message of QoS 0, or drops it if the queue is full or there is
// no memory. The caller holds s.mu.
func (c *conn) enqueueQoS0(m *message, f byte, ids []uint32) {
	if len(c.queue)+c.beingWritten >= c.e.limits.MaxQueuedMessages || c.queuedBytes+m.size() > c.e.limits.MaxQueuedBytes {
		c.s.countDropped(m.Topic, queueFull)
		c.dropReported = true
		return
	}
	if n := costPacket + m.memory(); c.queuedBytes+n > memoryAlwaysFree && !c.s.admits(n) {
		reason := ""
		if !c.dropReported {
			reason = c.s.memoryRefusal(n)
		}
		c.s.countDropped(m.Topic, reason)
		c.dropReported = true
		return
	}
	c.dropReported = false
	c.enqueue(packet{msg: m, ids: ids, first: wire.PublishType<<4 | f})
}

// enqueueDelivery queues the next packet of a delivery in flight. The caller holds
// s.mu.
func (c *conn) enqueueDelivery(d *delivery) {
	if d.phase == store.Releasing {
		c.enqueue(packet{id: d.id, first: wire.Pubrel << 4})
		return
	}
	f := flags(d.qos, d.retain)
	if d.sent {
		f |= wire.FlagDup // [MQTT-3.3.1-1]
	}
	c.enqueue(packet{msg: d.msg, ids: d.ids, id: d.id, first: wire.PublishType<<4 | f})
}

// enqueueReply queues a packet that is not a message. A client that sends requests and
// does not read the answers is disconnected. The caller holds s.mu.
func (c *conn) enqueueReply(p packet) {
	l := &c.e.limits
	switch {
	case len(c.queue) > 2*l.MaxQueuedMessages || c.rawBytes+len(p.raw) > l.MaxQueuedBytes:
		c.disconnect(wire.QuotaExceeded, "it sends requests and does not read the answers")
	case c.rawBytes+len(p.raw) > memoryAlwaysFree && !c.s.admits(p.memory()):
		c.disconnect(wire.QuotaExceeded, "it sends requests and does not read the answers: "+c.s.memoryRefusal(p.memory()))
	case c.maxPacket > 0 && len(p.raw) > c.maxPacket: // [MQTT-3.1.2-24]
		c.disconnect(wire.PacketTooLarge, "the answer is larger than it accepts")
	default:
		c.enqueue(p)
	}
}

// enqueue appends a packet to the queue and accounts for it. The caller holds s.mu.
func (c *conn) enqueue(p packet) {
	if c.ending {
		return
	}
	if c.queue == nil {
		c.queue = *packetSlices.Get().(*[]packet)
	}
	if p.msg != nil {
		c.queuedBytes += p.msg.size()
		if p.id == 0 {
			c.e.memory.addHolder(p.msg)
		}
	}
	c.rawBytes += len(p.raw)
	c.s.accountMemory(p.memory())
	c.queue = append(c.queue, p)
}

// discardQueue drops what is queued and not yet in the writer. The caller holds s.mu.
func (c *conn) discardQueue() {
	for i := range c.queue {
		if m := c.queue[i].msg; m != nil {
			c.queuedBytes -= m.size()
		}
		c.rawBytes -= len(c.queue[i].raw)
	}
	c.s.releasePackets(c.queue)
	c.queue = nil
}

// releasePackets releases the memory of packets that left the queue. The caller holds
// s.mu.
func (s *session) releasePackets(batch []packet) {
	n := 0
	for i := range batch {
		if p := &batch[i]; p.msg != nil && p.id == 0 {
			s.e.memory.removeHolder(p.msg)
		}
		n += batch[i].memory()
	}
	s.accountMemory(-n)
}

// queueSpace returns how many more packets should be queued, so that the writer does
// not run dry and no packet waits long. The caller holds s.mu.
func (c *conn) queueSpace() int {
	if c.ending || c.queuedBytes > 64<<10 {
		return 0
	}
	return 2*replayBatch - len(c.queue)
}

// wakeWriter starts the writer if there is something to write. The caller holds s.mu.
func (c *conn) wakeWriter() {
	if len(c.queue) > 0 || c.draining || c.s.conn == c && c.s.replayPending {
		c.startWriter()
	}
}

// startWriter starts the writing goroutine if it does not run. The caller holds s.mu.
func (c *conn) startWriter() {
	if !c.writing {
		c.writing = true
		c.e.running.Go(c.write)
	}
}

// isEnding reports whether nothing more may be queued.
func (c *conn) isEnding() bool {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.ending
}

// disconnect ends the connection after what is queued, with a DISCONNECT that carries
// code if the client speaks MQTT 5 (MQTT 5.0, 4.13). With code 0 none is sent. The
// caller holds s.mu.
func (c *conn) disconnect(code byte, reason string) {
	if c.ending {
		return
	}
	if code != 0 && c.version == wire.V5 {
		c.enqueue(packet{raw: c.disconnectPacket(code, reason)})
	}
	c.ending, c.reason = true, reason
	c.lingering = code != 0 && c.canLinger()
	if code != 0 && code != wire.ServerShuttingDown {
		c.e.stats.ended[code].Add(1)
		c.e.ended(c.s.id, c.remote, reason)
	}
	_ = c.netConn.SetWriteDeadline(time.Now().Add(disconnectTimeout)) // also ends a write that is blocked
	c.startWriter()
}

// disconnectPacket returns a DISCONNECT, with the reason as text unless that makes it
// larger than the client accepts [MQTT-3.14.2-3].
func (c *conn) disconnectPacket(code byte, reason string) []byte {
	pk := wire.Packet{ProtocolVersion: wire.V5, ReasonCode: code}
	pk.Properties.ReasonString = reason
	raw, err := wire.Append(nil, wire.Disconnect, pk)
	if err != nil || c.maxPacket > 0 && len(raw) > c.maxPacket {
		return []byte{wire.Disconnect << 4, 1, code}
	}
	return raw
}

// write writes what is queued until the queue is empty, and then closes the connection
// if it is ending. It is the writing goroutine.
func (c *conn) write() {
	s := c.s
	w := newWriter(c)
	defer w.release()
	for {
		s.mu.Lock()
		s.releasePackets(w.packets)
		messages, raw := w.finishBatch()
		c.queuedBytes, c.rawBytes = c.queuedBytes-messages, c.rawBytes-raw
		c.beingWritten = 0
		if s.conn == c {
			s.advance()
		}
		if len(c.queue) == 0 {
			if c.draining && !c.ending && s.drained() {
				c.disconnect(wire.ServerShuttingDown, "the server is shutting down")
				s.mu.Unlock()
				continue
			}
			if s.conn == c && s.replayPending && !c.ending {
				s.mu.Unlock()
				continue
			}
			ending, lingers := c.ending, c.lingering
			c.writing = ending // if it is ending, no other writer may start
			s.mu.Unlock()
			if lingers {
				c.beginLinger()
			} else if ending {
				c.close()
			}
			return
		}
		w.packets, c.queue = c.queue, w.takeSpare()
		c.beingWritten = len(w.packets)
		last := c.ending
		if s.conn == c {
			s.markSent(w.packets)
		}
		s.mu.Unlock()
		if err := w.write(last); err != nil {
			s.mu.Lock()
			if !c.ending {
				c.ending, c.reason = true, "it does not receive what it is sent: "+err.Error()
				if errors.Is(err, os.ErrDeadlineExceeded) {
					c.e.stats.ended[wire.Unspecified].Add(1)
					c.e.ended(s.id, c.remote, c.reason)
				}
			}
			s.releasePackets(w.packets)
			c.discardQueue()
			s.mu.Unlock()
			c.close()
			return
		}
	}
}

// drained reports whether everything is written that can be written without an
// acknowledgement. The caller holds s.mu.
func (s *session) drained() bool { return s.flow.queue.len() == 0 && s.flow.toResend == 0 }

// markSent marks the deliveries whose PUBLISH is about to be written. Packets are
// usually in the order of the flights, so one pass finds them all. The caller holds
// s.mu.
func (s *session) markSent(batch []packet) {
	from := 0
	for i := range batch {
		p := &batch[i]
		if p.msg == nil || p.id == 0 {
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
		from = 0 // not in the order of the flights: search from the beginning
		if _, d := s.flow.find(p.id); d != nil {
			d.sent = true
		}
	}
}

// packetSlices pools the slices of queues.
var packetSlices = sync.Pool{New: func() any { p := make([]packet, 0, 16); return &p }}
