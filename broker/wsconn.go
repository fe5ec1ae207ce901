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

// webSocket is a WebSocket as a stream of bytes. Packets that come in may begin
// and end anywhere in its messages [MQTT-6.0.0-2]; a message has no limit of
// its own, since the engine limits each packet. Each packet that goes out is
// one message of one frame, because clients exist that cannot read anything else.
type webSocket struct {
	*websocket.Conn
	message io.Reader // the rest of the message at hand
	remote  net.Addr  // as a trusted proxy names it; nil: that of the connection

	// mu guards what follows: pongs are written by the goroutine that reads.
	mu sync.Mutex
	// header is the fixed header of the next packet as far as it was written.
	header []byte
	// left counts the bytes of the packet at hand that were not written. Its
	// frame has begun, so nothing else may be written before they are.
	left int
	// control is a control frame that waits for the end of the packet at hand.
	control []byte
	broken  error

	// timing guards the deadline of writes, which a control frame replaces for
	// its own time.
	timing     sync.Mutex
	deadline   time.Time
	controlled bool
}

// The bytes of a frame (RFC 6455, 5.2) that a server writes: unmasked, final.
const (
	frameBinary = 0x80 | websocket.BinaryMessage
	frameClose  = 0x80 | websocket.CloseMessage
	framePong   = 0x80 | websocket.PongMessage

	longestControl = 125
)

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

// RemoteAddr is the client's address, behind the proxies that are trusted.
func (w *webSocket) RemoteAddr() net.Addr {
	if w.remote != nil {
		return w.remote
	}
	return w.Conn.RemoteAddr()
}

// Certificate is that of the TLS below, as certified has it.
func (w *webSocket) Certificate() string {
	if c, ok := w.NetConn().(interface{ Certificate() string }); ok {
		return c.Certificate()
	}
	return ""
}

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

// frames holds what one Write sends: a piece of the engine's and the headers of
// its frames.
var frames = sync.Pool{New: func() any { b := make([]byte, 0, 20<<10); return &b }}

// Write takes packets, and parts of them, as a stream of bytes. After an error
// the stream cannot go on.
func (w *webSocket) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken != nil {
		return 0, w.broken
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
		w.broken = err
		return 0, err
	}
	return len(p), nil
}

// frame appends to out what goes over the line for p.
func (w *webSocket) frame(out, p []byte) ([]byte, error) {
	for len(p) > 0 {
		if w.left == 0 {
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
			w.header, w.left = w.header[:0], size
		}
		n := min(w.left, len(p))
		out = append(out, p[:n]...)
		p = p[n:]
		if w.left -= n; w.left == 0 && w.control != nil {
			out, w.control = append(out, w.control...), nil
		}
	}
	return out, nil
}

// packetSize returns how many bytes follow a fixed header (MQTT 5.0, 2.1), and
// whether all of the header is there.
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
	switch {
	case size <= longestControl:
		return append(out, first, byte(size))
	case size < 1<<16:
		return binary.BigEndian.AppendUint16(append(out, first, 126), uint16(size))
	}
	return binary.BigEndian.AppendUint64(append(out, first, 127), uint64(size))
}

// writeControl writes a control frame, or leaves it for the end of the packet
// that is being written. Of several that wait the last one is written: a pong
// answers the latest ping (RFC 6455, 5.5.3).
func (w *webSocket) writeControl(first byte, data string) error {
	frame := append(appendFrameHeader(make([]byte, 0, 2+len(data)), first, len(data)), data...)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken != nil {
		return nil
	}
	if w.left > 0 || len(w.header) > 0 {
		w.control = frame
		return nil
	}
	w.limitControl(true)
	defer w.limitControl(false)
	if _, err := w.NetConn().Write(frame); err != nil {
		w.broken = err
	}
	return nil
}

// limitControl sets the deadline of a control frame, or the one of packets
// again: who sends pings and reads nothing is not waited for.
func (w *webSocket) limitControl(on bool) {
	w.timing.Lock()
	defer w.timing.Unlock()
	w.controlled = on
	until := w.deadline
	if on {
		until = time.Now().Add(time.Second)
	}
	_ = w.NetConn().SetWriteDeadline(until) // a connection that is closed has none
}

// SetWriteDeadline is for the connection below: what is written does not go
// through the library.
func (w *webSocket) SetWriteDeadline(t time.Time) error {
	w.timing.Lock()
	defer w.timing.Unlock()
	w.deadline = t
	if w.controlled {
		return nil
	}
	return w.NetConn().SetWriteDeadline(t)
}

func (w *webSocket) SetDeadline(t time.Time) error {
	return errors.Join(w.SetReadDeadline(t), w.SetWriteDeadline(t))
}

var _ net.Conn = (*webSocket)(nil)
