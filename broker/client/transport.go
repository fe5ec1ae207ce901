package client

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/url"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// transport is the network connection that paho uses. Each write has a deadline: paho
// sets one for PUBLISH only, and an acknowledgement or a ping would wait for ever for
// a peer that does not read.
type transport struct {
	net.Conn
	timeout time.Duration
	// writeLock holds a value while a goroutine writes: paho's pings come from another
	// one. It is not a mutex, because waiting for one stops the clock of a synctest
	// bubble.
	writeLock chan struct{}
	packets   *packetReader
	// translator is nil on a connection of 3.1.1.
	translator *translator
	// endedByPeer is set if the broker ended the connection, not the client, the
	// network or a deadline.
	endedByPeer atomic.Bool
	// detach detaches the connection from the context that it was opened with, and
	// reports whether that has not ended.
	detach func() bool
}

// Write writes a packet of 3.1.1, translated if necessary.
func (w *transport) Write(b []byte) (int, error) {
	w.writeLock <- struct{}{}
	defer func() { <-w.writeLock }()
	if err := w.Conn.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
		return 0, err
	}
	out := b
	if w.translator != nil {
		var err error
		if out, err = w.translator.toV5(b); err != nil {
			return 0, err
		}
	}
	if n, err := w.Conn.Write(out); err != nil {
		w.noteError(err)
		return min(n, len(b)), err
	}
	return len(b), nil
}

// noteError sets endedByPeer by an error of reading or writing.
func (w *transport) noteError(err error) {
	if errors.As(err, new(*DisconnectError)) || slices.ContainsFunc([]error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE}, func(peer error) bool { return errors.Is(err, peer) }) {
		w.endedByPeer.Store(true)
	}
}

// SetWriteDeadline does nothing: Write sets the deadlines.
func (w *transport) SetWriteDeadline(time.Time) error { return nil }

// Read reads what packetReader passes on.
func (w *transport) Read(b []byte) (int, error) {
	n, err := w.packets.Read(b)
	if err != nil {
		w.noteError(err)
	}
	return n, mapClosed(err)
}

// openTransport opens the connection; it is closed when ctx ends, until it is
// detached.
func openTransport(ctx context.Context, o Options, s serverURL, secure *tls.Config) (*transport, error) {
	conn, err := dial(ctx, o, s, secure)
	if err != nil {
		return nil, err
	}
	detach := context.AfterFunc(ctx, func() { _ = conn.Close() })
	w := &transport{Conn: conn, timeout: o.Timeout, writeLock: make(chan struct{}, 1), detach: detach}
	if o.MQTT5 {
		w.translator = &translator{persistent: o.Persistent, bridge: o.Bridge, localBridge: o.LocalBridge, receiveMaximum: uint16(o.Window)}
	}
	w.packets = newPacketReader(conn, o.MaxPacket, func(packet []byte) error { _, err := w.Write(packet); return err }, o.TooLarge)
	w.packets.translator = w.translator
	return w, nil
}

// openFunc adapts open for paho, which has no context.
func openFunc(open func() (net.Conn, error)) mqtt.OpenConnectionFunc {
	return func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return open() }
}

// mapClosed returns the error by which paho recognises a connection that it closed
// itself, also if it is not TCP.
func mapClosed(err error) error {
	if errors.Is(err, io.ErrClosedPipe) {
		return net.ErrClosed
	}
	return err
}
