package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
)

// v5 translates between MQTT 5.0 on the line and 3.1.1, which is all that paho
// speaks. What 5.0 adds for a client that must know the fate of each message is
// kept here: the reason codes of PUBACK and DISCONNECT, and the limits that the
// broker names in its CONNACK. Other properties are neither sent nor passed on.
type v5 struct {
	keep    bool // ask for a session that does not expire
	bridge  bool // of subscriptions: no local, retain as published
	mark    bool // the level carries mosquitto's mark of a bridge
	receive uint16

	mu      sync.Mutex
	limits  limits
	refused map[uint16]reason // by packet id: PUBACKs with a failure
	ended   *Disconnected
	connack byte // reason code of the CONNACK
}

// limits are what a broker names in its CONNACK (MQTT 5.0, 3.2.2.3).
type limits struct {
	packet   int  // Maximum Packet Size; 0: none
	receive  int  // Receive Maximum; 0: none was named
	qos0     bool // Maximum QoS is 0
	noRetain bool // Retain Available is 0
}

// reason is a reason code with the words that the broker gave, if any.
type reason struct {
	code  byte
	words string
}

// Disconnected is the error of a connection that the broker ended with a
// DISCONNECT of MQTT 5.0.
type Disconnected struct {
	Code  byte
	Words string // the broker's; "": none
}

func (d *Disconnected) Error() string {
	return "the broker ended the connection: " + describe(reason{d.Code, d.Words})
}

// OfMessage reports whether the reason is a fault of what was sent, and no state
// of the broker, the network or the session.
func (d *Disconnected) OfMessage() bool {
	switch d.Code {
	case 0x81, 0x82, 0x83, 0x87, 0x90, 0x94, 0x95, 0x99, 0x9A, 0x9B:
		return true
	}
	return false
}

// reasonNames are the reason codes of 5.0 that PUBACK and DISCONNECT may carry
// (MQTT 5.0, 2.4).
var reasonNames = map[byte]string{
	0x00: "normal disconnection", 0x80: "unspecified error", 0x81: "malformed packet", 0x82: "protocol error",
	0x83: "implementation specific error", 0x87: "not authorized", 0x89: "server busy", 0x8B: "server shutting down",
	0x8D: "keep alive timeout", 0x8E: "session taken over", 0x8F: "topic filter invalid", 0x90: "topic name invalid",
	0x91: "packet identifier in use", 0x93: "receive maximum exceeded", 0x94: "topic alias invalid", 0x95: "packet too large",
	0x96: "message rate too high", 0x97: "quota exceeded", 0x98: "administrative action", 0x99: "payload format invalid",
	0x9A: "retain not supported", 0x9B: "QoS not supported", 0x9C: "use another server", 0x9D: "server moved",
	0x9F: "connection rate exceeded",
}

func describe(r reason) string {
	name := reasonNames[r.code]
	if name == "" {
		name = "reason"
	}
	text := fmt.Sprintf("%s (0x%02X)", name, r.code)
	if r.words != "" {
		text += fmt.Sprintf(": %.200q", r.words)
	}
	return text
}

// The packet types of MQTT that are translated.
const (
	typeConnect     = 1
	typeConnack     = 2
	typeSubscribe   = 8
	typeSuback      = 9
	typeUnsubscribe = 10
	typeUnsuback    = 11
	typeDisconnect  = 14
)

const (
	levelV5      = 5
	bridgeMark   = 0x80
	neverExpires = 0xFFFFFFFF
	noLocal      = 1 << 2 // of the options of a subscription
	asPublished  = 1 << 3
)

// out returns a whole packet of 3.1.1, as paho writes it, in the form of 5.0.
func (v *v5) out(packet []byte) ([]byte, error) {
	body := packet[1:]
	for len(body) > 0 && body[0] >= 0x80 {
		body = body[1:]
	}
	if len(body) == 0 {
		return nil, errors.New("cannot send a packet without a length")
	}
	body = body[1:]
	insert := func(at int, b ...byte) ([]byte, error) {
		if at > len(body) {
			return nil, errors.New("cannot send a malformed packet")
		}
		all := appendHeader(make([]byte, 0, len(packet)+len(b)+1), packet[0], len(body)+len(b))
		all = append(append(all, body[:at]...), b...)
		return append(all, body[at:]...), nil
	}
	switch kind := packet[0] >> 4; kind {
	case typeConnect:
		const level, properties = 6, 10 // where they are in the body
		if len(body) < properties {
			return nil, errors.New("cannot send a malformed CONNECT")
		}
		body[level] = levelV5
		if v.mark {
			body[level] |= bridgeMark
		}
		var p []byte
		if v.keep {
			p = binary.BigEndian.AppendUint32(append(p, 0x11), neverExpires)
		}
		if v.receive > 0 {
			p = binary.BigEndian.AppendUint16(append(p, 0x21), v.receive)
		}
		return insert(properties, append([]byte{byte(len(p))}, p...)...)
	case typePublish:
		if len(body) < 2 {
			return nil, errors.New("cannot send a malformed PUBLISH")
		}
		at := 2 + int(binary.BigEndian.Uint16(body))
		if packet[0]>>1&3 > 0 {
			at += 2
		}
		return insert(at, 0)
	case typeSubscribe:
		if v.bridge {
			for at := 2; at+2 < len(body); {
				if at += 2 + int(binary.BigEndian.Uint16(body[at:])); at < len(body) {
					body[at] |= noLocal | asPublished
				}
				at++
			}
		}
		return insert(2, 0)
	case typeUnsubscribe:
		return insert(2, 0)
	}
	return packet, nil
}

// appendHeader appends a fixed header.
func appendHeader(b []byte, first byte, size int) []byte {
	b = append(b, first)
	for {
		digit := byte(size & 0x7f)
		if size >>= 7; size == 0 {
			return append(b, digit)
		}
		b = append(b, digit|0x80)
	}
}

// in returns a packet of 5.0 that is no PUBLISH in the form of 3.1.1.
func (v *v5) in(first byte, body []byte) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch kind := first >> 4; kind {
	case typeConnack:
		if len(body) < 2 {
			return nil, malformed(kind)
		}
		v.connack = body[1]
		if len(body) > 2 { // a broker that knows 3.1.1 alone sends no properties
			if _, err := properties(body[2:], v.connackProperty); err != nil {
				return nil, malformed(kind)
			}
		}
		return []byte{first, 2, body[0], connackOf311(body[1])}, nil
	case typePuback:
		if len(body) < 2 {
			return nil, malformed(kind)
		}
		if len(body) > 2 && body[2] >= refused {
			if v.refused == nil {
				v.refused = make(map[uint16]reason)
			}
			v.refused[binary.BigEndian.Uint16(body)] = reason{body[2], words(body[3:])}
		}
		return []byte{first, 2, body[0], body[1]}, nil
	case typeSuback, typeUnsuback:
		if len(body) < 2 {
			return nil, malformed(kind)
		}
		codes, err := properties(body[2:], nil)
		if err != nil {
			return nil, malformed(kind)
		}
		if kind == typeUnsuback {
			codes = nil
		}
		packet := appendHeader(nil, first, 2+len(codes))
		return append(append(packet, body[:2]...), codes...), nil
	case typeDisconnect:
		v.ended = new(Disconnected)
		if len(body) > 0 {
			v.ended = &Disconnected{body[0], words(body[1:])}
		}
		return nil, v.ended
	}
	return append(appendHeader(nil, first, len(body)), body...), nil
}

func malformed(kind byte) error {
	return fmt.Errorf("the broker sent a malformed packet of type %d", kind)
}

// connackOf311 returns the return code of 3.1.1 for a reason code of a CONNACK.
func connackOf311(code byte) byte {
	switch code {
	case 0x00, 0x01, 0x02, 0x03, 0x04, 0x05:
		return code
	case 0x84:
		return 1
	case 0x85:
		return 2
	case 0x86:
		return 4
	case 0x87, 0x8A:
		return 5
	}
	return 3
}

func (v *v5) connackProperty(id byte, value []byte) {
	switch id {
	case 0x21:
		v.limits.receive = int(binary.BigEndian.Uint16(value))
	case 0x24:
		v.limits.qos0 = value[0] == 0
	case 0x25:
		v.limits.noRetain = value[0] == 0
	case 0x27:
		v.limits.packet = int(binary.BigEndian.Uint32(value))
	}
}

// words returns the Reason String among properties, "" without one.
func words(b []byte) (text string) {
	_, _ = properties(b, func(id byte, value []byte) {
		if id == 0x1F {
			text = string(value)
		}
	})
	return text
}

// propertySizes are the bytes of the values of the properties that a broker may
// send (MQTT 5.0, 2.2.2.2). varies marks a string or binary data, twice a pair of
// strings, number a variable byte integer.
var propertySizes = map[byte]int{
	0x01: 1, 0x02: 4, 0x03: varies, 0x08: varies, 0x09: varies, 0x0B: number, 0x11: 4, 0x12: varies, 0x13: 2, 0x15: varies, 0x16: varies,
	0x1A: varies, 0x1C: varies, 0x1F: varies, 0x21: 2, 0x22: 2, 0x23: 2, 0x24: 1, 0x25: 1, 0x26: twice, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1,
}

const (
	varies = -1
	twice  = -2
	number = -3
)

// properties reads the properties at the beginning of b, calls each with those
// of one value, and returns what follows them.
func properties(b []byte, each func(id byte, value []byte)) (rest []byte, err error) {
	fault := errors.New("malformed properties")
	size, b, ok := variable(b)
	if !ok || size > len(b) {
		return nil, fault
	}
	rest, b = b[size:], b[:size]
	text := func() ([]byte, bool) {
		if len(b) < 2 || len(b) < 2+int(binary.BigEndian.Uint16(b)) {
			return nil, false
		}
		value := b[2 : 2+int(binary.BigEndian.Uint16(b))]
		b = b[2+len(value):]
		return value, true
	}
	for len(b) > 0 {
		id := b[0]
		b = b[1:]
		var value []byte
		ok := true
		switch n := propertySizes[id]; n {
		case 0:
			return nil, fault
		case varies:
			value, ok = text()
		case twice:
			if _, ok = text(); ok {
				_, ok = text()
			}
		case number:
			_, b, ok = variable(b)
		default:
			if ok = len(b) >= n; ok {
				value, b = b[:n], b[n:]
			}
		}
		if !ok {
			return nil, fault
		}
		if each != nil && value != nil {
			each(id, value)
		}
	}
	return rest, nil
}

// variable reads a variable byte integer.
func variable(b []byte) (n int, rest []byte, ok bool) {
	for i := 0; i < 4 && i < len(b); i++ {
		n |= int(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return n, b[i+1:], true
		}
	}
	return 0, nil, false
}

// taken returns why the broker refused the message of a packet id, and forgets it.
func (v *v5) taken(id uint16) (reason, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	r, was := v.refused[id]
	delete(v.refused, id)
	return r, was
}
