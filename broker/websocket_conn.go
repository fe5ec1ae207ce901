package broker

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// webSocket is a WebSocket as a stream of bytes. Incoming packets may begin and end
// anywhere in its messages [MQTT-6.0.0-2]; a message has no limit of its own, as the
// engine limits each packet. Each outgoing packet is one message of one frame, because
// some clients cannot read anything else.
type webSocket struct {
	*websocket.Conn
	// message is the rest of the current incoming message.
	message io.Reader
	// remote is as a trusted proxy reports it; nil: that of the connection.
	remote net.Addr

	// mu guards the fields below: pongs are written by the reading goroutine.
	mu sync.Mutex
	// header is the fixed header of the next packet as far as it was written.
	header []byte
	// packetRemaining counts the bytes of the current packet that were not written.
	// Its frame has begun, so nothing else may be written before.
	packetRemaining int
	// pendingControl is a control frame that waits for the end of the current packet.
	pendingControl []byte
	err            error

	// deadlineMu guards the write deadline, which a control frame replaces while it is
	// written.
	deadlineMu      sync.Mutex
	deadline        time.Time
	controlDeadline bool
}

// The first byte of frames (RFC 6455, 5.2) that a server writes: unmasked, final.
const (
	frameBinary = 0x80 | websocket.BinaryMessage
	frameClose  = 0x80 | websocket.CloseMessage
	framePong   = 0x80 | websocket.PongMessage

	maxControlPayload = 125
)

// newWebSocket returns the stream of a WebSocket, with handlers for ping and close.
func newWebSocket(c *websocket.Conn) *webSocket {
	w := &webSocket{Conn: c}
	c.SetPingHandler(func(data string) error { return w.writeControl(framePong, data) })
	c.SetCloseHandler(func(code int, _ string) error {
		var reason string
		if code != websocket.CloseNoStatusReceived {
			reason = string(binary.BigEndian.AppendUint16(nil, uint16(code)))
		}
		return w.writeControl(frameClose, reason)
	})
	return w
}

// RemoteAddr returns the client's address, behind trusted proxies.
func (w *webSocket) RemoteAddr() net.Addr {
	if w.remote != nil {
		return w.remote
	}
	return w.Conn.RemoteAddr()
}

// Certificate returns that of the TLS connection below; see tlsConn.
func (w *webSocket) Certificate() (name, use string) {
	if c, ok := w.NetConn().(interface{ Certificate() (name, use string) }); ok {
		return c.Certificate()
	}
	return "", ""
}

// Read reads the binary messages as one stream.
func (w *webSocket) Read(p []byte) (int, error) {
	for {
		if w.message == nil {
			kind, r, err := w.NextReader()
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				return 0, errors.New("a WebSocket message of MQTT must be binary")
			}
			w.message = r
		}
		n, err := w.message.Read(p)
		if errors.Is(err, io.EOF) {
			w.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// frames pools buffers for what one Write sends: a chunk of the engine's and its frame
// headers.
var frames = sync.Pool{New: func() any { b := make([]byte, 0, 20<<10); return &b }}

// Write writes packets, and parts of them, as a stream of bytes. After an error the
// stream cannot be continued.
func (w *webSocket) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	buffer := frames.Get().(*[]byte)
	defer frames.Put(buffer)
	out, err := w.frame((*buffer)[:0], p)
	if err == nil {
		_, err = w.NetConn().Write(out)
	}
	if cap(out) <= 64<<10 {
		*buffer = out
	}
	if err != nil {
		w.err = err
		return 0, err
	}
	return len(p), nil
}

// frame appends the frames of p to out.
func (w *webSocket) frame(out, p []byte) ([]byte, error) {
	for len(p) > 0 {
		if w.packetRemaining == 0 {
			w.header = append(w.header, p[0])
			p = p[1:]
			size, whole, err := packetSize(w.header)
			if err != nil {
				return out, err
			}
			if !whole {
				continue
			}
			out = appendFrameHeader(out, frameBinary, len(w.header)+size)
			out = append(out, w.header...)
			w.header, w.packetRemaining = w.header[:0], size
		}
		n := min(w.packetRemaining, len(p))
		out = append(out, p[:n]...)
		p = p[n:]
		if w.packetRemaining -= n; w.packetRemaining == 0 && w.pendingControl != nil {
			out, w.pendingControl = append(out, w.pendingControl...), nil
		}
	}
	return out, nil
}

// packetSize returns how many bytes follow a fixed header (MQTT 5.0, 2.1), and whether
// the header is complete.
func packetSize(header []byte) (size int, whole bool, err error) {
	for i, b := range header[1:] {
		if i > 3 {
			return 0, false, errors.New("a packet has a length of more than four bytes")
		}
		size |= int(b&0x7f) << (7 * i)
		if b < 0x80 {
			return size, true, nil
		}
	}
	return 0, false, nil
}

// appendFrameHeader appends the header of a frame of size bytes.
func appendFrameHeader(out []byte, first byte, size int) []byte {
	if size <= maxControlPayload {
		return append(out, first, byte(size))
	}
	if size < 1<<16 {
		return binary.BigEndian.AppendUint16(append(out, first, 126), uint16(size))
	}
	return binary.BigEndian.AppendUint64(append(out, first, 127), uint64(size))
}

// writeControl writes a control frame, or keeps it until the end of the packet that is
// being written. Of several that wait the last one is written: a pong answers the
// latest ping (RFC 6455, 5.5.3).
func (w *webSocket) writeControl(first byte, data string) error {
	frame := append(appendFrameHeader(make([]byte, 0, 2+len(data)), first, len(data)), data...)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return nil
	}
	if w.packetRemaining > 0 || len(w.header) > 0 {
		w.pendingControl = frame
		return nil
	}
	w.limitControl(true)
	defer w.limitControl(false)
	if _, err := w.NetConn().Write(frame); err != nil {
		w.err = err
	}
	return nil
}

// limitControl sets the write deadline of a control frame, or that of packets again: a
// client that sends pings and does not read is not waited for.
func (w *webSocket) limitControl(on bool) {
	w.deadlineMu.Lock()
	defer w.deadlineMu.Unlock()
	w.controlDeadline = on
	until := w.deadline
	if on {
		until = time.Now().Add(time.Second)
	}
	_ = w.NetConn().SetWriteDeadline(until) // fails on a closed connection
}

// SetWriteDeadline sets the deadline of the connection below, as writes bypass the
// library.
func (w *webSocket) SetWriteDeadline(t time.Time) error {
	w.deadlineMu.Lock()
	defer w.deadlineMu.Unlock()
	w.deadline = t
	if w.controlDeadline {
		return nil
	}
	return w.NetConn().SetWriteDeadline(t)
}

// SetDeadline sets both deadlines.
func (w *webSocket) SetDeadline(t time.Time) error {
	return errors.Join(w.SetReadDeadline(t), w.SetWriteDeadline(t))
}

var _ net.Conn = (*webSocket)(nil)

// CloseWrite ends the outgoing direction with a Close frame (RFC 6455, 5.5.1). The
// caller also closes the connection below for writing.
func (w *webSocket) CloseWrite() error {
	return w.writeControl(frameClose, string(binary.BigEndian.AppendUint16(nil, websocket.CloseNormalClosure)))
}
