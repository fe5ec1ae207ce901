package main

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// raw is an MQTT 3.1.1 client with only what the loads need.
type raw struct {
	net.Conn
	in *bufio.Reader
}

// The packet types (MQTT 3.1.1, 2.2.1), as in the first byte of a frame.
const (
	connect   = 1 << 4
	connack   = 2 << 4
	publish   = 3 << 4
	puback    = 4 << 4
	pubrec    = 5 << 4
	pubrel    = 6<<4 | 2
	pubcomp   = 7 << 4
	subscribe = 8<<4 | 2
	suback    = 9 << 4
)

// dial connects with a clean session, or with a persistent one.
func (r *running) dial(id string, clean bool) (*raw, error) {
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		return nil, err
	}
	return session(c, id, r.login, clean, 64<<10)
}

// dialTLS connects by TLS and accepts any certificate.
func (r *running) dialTLS(id string) (*raw, error) {
	if r.tlsAddr == "" {
		return nil, errors.New("it was not given a certificate")
	}
	c, err := tls.Dial("tcp", r.tlsAddr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	return session(c, id, r.login, true, 4<<10)
}

// benchUser is user and password, if a target requires them.
const benchUser = "bench"

// session connects a client.
func session(c net.Conn, id string, login, clean bool, buffer int) (*raw, error) {
	r := &raw{c, bufio.NewReaderSize(c, buffer)}
	flags := byte(0)
	if clean {
		flags = 2
	}
	if login {
		flags |= 0xc0
	}
	body := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, flags, 0, 0}, text(id)...)
	if login {
		body = append(append(body, text(benchUser)...), text(benchUser)...)
	}
	if _, err := c.Write(packet(connect, body)); err != nil {
		return nil, err
	}
	kind, answer, err := r.next()
	if err != nil || kind != connack || len(answer) != 2 || answer[1] != 0 {
		return nil, fmt.Errorf("no session: packet %#x % x: %w", kind, answer, err)
	}
	return r, nil
}

// text encodes a UTF-8 string.
func text(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

// packet encodes a packet.
func packet(kind byte, body []byte) []byte {
	p := []byte{kind}
	for n := len(body); ; {
		b := byte(n % 128)
		if n /= 128; n > 0 {
			p = append(p, b|128)
			continue
		}
		return append(append(p, b), body...)
	}
}

// message encodes a PUBLISH; id is used with QoS 1 and 2.
func message(topic string, payload []byte, qos byte, retain bool, id uint16) []byte {
	kind := publish | qos<<1
	if retain {
		kind |= 1
	}
	body := text(topic)
	if qos > 0 {
		body = binary.BigEndian.AppendUint16(body, id)
	}
	return packet(kind, append(body, payload...))
}

// header reads the fixed header of a packet: its first byte, and how many bytes
// follow.
func (r *raw) header() (kind byte, n int, err error) {
	if kind, err = r.in.ReadByte(); err != nil {
		return 0, 0, err
	}
	for shift := 0; ; shift += 7 {
		b, err := r.in.ReadByte()
		if err != nil {
			return 0, 0, err
		}
		n |= int(b&127) << shift
		if b < 128 {
			return kind, n, nil
		}
	}
}

// next reads one packet. The body is valid until the next call.
func (r *raw) next() (kind byte, body []byte, err error) {
	kind, n, err := r.header()
	if err != nil {
		return 0, nil, err
	}
	body = make([]byte, n)
	_, err = io.ReadFull(r.in, body)
	return kind, body, err
}

// skip reads one packet and discards its body, without an allocation if it fits the
// buffer. first are the first bytes of the body.
func (r *raw) skip() (kind byte, first [2]byte, err error) {
	kind, n, err := r.header()
	if err != nil {
		return 0, first, err
	}
	if n >= 2 {
		p, err := r.in.Peek(2)
		if err != nil {
			return 0, first, err
		}
		copy(first[:], p)
	}
	_, err = r.in.Discard(n)
	return kind, first, err
}

// subscribe subscribes to a filter.
func (r *raw) subscribe(filter string, qos byte) error {
	body := append([]byte{0, 1}, text(filter)...)
	if _, err := r.Write(packet(subscribe, append(body, qos))); err != nil {
		return err
	}
	kind, _, err := r.skip()
	if err == nil && kind != suback {
		err = fmt.Errorf("packet %#x instead of a SUBACK", kind)
	}
	return err
}

// drain reads n PUBLISH packets and acknowledges them.
func (r *raw) drain(n int, patience time.Duration) error {
	acks := make([]byte, 0, 4096)
	for got := 0; got < n; {
		if r.in.Buffered() == 0 && len(acks) > 0 {
			if _, err := r.Write(acks); err != nil {
				return err
			}
			acks = acks[:0]
		}
		_ = r.SetReadDeadline(time.Now().Add(patience))
		kind, body, err := r.next()
		if err != nil {
			return fmt.Errorf("after %d of %d: %w", got, n, err)
		}
		switch {
		case kind&0xf0 == publish:
			got++
			qos := kind >> 1 & 3
			if qos > 0 {
				at := 2 + int(binary.BigEndian.Uint16(body))
				answer := byte(puback)
				if qos == 2 {
					answer = pubrec
				}
				acks = append(acks, answer, 2, body[at], body[at+1])
			}
		case kind == pubrel:
			acks = append(acks, pubcomp, 2, body[0], body[1])
		}
	}
	_, err := r.Write(acks)
	return err
}
