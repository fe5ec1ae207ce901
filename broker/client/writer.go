package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jmbarzee/dominion/broker/wire"
)

// The sizes of what is written at once. A payload above maxCopied is written by itself
// instead of being copied.
const (
	maxBatch  = 64 << 10
	maxCopied = 16 << 10
)

// reasonTime is how long a DISCONNECT with the reason is waited for when a write finds
// that the broker closed the connection.
const reasonTime = 100 * time.Millisecond

// errNoPingresp is the cause of an end for a missing PINGRESP.
var errNoPingresp = errors.New("the broker does not answer")

// writer is the state of the writing goroutine.
type writer struct {
	*Conn
	buf []byte
	// pending is what was taken from the queue and is not written.
	pending []queueItem
	// lastWrite is when something was last written.
	lastWrite time.Time
}

// wakeWriter makes the writing goroutine look for what is to be written.
func (c *Conn) wakeWriter() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// sendControl sends a packet other than PUBLISH.
func (c *Conn) sendControl(add func([]byte) []byte) {
	c.mu.Lock()
	c.state.control = add(c.state.control)
	excessive := len(c.state.control) > maxControl
	c.mu.Unlock()
	if excessive {
		c.fail(fmt.Errorf("connection to %s ended: it does not accept answers as fast as it sends messages", c.name))
	}
	c.wakeWriter()
}

// write is the writing goroutine. It also watches the time: it sends pings, and ends
// the connection if an answer is missing.
func (c *Conn) write() {
	defer close(c.writerDone)
	w := writer{Conn: c, lastWrite: c.began}
	timer := time.NewTimer(time.Until(w.due()))
	defer timer.Stop()
	for {
		select {
		case <-c.failed:
			w.disconnect()
			return
		case <-timer.C:
			w.checkTime(time.Now())
		case <-c.wake:
		}
		if c.hasFailed() {
			continue
		}
		more, err := w.writeBatch()
		if err != nil {
			c.writeFailed(err)
			return
		}
		if more {
			c.wakeWriter()
		}
		timer.Reset(time.Until(w.due()))
	}
}

// writeFailed ends the connection for an error of writing. If the broker closed it,
// its DISCONNECT may still be unread: then the reader has the better reason.
func (c *Conn) writeFailed(err error) {
	c.noteEnd(err)
	if isPeerClosed(err) {
		_ = c.conn.SetReadDeadline(time.Now().Add(reasonTime))
		<-c.readerDone
	}
	c.fail(fmt.Errorf("connection to %s lost: %w", c.name, err))
}

// writeBatch writes the control packets and the messages that may be sent, up to
// maxBatch. more reports whether there are others that may be sent.
func (w *writer) writeBatch() (more bool, err error) {
	now := time.Now()
	w.mu.Lock()
	w.buf = append(w.buf[:0], w.state.control...)
	w.state.control = w.state.control[:0]
	from := w.state.inflight.end()
	var large []byte
	for large == nil && len(w.buf) < maxBatch {
		if len(w.pending) == 0 {
			if w.pending = w.queue.takeAll(); len(w.pending) == 0 {
				break
			}
		}
		var sent bool
		if large, sent = w.encode(&w.pending[0], now); !sent {
			break
		}
		w.pending[0] = queueItem{}
		w.pending = w.pending[1:]
	}
	more = large != nil || len(w.buf) >= maxBatch
	w.mu.Unlock()
	for _, b := range [][]byte{w.buf, large} {
		if len(b) == 0 {
			continue
		}
		if err := w.writeBytes(b); err != nil {
			return false, err
		}
	}
	w.mu.Lock()
	w.state.inflight.written(from)
	w.mu.Unlock()
	w.complete()
	if cap(w.buf) > 2*maxBatch {
		w.buf = nil
	}
	return more, nil
}

// encode appends a message to the batch. It returns the payload if that is to be
// written after the batch, and false if the message has to wait. The caller holds mu.
func (w *writer) encode(it *queueItem, now time.Time) (large []byte, sent bool) {
	f := &w.state.inflight
	m := w.withinCapabilities(it.message)
	if f.full(m.QoS) {
		return nil, false
	}
	if it.barrier != nil {
		f.add(inflightItem{item: *it}, now)
		return nil, true
	}
	if refused := w.refuse(m); refused != nil {
		f.add(inflightItem{item: *it, refused: refused, complete: true}, now)
		return nil, true
	}
	out := wire.Outgoing{Flags: m.QoS << 1, Topic: m.Topic, Payload: len(m.Payload)}
	if m.Retain {
		out.Flags |= wire.FlagRetain
	}
	if m.QoS > 0 {
		out.PacketID = w.nextID()
	}
	if m.QoS > 0 || it.done != nil {
		f.add(inflightItem{id: out.PacketID, item: *it}, now)
	}
	w.buf = out.Append(w.buf, w.version)
	if len(m.Payload) > maxCopied {
		return m.Payload, true
	}
	w.buf = append(w.buf, m.Payload...)
	return nil, true
}

// maxRecord is the size of a TLS record.
const maxRecord = 16 << 10

// writeBytes writes with a deadline that holds as long as nothing is read by the
// broker: one that limits the rate may take longer for all of it. TLS does not continue
// after a deadline, and so has one for each record.
func (w *writer) writeBytes(b []byte) error {
	limit := len(b)
	_, secure := w.conn.(*tls.Conn)
	if secure {
		limit = maxRecord
	}
	for len(b) > 0 {
		w.lastWrite = time.Now()
		if err := w.conn.SetWriteDeadline(w.lastWrite.Add(w.timeout)); err != nil {
			return err
		}
		n, err := w.conn.Write(b[:min(len(b), limit)])
		if slow := n > 0 && !secure && errors.Is(err, os.ErrDeadlineExceeded); err != nil && !slow {
			return err
		}
		b = b[n:]
	}
	return nil
}

// disconnect sends DISCONNECT, unless the connection has failed.
func (w *writer) disconnect() {
	if !w.graceful {
		return
	}
	w.mu.Lock()
	b := wire.AppendDisconnect(append(w.buf[:0], w.state.control...))
	w.mu.Unlock()
	_ = w.writeBytes(b)
}

// due returns when checkTime is to be called.
func (w *writer) due() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &w.state
	received := w.began.Add(time.Duration(w.lastReceived.Load()))
	due := earlier(w.lastWrite, received).Add(w.keepAlive)
	if !s.pingSent.IsZero() {
		due = later(s.pingSent, received).Add(w.timeout)
	}
	if s.inflight.unacked > 0 {
		due = earlier(due, s.inflight.progressed.Add(ackTimeouts*w.timeout))
	}
	if !s.renewAt.IsZero() {
		due = earlier(due, s.renewAt)
	}
	return due
}

// ackTimeouts is how many Timeouts an acknowledgement may take. A missing one ends the
// connection: otherwise the loss of its message would go unnoticed.
const ackTimeouts = 3

// checkTime ends the connection if an answer is overdue, and sends a ping if nothing
// was sent or received for the keep alive time.
func (w *writer) checkTime(now time.Time) {
	if w.due().After(now) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &w.state
	if s.inflight.unacked > 0 && !s.inflight.progressed.Add(ackTimeouts*w.timeout).After(now) {
		w.fail(fmt.Errorf("connection to %s ended: a message was not acknowledged", w.name))
	} else if !s.renewAt.IsZero() && !s.renewAt.After(now) {
		w.endGracefully(fmt.Errorf("connection to %s ended, to publish again what the broker refused %v ago: %s", w.name, renewTime, s.renewReason))
	} else if !s.pingSent.IsZero() {
		w.fail(fmt.Errorf("connection to %s lost: %w", w.name, errNoPingresp))
	} else {
		s.control = wire.AppendPingreq(s.control)
		s.pingSent = now
	}
}

// earlier returns the earlier one of two times.
func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// later returns the later one of two times.
func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
