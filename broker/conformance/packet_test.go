package conformance

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// The packet types, in the upper half of a packet's first byte.
const (
	CONNECT byte = iota + 1
	CONNACK
	PUBLISH
	PUBACK
	PUBREC
	PUBREL
	PUBCOMP
	SUBSCRIBE
	SUBACK
	UNSUBSCRIBE
	UNSUBACK
	PINGREQ
	PINGRESP
	DISCONNECT
	AUTH
)

var kinds = strings.Split("0 CONNECT CONNACK PUBLISH PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE UNSUBACK PINGREQ PINGRESP DISCONNECT AUTH", " ")

// The properties of MQTT 5.
const (
	propFormat             byte = 0x01
	propMessageExpiry      byte = 0x02
	propContentType        byte = 0x03
	propResponseTopic      byte = 0x08
	propCorrelation        byte = 0x09
	propSubscriptionID     byte = 0x0B
	propSessionExpiry      byte = 0x11
	propAssignedClientID   byte = 0x12
	propServerKeepAlive    byte = 0x13
	propAuthMethod         byte = 0x15
	propAuthData           byte = 0x16
	propRequestProblem     byte = 0x17
	propWillDelay          byte = 0x18
	propRequestResponse    byte = 0x19
	propResponseInfo       byte = 0x1A
	propServerReference    byte = 0x1C
	propReasonString       byte = 0x1F
	propReceiveMaximum     byte = 0x21
	propTopicAliasMaximum  byte = 0x22
	propTopicAlias         byte = 0x23
	propMaximumQoS         byte = 0x24
	propRetainAvailable    byte = 0x25
	propUser               byte = 0x26
	propMaximumPacket      byte = 0x27
	propWildcardAvailable  byte = 0x28
	propSubscriptionIDsAvl byte = 0x29
	propSharedAvailable    byte = 0x2A
)

// shapes tells how a property's value is written: b, h, w are 1, 2 and 4
// bytes, v is a variable byte integer, s a string, d binary data, p a pair of
// strings; and in which packets of a server it may be.
var shapes = map[byte]struct {
	shape byte
	in    []byte
}{
	propFormat:             {'b', []byte{PUBLISH}},
	propMessageExpiry:      {'w', []byte{PUBLISH}},
	propContentType:        {'s', []byte{PUBLISH}},
	propResponseTopic:      {'s', []byte{PUBLISH}},
	propCorrelation:        {'d', []byte{PUBLISH}},
	propSubscriptionID:     {'v', []byte{PUBLISH}},
	propSessionExpiry:      {'w', []byte{CONNACK}}, // not in a server's DISCONNECT [MQTT-3.14.2-2]
	propAssignedClientID:   {'s', []byte{CONNACK}},
	propServerKeepAlive:    {'h', []byte{CONNACK}},
	propAuthMethod:         {'s', []byte{CONNACK, AUTH}},
	propAuthData:           {'d', []byte{CONNACK, AUTH}},
	propRequestProblem:     {'b', nil},
	propWillDelay:          {'w', nil},
	propRequestResponse:    {'b', nil},
	propResponseInfo:       {'s', []byte{CONNACK}},
	propServerReference:    {'s', []byte{CONNACK, DISCONNECT}},
	propReasonString:       {'s', []byte{CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH}},
	propReceiveMaximum:     {'h', []byte{CONNACK}},
	propTopicAliasMaximum:  {'h', []byte{CONNACK}},
	propTopicAlias:         {'h', []byte{PUBLISH}},
	propMaximumQoS:         {'b', []byte{CONNACK}},
	propRetainAvailable:    {'b', []byte{CONNACK}},
	propUser:               {'p', []byte{CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH}},
	propMaximumPacket:      {'w', []byte{CONNACK}},
	propWildcardAvailable:  {'b', []byte{CONNACK}},
	propSubscriptionIDsAvl: {'b', []byte{CONNACK}},
	propSharedAvailable:    {'b', []byte{CONNACK}},
}

// property is one property; n or s is its value, v the second of a pair.
type property struct {
	id   byte
	n    uint32
	s, v string
}

func number(id byte, n uint32) property { return property{id: id, n: n} }
func text(id byte, s string) property   { return property{id: id, s: s} }
func user(name, value string) property  { return property{id: propUser, s: name, v: value} }
func (p property) String() string       { return fmt.Sprintf("%#x:%d%q%q", p.id, p.n, p.s, p.v) }

func short(n int) []byte                      { return binary.BigEndian.AppendUint16(nil, uint16(n)) }
func str(s string) []byte                     { return append(short(len(s)), s...) }
func cat(parts ...[]byte) (b []byte)          { return append(b, joined(parts)...) }
func raw(b ...byte) []byte                    { return b }
func frame(first byte, body ...[]byte) []byte { return sized(first, joined(body)) }

func joined(parts [][]byte) (b []byte) {
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func sized(first byte, body []byte) []byte {
	return append(append([]byte{first}, varint(len(body))...), body...)
}

func varint(n int) (b []byte) {
	for {
		low := byte(n & 0x7f)
		if n >>= 7; n == 0 {
			return append(b, low)
		}
		b = append(b, low|0x80)
	}
}

// encode writes properties with their length; a version before 5 has none.
func encode(version byte, properties ...property) (b []byte) {
	if version < 5 {
		return nil
	}
	for _, p := range properties {
		b = append(b, p.id)
		switch shapes[p.id].shape {
		case 'b':
			b = append(b, byte(p.n))
		case 'h':
			b = append(b, short(int(p.n))...)
		case 'w':
			b = binary.BigEndian.AppendUint32(b, p.n)
		case 'v':
			b = append(b, varint(int(p.n))...)
		case 's', 'd':
			b = append(b, str(p.s)...)
		case 'p':
			b = append(append(b, str(p.s)...), str(p.v)...)
		}
	}
	return append(varint(len(b)), b...)
}

// anyVersion reads a CONNACK of either.
const anyVersion = 0

// packet is one packet of a server, taken apart.
type packet struct {
	kind, flags byte
	size        int // of the whole packet, in bytes
	id          uint16
	present     bool // CONNACK: session present
	reason      byte // CONNACK, PUBACK …, DISCONNECT
	reasons     []byte
	topic       string
	payload     string
	properties  []property
}

func (p packet) qos() byte    { return p.flags >> 1 & 3 }
func (p packet) dup() bool    { return p.flags&8 != 0 }
func (p packet) retain() bool { return p.flags&1 != 0 }

// all gives the values of a property.
func (p packet) all(id byte) (found []property) {
	for _, q := range p.properties {
		if q.id == id {
			found = append(found, q)
		}
	}
	return found
}

// get gives the value of a property that is there once at most.
func (p packet) get(id byte) (property, bool) {
	if found := p.all(id); len(found) > 0 {
		return found[0], true
	}
	return property{}, false
}

func (p packet) String() string {
	s := fmt.Sprintf("%s flags %#x", kinds[p.kind], p.flags)
	switch p.kind {
	case CONNACK:
		s += fmt.Sprintf(" present %v reason %#x", p.present, p.reason)
	case PUBLISH:
		s += fmt.Sprintf(" id %d topic %.60q payload %.60q", p.id, p.topic, p.payload)
	case SUBACK, UNSUBACK:
		s += fmt.Sprintf(" id %d reasons %#x", p.id, p.reasons)
	default:
		s += fmt.Sprintf(" id %d reason %#x", p.id, p.reason)
	}
	return s + fmt.Sprint(" ", p.properties)
}

// reading takes a body apart; the first thing that is missing sticks.
type reading struct {
	b   []byte
	err error
}

func (r *reading) take(n int) []byte {
	if n > len(r.b) {
		if r.err == nil {
			r.err = io.ErrUnexpectedEOF
		}
		return make([]byte, n)
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}
func (r *reading) byte() byte    { return r.take(1)[0] }
func (r *reading) short() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reading) data() string  { return string(r.take(int(r.short()))) }
func (r *reading) string() string {
	s := r.data()
	if r.err == nil && (!utf8.ValidString(s) || strings.ContainsRune(s, 0)) {
		r.err = errors.New("a string that is not UTF-8")
	}
	return s
}

func (r *reading) varint() (n uint32) {
	for shift := 0; shift < 28; shift += 7 {
		b := r.byte()
		n |= uint32(b&0x7f) << shift
		if b&0x80 == 0 {
			if b == 0 && shift > 0 {
				r.err = errors.New("a variable byte integer longer than needed [MQTT-1.5.5-1]")
			}
			return n
		}
	}
	r.err = errors.New("a variable byte integer without end")
	return 0
}

func (r *reading) properties(kind byte) (all []property) {
	n := int(r.varint())
	inner := &reading{b: r.take(n)}
	for r.err == nil && inner.err == nil && len(inner.b) > 0 {
		p := property{id: inner.byte()}
		known, ok := shapes[p.id]
		if !ok || !bytes.Contains(known.in, []byte{kind}) {
			r.err = fmt.Errorf("property %#x in %s", p.id, kinds[kind])
			return all
		}
		switch known.shape {
		case 'b':
			p.n = uint32(inner.byte())
		case 'h':
			p.n = uint32(inner.short())
		case 'w':
			p.n = binary.BigEndian.Uint32(inner.take(4))
		case 'v':
			p.n = inner.varint()
		case 's':
			p.s = inner.string()
		case 'd':
			p.s = inner.data()
		case 'p':
			p.s, p.v = inner.string(), inner.string()
		}
		for _, q := range all {
			if q.id == p.id && p.id != propUser && p.id != propSubscriptionID {
				inner.err = fmt.Errorf("property %#x twice", p.id)
			}
		}
		all = append(all, p)
	}
	if r.err == nil {
		r.err = inner.err
	}
	return all
}

// The reason codes that a server may send, for each packet of it.
var reasonCodes = map[byte]string{
	CONNACK:    "\x00\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8c\x90\x95\x97\x99\x9a\x9b\x9c\x9d\x9f",
	PUBACK:     "\x00\x10\x80\x83\x87\x90\x91\x97\x99",
	PUBREC:     "\x00\x10\x80\x83\x87\x90\x91\x97\x99",
	PUBREL:     "\x00\x92",
	PUBCOMP:    "\x00\x92",
	SUBACK:     "\x00\x01\x02\x80\x83\x87\x8f\x91\x97\x9e\xa1\xa2",
	UNSUBACK:   "\x00\x11\x80\x83\x87\x8f\x91",
	DISCONNECT: "\x00\x80\x81\x82\x83\x87\x89\x8b\x8d\x8e\x8f\x90\x93\x94\x95\x96\x97\x98\x99\x9a\x9b\x9c\x9d\x9e\x9f\xa0\xa1\xa2",
	AUTH:       "\x00\x18\x19",
}

// parse reads one packet of a server, strictly.
func parse(from io.Reader, version byte) (packet, error) {
	one := make([]byte, 1)
	if _, err := io.ReadFull(from, one); err != nil {
		return packet{}, err
	}
	p := packet{kind: one[0] >> 4, flags: one[0] & 15}
	length, n := 0, 0
	for ; ; n++ {
		if _, err := io.ReadFull(from, one); err != nil {
			return p, noEOF(err)
		}
		length |= int(one[0]&0x7f) << (7 * n)
		if one[0]&0x80 == 0 {
			break
		}
		if n == 3 {
			return p, errors.New("a remaining length without end")
		}
	}
	if n > 0 && one[0] == 0 {
		return p, errors.New("a remaining length longer than needed")
	}
	p.size = 2 + n + length
	r := &reading{b: make([]byte, length)}
	if _, err := io.ReadFull(from, r.b); err != nil {
		return p, noEOF(err)
	}
	if err := p.body(r, version); err != nil {
		return p, fmt.Errorf("a malformed %s: %w", kinds[p.kind], err)
	}
	return p, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (p *packet) body(r *reading, version byte) error {
	flags := byte(0)
	switch p.kind {
	case CONNACK:
		ack := r.byte()
		p.present, p.reason = ack&1 != 0, r.byte()
		if ack > 1 {
			return fmt.Errorf("acknowledge flags %#x", ack)
		}
		if version == 5 || version == anyVersion && len(r.b) > 0 {
			p.properties = r.properties(p.kind)
		} else if p.reason > 5 {
			return fmt.Errorf("return code %d", p.reason)
		}
	case PUBLISH:
		flags = p.flags
		p.topic = r.string()
		if p.qos() == 3 || p.qos() == 0 && p.dup() {
			return fmt.Errorf("flags %#x", p.flags)
		}
		if p.qos() > 0 {
			if p.id = r.short(); p.id == 0 {
				return errors.New("packet id 0")
			}
		}
		if version == 5 {
			p.properties = r.properties(p.kind)
		}
		p.payload = string(r.take(len(r.b)))
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		if p.kind == PUBREL {
			flags = 2
		}
		p.id = r.short()
		if version == 5 && len(r.b) > 0 {
			if p.reason = r.byte(); len(r.b) > 0 {
				p.properties = r.properties(p.kind)
			}
		}
	case SUBACK, UNSUBACK:
		p.id = r.short()
		if version == 5 {
			p.properties = r.properties(p.kind)
		}
		if version == 5 || p.kind == SUBACK {
			p.reasons = r.take(len(r.b))
		}
	case PINGRESP:
	case DISCONNECT, AUTH:
		if version < 5 {
			return errors.New("which MQTT 3.1.1 does not let a server send")
		}
		if len(r.b) > 0 {
			if p.reason = r.byte(); len(r.b) > 0 {
				p.properties = r.properties(p.kind)
			}
		}
	default:
		return errors.New("which is not for a server to send")
	}
	if r.err != nil {
		return r.err
	}
	if len(r.b) > 0 {
		return fmt.Errorf("%d bytes too many", len(r.b))
	}
	if p.flags != flags {
		return fmt.Errorf("flags %#x", p.flags)
	}
	return p.codes(version)
}

// codes checks that the reason codes are of the packet's table.
func (p *packet) codes(version byte) error {
	allowed, ok := reasonCodes[p.kind]
	if !ok {
		return nil
	}
	sent := append([]byte{p.reason}, p.reasons...)
	if p.kind == SUBACK || p.kind == UNSUBACK {
		sent = p.reasons
	}
	if version < 5 {
		if p.kind != SUBACK {
			return nil
		}
		allowed = "\x00\x01\x02\x80"
	}
	for _, code := range sent {
		if strings.IndexByte(allowed, code) < 0 {
			return fmt.Errorf("reason code %#x", code)
		}
	}
	return nil
}
