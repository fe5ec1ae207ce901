package conformance

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// The kinds of WebSocket frames (RFC 6455, 5.2).
const (
	textFrame   byte = 1
	binaryFrame byte = 2
	closeFrame  byte = 8
)

// socket is a connection over WebSocket, its frames written by hand.
type socket struct {
	net.Conn
	in   *bufio.Reader
	rest int // of the frame at hand
}

// webSocketTests are of chapter 6. They need a server that listens for it.
func webSocketTests() []test {
	return []test{
		{"the subprotocol is mqtt", "6.0.0-4", "6.0.0-4", func(p *probe) {
			_, answer := p.upgrade()
			got := answer.Header.Get("Sec-WebSocket-Protocol")
			p.check(answer.StatusCode == http.StatusSwitchingProtocols && got == "mqtt", "%s with the subprotocol %q", answer.Status, got)
		}},
		{"packets and frames need not coincide", "6.0.0-2 7.1.1-1", "6.0.0-2 4.2.0-1", func(p *probe) {
			s, _ := p.upgrade()
			c := &client{probe: p, conn: s, version: p.version}
			connect := p.connectPacket(p.id())
			s.frame(binaryFrame, connect[:1])
			s.frame(binaryFrame, connect[1:7])
			s.frame(binaryFrame, connect[7:])
			c.expect(CONNACK)
			s.frame(binaryFrame, cat(c.subscribePacket(1, nil, wish{p.topic("a"), 1}), c.publishPacket(message{topic: p.topic("a"), payload: strings.Repeat("x", 300), qos: 1, id: 9}), raw(PINGREQ<<4)))
			s.frame(binaryFrame, raw(0))
			c.await(SUBACK)
			c.acked(PUBACK, 9)
			c.await(PINGRESP)
			m := c.take()
			p.check(len(m.payload) == 300, "got %v", m)
		}},
		{"a text frame ends the connection", "6.0.0-1", "6.0.0-1", func(p *probe) {
			s, _ := p.upgrade()
			c := &client{probe: p, conn: s, version: p.version}
			s.frame(binaryFrame, p.connectPacket(p.id()))
			c.expect(CONNACK)
			s.frame(textFrame, raw(PINGREQ<<4, 0))
			last := c.closed()
			p.check(last == nil || last.kind == DISCONNECT, "answered %v", last)
		}},
	}
}

// upgrade opens a WebSocket.
func (p *probe) upgrade() (*socket, *http.Response) {
	if p.target.websocket == "" {
		panic(skipped(p.target.name + " leaves WebSocket to who embeds it"))
	}
	conn, err := net.DialTimeout("tcp", p.target.websocket, patience)
	p.check(err == nil, "cannot connect: %v", err)
	p.conns = append(p.conns, conn)
	_ = conn.SetDeadline(time.Now().Add(2 * patience))
	_, err = io.WriteString(conn, "GET /mqtt HTTP/1.1\r\nHost: "+p.target.websocket+"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n")
	p.check(err == nil, "cannot ask: %v", err)
	in := bufio.NewReader(conn)
	answer, err := http.ReadResponse(in, nil)
	p.check(err == nil, "no answer: %v", err)
	return &socket{Conn: conn, in: in}, answer
}

// frame sends a whole frame, masked with zeros as a client's frames must be.
func (s *socket) frame(kind byte, data []byte) {
	head := []byte{0x80 | kind, 0x80 | byte(min(len(data), 126))}
	if len(data) > 125 {
		head = binary.BigEndian.AppendUint16(head, uint16(len(data)))
	}
	_, _ = s.Write(joined([][]byte{head, {0, 0, 0, 0}, data}))
}

// Read gives the content of binary frames; a close frame is the end.
func (s *socket) Read(b []byte) (int, error) {
	for s.rest == 0 {
		head := make([]byte, 2)
		if _, err := io.ReadFull(s.in, head); err != nil {
			return 0, noMore(err)
		}
		first := head[0]
		s.rest = int(head[1] & 0x7f)
		if s.rest == 126 {
			if _, err := io.ReadFull(s.in, head); err != nil {
				return 0, noMore(err)
			}
			s.rest = int(binary.BigEndian.Uint16(head))
		}
		if first&15 == closeFrame {
			return 0, io.EOF
		}
	}
	n, err := s.in.Read(b[:min(len(b), s.rest)])
	s.rest -= n
	return n, err
}

func noMore(err error) error {
	if err == io.ErrUnexpectedEOF {
		return io.EOF
	}
	return err
}
