package broker

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// recordingConn is a connection of which the client's bytes are given and the
// server's are recorded.
type recordingConn struct {
	in  io.Reader
	out bytes.Buffer
}

func (r *recordingConn) Read(p []byte) (int, error)       { return r.in.Read(p) }
func (r *recordingConn) Write(p []byte) (int, error)      { return r.out.Write(p) }
func (r *recordingConn) Close() error                     { return nil }
func (r *recordingConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (r *recordingConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (r *recordingConn) SetDeadline(time.Time) error      { return nil }
func (r *recordingConn) SetReadDeadline(time.Time) error  { return nil }
func (r *recordingConn) SetWriteDeadline(time.Time) error { return nil }
func (r *recordingConn) Header() http.Header              { return http.Header{} }
func (r *recordingConn) WriteHeader(int)                  {}
func (r *recordingConn) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return r, bufio.NewReadWriter(bufio.NewReader(r), bufio.NewWriter(r)), nil
}

// newTestWebSocket is a WebSocket that a client sends in over.
func newTestWebSocket(t *testing.T, in io.Reader) (*webSocket, *recordingConn) {
	t.Helper()
	r := &recordingConn{in: in}
	request := httptest.NewRequest(http.MethodGet, "/mqtt", nil)
	for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-Websocket-Version": "13", "Sec-Websocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="} {
		request.Header.Set(name, value)
	}
	upgrader := websocket.Upgrader{}
	c, err := upgrader.Upgrade(r, request, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.out.Reset()
	return newWebSocket(c), r
}

// frame is one of a WebSocket.
type frame struct {
	first   byte
	payload []byte
}

// readFrames reads what a server wrote, strictly: no masks, the shortest
// lengths.
func readFrames(b []byte) (all []frame, err error) {
	for len(b) > 0 {
		if len(b) < 2 || b[1] >= 0x80 {
			return all, errors.New("no frame of a server")
		}
		size, header := uint64(b[1]), 2
		switch {
		case size == 126 && len(b) >= 4:
			size, header = uint64(binary.BigEndian.Uint16(b[2:])), 4
		case size == 127 && len(b) >= 10:
			size, header = binary.BigEndian.Uint64(b[2:]), 10
		}
		if uint64(len(b)-header) < size {
			return all, errors.New("a frame is cut")
		}
		all = append(all, frame{b[0], b[header : header+int(size)]})
		b = b[header+int(size):]
	}
	return all, nil
}

// maskedFrame returns a frame as a client sends it, masked.
func maskedFrame(first byte, payload []byte) []byte {
	b := appendFrameHeader(nil, first, len(payload))
	b[1] |= 0x80
	mask := []byte{1, 2, 3, 4}
	b = append(b, mask...)
	for i, c := range payload {
		b = append(b, c^mask[i%4])
	}
	return b
}

// packetOf returns a packet with size bytes behind its fixed header.
func packetOf(size int, fill byte) []byte {
	b := []byte{0x30}
	for n := size; ; {
		digit := byte(n & 0x7f)
		if n >>= 7; n > 0 {
			b = append(b, digit|0x80)
			continue
		}
		b = append(b, digit)
		return append(b, bytes.Repeat([]byte{fill}, size)...)
	}
}

// Each packet is one message of one frame, however the engine's writes cut and
// join them, and a pong never stands in the middle of one.
func FuzzWebSocketWrites(f *testing.F) {
	f.Add([]byte{0, 1, 5}, []byte{1})
	f.Add([]byte{123, 124, 125, 126, 127, 128, 255, 200}, []byte{1, 0, 2, 255})
	f.Add([]byte{250, 251, 252, 0, 0, 253}, []byte{7, 3, 255, 255})
	f.Fuzz(func(t *testing.T, sizes, cuts []byte) {
		if len(sizes) > 64 || len(cuts) == 0 {
			return
		}
		w, r := newTestWebSocket(t, bytes.NewReader(nil))
		var packets [][]byte
		for i, s := range sizes {
			size := int(s)
			if s > 240 {
				size = int(s-240) * 4500 // up to 67,500: lengths of each form
			}
			packets = append(packets, packetOf(size, byte(i)))
		}
		stream := bytes.Join(packets, nil)
		pings := 0
		for i := 0; len(stream) > 0; i++ {
			n := min(len(stream), max(int(cuts[i%len(cuts)])*17, 1))
			if _, err := w.Write(stream[:n]); err != nil {
				t.Fatal(err)
			}
			stream = stream[n:]
			if cuts[i%len(cuts)]%3 == 0 {
				pings++
				if err := w.writeControl(framePong, string(rune('a'+pings%20))); err != nil {
					t.Fatal(err)
				}
			}
			if i > 1000 { // enough cuts: the rest at once
				cuts = []byte{255}
			}
		}
		all, err := readFrames(r.out.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		pongs := 0
		for _, one := range all {
			switch {
			case one.first == framePong:
				pongs++
			case one.first != frameBinary || len(packets) == 0:
				t.Fatalf("a frame %#x of %d bytes", one.first, len(one.payload))
			case !bytes.Equal(one.payload, packets[0]):
				t.Fatalf("a message of %d bytes, want the packet of %d", len(one.payload), len(packets[0]))
			default:
				packets = packets[1:]
			}
		}
		if len(packets) > 0 || pings > 0 && pongs == 0 {
			t.Fatalf("%d packets are missing; %d pongs for %d pings", len(packets), pongs, pings)
		}
	})
}

// Whatever a client sends, it is read as its binary messages hold it, without a
// panic and without more memory than was sent.
func FuzzWebSocketReads(f *testing.F) {
	f.Add(maskedFrame(frameBinary, []byte("a packet")))
	f.Add(append(maskedFrame(websocket.BinaryMessage, []byte("in ")), maskedFrame(0x80, []byte("two frames"))...))
	f.Add(append(append(maskedFrame(websocket.BinaryMessage, nil), maskedFrame(0x89, []byte("ping"))...), maskedFrame(0x80, nil)...))
	f.Add(maskedFrame(frameClose, []byte{3, 232}))
	f.Add([]byte{0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, sent []byte) {
		w, _ := newTestWebSocket(t, bytes.NewReader(sent))
		var got []byte
		for p := make([]byte, 100); ; {
			n, err := w.Read(p)
			got = append(got, p[:n]...)
			if err != nil {
				break
			}
		}
		if len(got) > len(sent) {
			t.Fatalf("%d bytes were read of %d", len(got), len(sent))
		}
	})
}

// Bytes go through as they are, in whatever messages and frames they come; a
// ping between frames is answered, a text message ends the connection.
func TestWebSocketReadsAcrossMessages(t *testing.T) {
	var sent, want []byte
	for i := range 2000 {
		p := packetOf(i%300, byte(i))
		want = append(want, p...)
		cut := len(p) / 2
		sent = append(sent, maskedFrame(websocket.BinaryMessage, p[:cut])...)
		sent = append(sent, maskedFrame(0x89, []byte("?"))...)
		sent = append(sent, maskedFrame(0x80, p[cut:])...)
	}
	sent = append(sent, maskedFrame(frameBinary, bytes.Repeat([]byte{0xc0, 0}, 100_000))...)
	want = append(want, bytes.Repeat([]byte{0xc0, 0}, 100_000)...)
	sent = append(sent, maskedFrame(0x81, []byte("text"))...)
	w, r := newTestWebSocket(t, bytes.NewReader(sent))
	got, err := io.ReadAll(w)
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes were read, want %d, or others", len(got), len(want))
	}
	if err == nil || err.Error() != "a WebSocket message of MQTT must be binary" {
		t.Errorf("a text message: %v", err)
	}
	pongs, err := readFrames(r.out.Bytes())
	if err != nil || len(pongs) != 2000 {
		t.Errorf("%d pongs, %v", len(pongs), err)
	}
}
