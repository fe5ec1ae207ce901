package engine

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"time"

	"github.com/jmbarzee/dominion/broker/wire"
)

// errDisconnected is returned when the client disconnects as the protocol says.
var errDisconnected = errors.New("disconnected")

// run owns the connection until it ends: admission, handshake, packets, and the
// orderly close. A panic over a packet ends this connection alone.
func (c *conn) run() {
	defer func() {
		if p := recover(); p != nil {
			c.e.log.Error("the broker engine panicked while handling a packet: the connection is closed", "remote", c.remote, "panic", p, "stack", string(debug.Stack()))
			c.finish(wire.Unspecified, "an error of the broker", true)
			c.linger()
		}
	}()
	if !c.e.admission.admit(c) {
		c.e.ended("", c.remote, "there are more connections than broker.limits allows")
		c.close()
		return
	}
	defer c.e.admission.release(c)
	if c.e.isClosed() { // Close may not have seen the connection
		c.close()
		return
	}
	c.timer = time.AfterFunc(c.e.limits.ConnectTimeout, c.close)
	done := c.e.handshakes.Add(host(c.remote), c.close)
	rest, err := c.handshake()
	if err != nil {
		c.timer.Stop()
		c.reader.release()
		c.reportRefusal(err)
		c.lingerRefused()
		done()
		return
	}
	done()
	err = c.serve(rest)
	c.reader.release()
	var fault *wire.Error
	switch {
	case errors.As(err, &fault):
		c.finish(fault.Code, fault.Reason, true)
	case errors.Is(err, errDisconnected):
		c.finish(wire.Success, "disconnected", c.hasWill)
	default:
		c.finish(wire.Success, closedBy(err), true)
	}
	c.linger()
}

// closedBy describes the error with which reading ended.
func closedBy(err error) string {
	if errors.Is(err, io.EOF) {
		return "the client closed it"
	}
	return err.Error()
}

// serve handles the bytes in b, and then all that arrive, until the connection ends.
func (c *conn) serve(b []byte) error {
	for {
		if c.isClosed() {
			return net.ErrClosed
		}
		c.lastReceived.Store(int64(c.e.now()))
		rest, need, err := c.process(b)
		if err != nil {
			return err
		}
		c.reader.keepRest(rest, need)
		if err := c.accountPartial(); err != nil {
			return err
		}
		if err := c.waitForStore(); err != nil {
			return err
		}
		if err := c.readLimiter.wait(c, len(b)-len(rest)); err != nil {
			return err
		}
		if b, err = c.reader.read(); err != nil {
			return err
		}
	}
}

// accountPartial accounts for the memory of a frame that is larger than a read buffer
// and not complete.
func (c *conn) accountPartial() error {
	n := 0
	if c.reader.need > readBufferSize {
		n = cap(c.reader.partial)
	}
	d := n - c.partialMemory
	if d == 0 {
		return nil
	}
	c.s.mu.Lock()
	fits := d < 0 || c.s.admits(d)
	reason := ""
	if !fits {
		reason = c.s.memoryRefusal(d)
	}
	c.s.mu.Unlock()
	if !fits {
		return &wire.Error{Code: wire.QuotaExceeded, Reason: "a packet of it is refused: " + reason}
	}
	c.partialMemory = n
	c.accountMemory(d)
	return nil
}

// process handles the complete frames in b as one batch. It returns the remaining
// bytes, and the size of the frame that they begin.
func (c *conn) process(data []byte) (rest []byte, need int, err error) {
	b := c.e.beginBatch(c)
	all, packets := len(data), uint64(0)
	defer func() {
		b.end()
		c.e.stats.in.add(Traffic{packets, uint64(all - len(rest)), c.publishCount, c.payloadBytes})
		c.publishCount, c.payloadBytes = 0, 0
	}()
	for {
		first, start, end, more, err := wire.Frame(data)
		switch {
		case err != nil:
			return nil, 0, err
		case more:
			return data, 0, nil
		case end > c.packetLimit:
			need, err := c.tooLargePacket(first, data, start, end)
			return data, need, err
		}
		if err := wire.CheckFirst(first, c.version); err != nil {
			return nil, 0, err
		}
		if end > len(data) {
			return data, end, nil
		}
		body := data[start:end]
		data = data[end:]
		packets++
		if emit := c.e.trace.Load(); emit != nil {
			c.traceIn(emit, first, body)
		}
		switch kind := first >> 4; kind {
		case wire.PublishType:
			err = c.onPublish(b, first, body)
		case wire.Puback, wire.Pubrec, wire.Pubrel, wire.Pubcomp:
			if err = c.waitForAckBudget(b, kind, body); err == nil {
				err = c.onAck(b, kind, body)
			}
		case wire.Pingreq:
			err = c.onPing(b, body)
		default:
			b.end()
			err = c.onControl(kind, first, body)
			b = c.e.beginBatch(c)
		}
		if err != nil {
			return nil, 0, err
		}
	}
}

// tooLargePacket returns the error for a packet beyond the limit. To name the topic of
// a PUBLISH it waits until that is complete: need is the number of bytes that takes.
func (c *conn) tooLargePacket(first byte, b []byte, start, end int) (need int, err error) {
	what := fmt.Sprintf("a packet of type %d", first>>4)
	if first>>4 == wire.PublishType {
		topic := start + 2
		if len(b) < topic {
			return topic, nil
		}
		n := int(b[start])<<8 | int(b[start+1])
		if len(b) < topic+n && topic+n < end {
			return topic + n, nil
		}
		what = fmt.Sprintf("a message to %.200q", b[topic:min(topic+n, len(b))])
	}
	return 0, &wire.Error{
		Code:   wire.PacketTooLarge,
		Reason: fmt.Sprintf("packet too large: %s has %d bytes; the limit is %d (broker.limits.max_packet)", what, end, c.packetLimit),
	}
}

// onPing answers PINGREQ.
func (c *conn) onPing(b *batch, body []byte) error {
	if _, err := wire.Decode(wire.Pingreq<<4, body, c.version); err != nil {
		return err
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.enqueueReply(packet{raw: pingresp})
	c.flushAfter(b)
	return nil
}

// pingresp is an encoded PINGRESP.
var pingresp = []byte{wire.Pingresp << 4, 0}

// flushAfter has this connection written to when the batch ends, also when another
// connection has taken over its session. The caller holds the session's mutex.
func (c *conn) flushAfter(b *batch) {
	if c.s.conn == c {
		b.addSession(c.s)
		return
	}
	c.wakeWriter()
}

// accountMemory adds n bytes to what the reading goroutine holds.
func (c *conn) accountMemory(n int) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if !c.memoryReleased {
		c.memory += n
		c.s.accountMemory(n)
	}
}
