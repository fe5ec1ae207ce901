package e2e

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// The kinds of packets, as the first four bits of one.
const (
	kindConnack    = 2
	kindPublish    = 3
	kindPuback     = 4
	kindPubrec     = 5
	kindPubrel     = 6
	kindPubcomp    = 7
	kindSuback     = 9
	kindPingresp   = 13
	kindDisconnect = 14
)

// answerTime is how long a broker that is there may need to answer; behind a
// cable that is out it never does.
const answerTime = 20 * time.Second

// line is one MQTT connection without a library between: what was acknowledged
// and what was not is known exactly. Errors of writing are left to reading.
type line struct {
	conn    net.Conn
	in      *bufio.Reader
	version byte // 4 or 5
	present bool // the broker had a session

	writing sync.Mutex
}

// packet is what the broker sent.
type packet struct {
	kind, flags byte
	id          uint16
	code        byte // of an acknowledgement, CONNACK, SUBACK or DISCONNECT
	topic       string
	payload     string
}

func (p packet) qos() byte    { return p.flags >> 1 & 3 }
func (p packet) dup() bool    { return p.flags&8 != 0 }
func (p packet) retain() bool { return p.flags&1 != 0 }

// connect opens a connection; a session that is not clean lives for an hour
// after it. Who wants to be told late of messages takes few at a time, with
// MQTT 5. login is a user and its password, or nothing.
func (h *Host) connect(address string, version byte, id string, clean bool, login ...string) (*line, error) {
	conn, err := h.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	l := &line{conn: conn, in: bufio.NewReader(conn), version: version}
	flags := byte(0)
	if clean {
		flags = 2
	}
	if len(login) > 0 {
		flags |= 0xC0
	}
	body := append(text("MQTT"), version, flags, 0, 60)
	if version == 5 && clean {
		body = append(body, 0)
	} else if version == 5 {
		body = append(body, 8, 0x11, 0, 0, 0x0E, 0x10, 0x21, 0, 25) // session expiry, Receive Maximum
	}
	body = append(body, text(id)...)
	for _, s := range login {
		body = append(body, text(s)...)
	}
	l.send(0x10, body)
	p, err := l.read(answerTime)
	if err == nil && (p.kind != kindConnack || p.code != 0) {
		err = fmt.Errorf("CONNECT of %s is answered by %+v", id, p)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	l.present = p.flags == 1
	return l, nil
}

func (l *line) send(first byte, body []byte) {
	b := binary.AppendUvarint([]byte{first}, uint64(len(body))) // as MQTT writes a length
	l.writing.Lock()
	defer l.writing.Unlock()
	l.conn.SetWriteDeadline(time.Now().Add(patience))
	l.conn.Write(append(b, body...))
}

// publish sends a PUBLISH; flags are DUP, QoS and RETAIN.
func (l *line) publish(flags byte, id uint16, topic, payload string) {
	body := append([]byte{byte(len(topic) >> 8), byte(len(topic))}, topic...)
	if flags&6 != 0 {
		body = binary.BigEndian.AppendUint16(body, id)
	}
	if l.version == 5 {
		body = append(body, 0)
	}
	l.send(0x30|flags, append(body, payload...))
}

// answer sends PUBACK, PUBREC, PUBREL or PUBCOMP.
func (l *line) answer(kind byte, id uint16) {
	first := kind << 4
	if kind == kindPubrel {
		first |= 2
	}
	l.send(first, []byte{byte(id >> 8), byte(id)})
}

// subscribe subscribes and returns when that is acknowledged; what is
// published meanwhile is lost, so nothing may be.
func (l *line) subscribe(filter string, qos byte) error {
	body := []byte{0, 1}
	if l.version == 5 {
		body = append(body, 0)
	}
	l.send(0x82, append(append(body, text(filter)...), qos))
	p, err := l.read(answerTime)
	if err == nil && (p.kind != kindSuback || p.code != qos) {
		err = fmt.Errorf("SUBSCRIBE to %s is answered by %+v", filter, p)
	}
	return err
}

// leave says DISCONNECT and closes.
func (l *line) leave() {
	l.send(0xE0, nil)
	l.conn.Close()
}

// read returns the next packet.
func (l *line) read(within time.Duration) (packet, error) {
	l.conn.SetReadDeadline(time.Now().Add(within))
	first, err := l.in.ReadByte()
	if err != nil {
		return packet{}, err
	}
	size, err := binary.ReadUvarint(l.in)
	if err != nil || size > 1<<28 {
		return packet{}, errors.Join(err, fmt.Errorf("a packet of %d bytes", size))
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(l.in, body); err != nil {
		return packet{}, err
	}
	p := packet{kind: first >> 4, flags: first & 15}
	return p, p.parse(body, l.version)
}

func (p *packet) parse(body []byte, version byte) error {
	short := fmt.Errorf("a packet that is not whole: kind %d, %q", p.kind, body)
	if p.kind == kindPingresp || p.kind == kindDisconnect && len(body) == 0 {
		return nil
	}
	if len(body) < 2 && p.kind != kindDisconnect {
		return short
	}
	switch p.kind {
	case kindConnack:
		p.flags, p.code = body[0], body[1]
	case kindDisconnect:
		p.code = body[0]
	case kindSuback:
		p.code = body[len(body)-1]
	case kindPublish:
		n := int(binary.BigEndian.Uint16(body)) + 2
		if len(body) < n {
			return short
		}
		p.topic, body = string(body[2:n]), body[n:]
		if p.qos() > 0 {
			if len(body) < 2 {
				return short
			}
			p.id, body = binary.BigEndian.Uint16(body), body[2:]
		}
		if version == 5 {
			size, n := binary.Uvarint(body)
			if n <= 0 || uint64(len(body)-n) < size {
				return short
			}
			body = body[n+int(size):]
		}
		p.payload = string(body)
	default:
		p.id = binary.BigEndian.Uint16(body)
		if len(body) > 2 {
			p.code = body[2]
		}
	}
	return nil
}

// fetch is what a persistent subscriber finds: it connects, reads until a
// message on the topic last, acknowledging each, and leaves. Messages it is
// sent again are told once with QoS 2.
func (h *Host) fetch(address string, version byte, id, last string) ([]packet, error) {
	l, err := h.connect(address, version, id, false)
	if err != nil {
		return nil, err
	}
	defer l.leave()
	if !l.present {
		return nil, fmt.Errorf("the session of %s is gone", id)
	}
	var all []packet
	var open []uint16 // QoS 2 between PUBLISH and PUBREL
	seen := false
	for !seen || len(open) > 0 {
		p, err := l.read(patience)
		if err != nil {
			return all, fmt.Errorf("awaiting %s after %d messages: %w", last, len(all), err)
		}
		switch {
		case p.kind == kindPubrel:
			open = slices.DeleteFunc(open, func(id uint16) bool { return id == p.id })
			l.answer(kindPubcomp, p.id)
			continue
		case p.kind != kindPublish:
			continue
		case p.qos() == 1:
			l.answer(kindPuback, p.id)
		case p.qos() == 2:
			l.answer(kindPubrec, p.id)
			if slices.Contains(open, p.id) {
				continue
			}
			open = append(open, p.id)
		}
		seen = seen || p.topic == last
		all = append(all, p)
	}
	// the answer to PINGREQ comes when what was acknowledged has been read
	l.send(0xC0, nil)
	for {
		if p, err := l.read(patience); err != nil || p.kind == kindPingresp {
			return all, err
		}
	}
}
