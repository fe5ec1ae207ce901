package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
)

// translator translates between MQTT 5.0 on the connection and 3.1.1, which is all
// that paho supports. It holds what 5.0 adds for a client that must know what became
// of each message: the reason codes of PUBACK and DISCONNECT, and the capabilities in
// CONNACK. Other properties are neither sent nor passed on.
type translator struct {
	// persistent requests a session that does not expire.
	persistent bool
	// bridge adds the options no local and retain as published to subscriptions.
	bridge bool
	// localBridge adds mosquitto's bridge mark to the protocol level.
	localBridge bool
	// receiveMaximum is sent to the broker; 0: it is not.
	receiveMaximum uint16

	mu           sync.Mutex
	capabilities capabilities
	// refused holds PUBACKs with a failure, by packet identifier.
	refused      map[uint16]reasonCode
	disconnected *DisconnectError
	// connack is the reason code of CONNACK.
	connack byte
}

// capabilities are what a broker announces in its CONNACK (MQTT 5.0, 3.2.2.3).
type capabilities struct {
	// maxPacket is the Maximum Packet Size; 0: none.
	maxPacket int
	// receiveMaximum is the Receive Maximum; 0: none.
	receiveMaximum int
	// qos0Only is set if Maximum QoS is 0.
	qos0Only bool
	// noRetain is set if Retain Available is 0.
	noRetain bool
}

// reasonCode is a reason code with the broker's reason string, if there was one.
type reasonCode struct {
	code byte
	text string
}

// DisconnectError is the error of a connection that the broker ended with a DISCONNECT
// of MQTT 5.0.
type DisconnectError struct {
	Code byte
	// Text is the broker's reason string; "": none.
	Text string
}

// Error includes the broker's reason.
func (d *DisconnectError) Error() string {
	return "the broker ended the connection: " + describeReason(reasonCode{d.Code, d.Text})
}

// CausedByMessage reports whether the reason is an error of what was sent, not a state
// of broker, network or session.
func (d *DisconnectError) CausedByMessage() bool {
	switch d.Code {
	case 0x81, 0x82, 0x83, 0x87, 0x90, 0x94, 0x95, 0x99, 0x9A, 0x9B:
		return true
	}
	return false
}

// reasonNames are the reason codes of 5.0 that PUBACK and DISCONNECT may have (MQTT
// 5.0, 2.4).
var reasonNames = map[byte]string{
	0x00: "normal disconnection", 0x80: "unspecified error", 0x81: "malformed packet", 0x82: "protocol error",
	0x83: "implementation specific error", 0x87: "not authorized", 0x89: "server busy", 0x8B: "server shutting down",
	0x8D: "keep alive timeout", 0x8E: "session taken over", 0x8F: "topic filter invalid", 0x90: "topic name invalid",
	0x91: "packet identifier in use", 0x93: "receive maximum exceeded", 0x94: "topic alias invalid", 0x95: "packet too large",
	0x96: "message rate too high", 0x97: "quota exceeded", 0x98: "administrative action", 0x99: "payload format invalid",
	0x9A: "retain not supported", 0x9B: "QoS not supported", 0x9C: "use another server", 0x9D: "server moved",
	0x9F: "connection rate exceeded",
}

// describeReason returns a reason code as text.
func describeReason(r reasonCode) string {
	name := reasonNames[r.code]
	if name == "" {
		name = "reason"
	}
	text := fmt.Sprintf("%s (0x%02X)", name, r.code)
	if r.text != "" {
		text += fmt.Sprintf(": %.200q", r.text)
	}
	return text
}

// The packet types that are translated.
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
	// noLocal and retainAsPublished are options of a subscription (MQTT 5.0, 3.8.3.1).
	noLocal           = 1 << 2
	retainAsPublished = 1 << 3
)

// toV5 returns a packet of 3.1.1, as paho writes it, in the form of 5.0.
func (v *translator) toV5(packet []byte) ([]byte, error) {
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
		const level, properties = 6, 10 // their offsets in the body
		if len(body) < properties {
			return nil, errors.New("cannot send a malformed CONNECT")
		}
		body[level] = levelV5
		if v.localBridge {
			body[level] |= bridgeMark
		}
		var p []byte
		if v.persistent {
			p = binary.BigEndian.AppendUint32(append(p, 0x11), neverExpires)
		}
		if v.receiveMaximum > 0 {
			p = binary.BigEndian.AppendUint16(append(p, 0x21), v.receiveMaximum)
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
					body[at] |= noLocal | retainAsPublished
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

// fromV5 returns a packet of 5.0 other than PUBLISH in the form of 3.1.1.
func (v *translator) fromV5(first byte, body []byte) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch kind := first >> 4; kind {
	case typeConnack:
		if len(body) < 2 {
			return nil, malformed(kind)
		}
		v.connack = body[1]
		if len(body) > 2 { // a broker of 3.1.1 sends no properties
			if _, err := properties(body[2:], v.connackProperty); err != nil {
				return nil, malformed(kind)
			}
		}
		return []byte{first, 2, body[0], connackCode(body[1])}, nil
	case typePuback:
		if len(body) < 2 {
			return nil, malformed(kind)
		}
		if len(body) > 2 && body[2] >= failureCode {
			if v.refused == nil {
				v.refused = make(map[uint16]reasonCode)
			}
			v.refused[binary.BigEndian.Uint16(body)] = reasonCode{body[2], reasonString(body[3:])}
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
		v.disconnected = new(DisconnectError)
		if len(body) > 0 {
			v.disconnected = &DisconnectError{body[0], reasonString(body[1:])}
		}
		return nil, v.disconnected
	}
	return append(appendHeader(nil, first, len(body)), body...), nil
}

// malformed returns the error for a packet that cannot be decoded.
func malformed(kind byte) error {
	return fmt.Errorf("the broker sent a malformed packet of type %d", kind)
}

// connackCode returns the return code of 3.1.1 for a reason code of CONNACK.
func connackCode(code byte) byte {
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

// connackProperty sets the capability of a property of CONNACK.
func (v *translator) connackProperty(id byte, value []byte) {
	switch id {
	case 0x21:
		v.capabilities.receiveMaximum = int(binary.BigEndian.Uint16(value))
	case 0x24:
		v.capabilities.qos0Only = value[0] == 0
	case 0x25:
		v.capabilities.noRetain = value[0] == 0
	case 0x27:
		v.capabilities.maxPacket = int(binary.BigEndian.Uint32(value))
	}
}

// reasonString returns the Reason String among properties; "": there is none.
func reasonString(b []byte) (text string) {
	_, _ = properties(b, func(id byte, value []byte) {
		if id == 0x1F {
			text = string(value)
		}
	})
	return text
}

// propertySizes are the sizes of the values of the properties that a broker may send
// (MQTT 5.0, 2.2.2.2). sizeText stands for a string or binary data, sizePair for a
// pair of strings, sizeVarint for a variable byte integer.
var propertySizes = map[byte]int{
	0x01: 1, 0x02: 4, 0x03: sizeText, 0x08: sizeText, 0x09: sizeText, 0x0B: sizeVarint, 0x11: 4, 0x12: sizeText, 0x13: 2, 0x15: sizeText, 0x16: sizeText,
	0x1A: sizeText, 0x1C: sizeText, 0x1F: sizeText, 0x21: 2, 0x22: 2, 0x23: 2, 0x24: 1, 0x25: 1, 0x26: sizePair, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1,
}

const (
	sizeText   = -1
	sizePair   = -2
	sizeVarint = -3
)

// properties reads the properties at the beginning of b, calls each with those of a
// single value, and returns the rest of b.
func properties(b []byte, each func(id byte, value []byte)) (rest []byte, err error) {
	fault := errors.New("malformed properties")
	size, b, ok := varint(b)
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
		case sizeText:
			value, ok = text()
		case sizePair:
			if _, ok = text(); ok {
				_, ok = text()
			}
		case sizeVarint:
			_, b, ok = varint(b)
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

// varint reads a variable byte integer.
func varint(b []byte) (n int, rest []byte, ok bool) {
	for i := 0; i < 4 && i < len(b); i++ {
		n |= int(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return n, b[i+1:], true
		}
	}
	return 0, nil, false
}

// takeRefusal removes and returns the reason why the broker refused the message of a
// packet identifier.
func (v *translator) takeRefusal(id uint16) (reasonCode, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	r, ok := v.refused[id]
	delete(v.refused, id)
	return r, ok
}
