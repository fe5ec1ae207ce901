package wire

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Packet is a control packet as mochi has it.
type Packet = packets.Packet

// VersionError says that a CONNECT is of a protocol level that is none of 3.1,
// 3.1.1 and 5.0; the answer depends on it [MQTT-3.1.2-2].
type VersionError struct{ Level byte }

func (e *VersionError) Error() string {
	return fmt.Sprintf("MQTT 3.1, 3.1.1 and 5.0 are spoken, and this is protocol level %d", e.Level)
}

// What a CONNECT of 3.1.1 and later and one of 3.1 begin with.
var (
	prefixMQTT   = []byte("\x00\x04MQTT")
	prefixMQIsdp = []byte("\x00\x06MQIsdp")
)

// bridgeMark is the bit of the level that mosquitto sets for a bridge.
const bridgeMark = 0x80

// Bridge tells whether the body of a CONNECT is of a bridge between brokers,
// which marks the protocol level as mosquitto does, and returns it without the
// mark.
func Bridge(body []byte) (plain []byte, bridge bool) {
	for _, of := range []struct {
		prefix []byte
		levels []byte
	}{{prefixMQTT, []byte{V311, V5}}, {prefixMQIsdp, []byte{V31}}} {
		at := len(of.prefix)
		if len(body) > at && body[at]&bridgeMark != 0 && slices.Contains(of.levels, body[at]&^bridgeMark) && bytes.HasPrefix(body, of.prefix) {
			plain = slices.Clone(body)
			plain[at] &^= bridgeMark
			return plain, true
		}
	}
	return body, false
}

// normal31 returns the body of a CONNECT of MQTT 3.1 as 3.1.1 has it: there the
// reserved flag means nothing, and a user name or password may be missing though
// its flag is set. Any other body is returned as it is.
func normal31(body []byte) []byte {
	at := len(prefixMQIsdp)
	if len(body) < at+4 || body[at] != V31 || !bytes.HasPrefix(body, prefixMQIsdp) {
		return body
	}
	flags := body[at+1] &^ 1
	s := scanner{rest: body[at+4:]} // after the keep alive
	s.bytes("client identifier")
	if flags&flagWill != 0 {
		s.bytes("will topic")
		s.bytes("will payload")
	}
	for _, field := range []byte{flagUser, flagPassword} {
		switch {
		case flags&field == 0 || s.err != nil:
		case len(s.rest) == 0:
			flags &^= field
		default:
			s.bytes("user name or password")
		}
	}
	if flags == body[at+1] {
		return body
	}
	body = slices.Clone(body)
	body[at+1] = flags
	return body
}

// Decode decodes a control packet from a client: CONNECT, SUBSCRIBE,
// UNSUBSCRIBE, DISCONNECT, AUTH or PINGREQ. The packet shares nothing with
// body. Of a CONNECT, version is ignored, and VersionError may be the error.
func Decode(first byte, body []byte, version byte) (Packet, error) {
	kind := first >> 4
	pk := Packet{ProtocolVersion: version}
	if kind == Connect {
		body = normal31(body)
	}
	if err := check(kind, body, version); err != nil {
		return pk, err
	}
	if version == V31 && (kind == Subscribe || kind == Unsubscribe) {
		first = kind<<4 | 2 // see CheckFirst
	}
	if err := pk.FixedHeader.Decode(first); err != nil {
		return pk, malformed(err.Error())
	}
	pk.FixedHeader.Remaining = len(body)
	if kind == Disconnect && version == V5 && len(body) == 1 {
		pk.ReasonCode = body[0] // mochi takes a code without properties for none
		return pk, nil
	}
	if err := decode(kind, &pk, slices.Clone(body)); err != nil {
		return pk, malformed(err.Error())
	}
	return pk, nil
}

// decode hands a body that was checked to mochi, whose strings are parts of it.
func decode(kind byte, pk *Packet, body []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the decoder panicked: %v", p)
		}
	}()
	switch kind {
	case Connect:
		return pk.ConnectDecode(body)
	case Subscribe:
		return pk.SubscribeDecode(body)
	case Unsubscribe:
		return pk.UnsubscribeDecode(body)
	case Disconnect:
		return pk.DisconnectDecode(body)
	case Auth:
		if len(body) == 0 {
			return nil // reason code success
		}
		if len(body) == 1 {
			body = append(body, 0)
		}
		return pk.AuthDecode(body)
	}
	return nil
}

func check(kind byte, body []byte, version byte) error {
	s := scanner{rest: body}
	switch kind {
	case Connect:
		return s.connect()
	case Subscribe:
		return s.subscribe(version)
	case Unsubscribe:
		return s.unsubscribe(version)
	case Disconnect:
		return s.reason(kind, version, disconnectCodes)
	case Auth:
		return s.reason(kind, version, authCodes)
	}
	return s.end("packet")
}

// The flags of CONNECT.
const (
	flagWill       = 1 << 2
	flagWillRetain = 1 << 5
	flagPassword   = 1 << 6
	flagUser       = 1 << 7
)

func (s *scanner) connect() error {
	name := s.bytes("protocol name")
	level := s.byte("protocol version")
	if s.err != nil {
		return s.err
	}
	switch {
	case bytes.Equal(name, []byte("MQIsdp")):
		if level != V31 {
			return &VersionError{level}
		}
	case !bytes.Equal(name, []byte("MQTT")):
		return &Error{UnsupportedVersion, "another protocol than MQTT"} // [MQTT-3.1.2-1]
	case level != V311 && level != V5:
		return &VersionError{level}
	}
	flags := s.byte("connect flags")
	switch {
	case flags&1 != 0:
		return malformed("the reserved connect flag") // [MQTT-3.1.2-3]
	case flags>>3&3 == 3:
		return malformed("will QoS 3") // [MQTT-3.1.2-12]
	case flags&flagWill == 0 && flags&(flagWillRetain|3<<3) != 0:
		return malformed("will flags without a will") // [MQTT-3.1.2-11, -13]
	case flags&flagPassword != 0 && flags&flagUser == 0 && level != V5:
		return malformed("a password without a user name") // [MQTT 3.1.1: MQTT-3.1.2-22]
	}
	s.uint16("keep alive")
	if level == V5 {
		s.properties(Connect, nil)
	}
	s.text("client identifier") // [MQTT-3.1.3-4]
	if flags&flagWill != 0 {
		if level == V5 {
			s.properties(will, nil)
		}
		topic := s.text("will topic")
		if s.err == nil && !ValidTopic(string(topic)) {
			return malformed("the will topic is no topic name")
		}
		s.bytes("will payload")
	}
	if flags&flagUser != 0 {
		s.text("user name")
	}
	if flags&flagPassword != 0 {
		s.bytes("password")
	}
	return s.end("CONNECT")
}

func (s *scanner) subscribe(version byte) error {
	if id := s.uint16("packet identifier"); id == 0 && s.err == nil {
		return violation("packet identifier 0")
	}
	if version == V5 {
		s.properties(Subscribe, nil)
	}
	if s.err == nil && len(s.rest) == 0 {
		return violation("SUBSCRIBE without a filter") // [MQTT-3.8.3-2; MQTT 3.1.1: MQTT-3.8.3-3]
	}
	for s.err == nil && len(s.rest) > 0 {
		filter := string(s.text("topic filter"))
		options := s.byte("subscription options")
		if s.err != nil {
			break
		}
		switch group, _ := Shared(filter); {
		case !ValidFilter(filter) && !refusable(filter, version):
			return malformed("a topic filter that is none")
		case options&3 == 3:
			return malformed("QoS 3")
		case version != V5 && options > 2, options&0xc0 != 0:
			return malformed("reserved subscription options") // [MQTT-3.8.3-5; MQTT 3.1.1: MQTT-3.8.3-4]
		case options>>4&3 == 3:
			return violation("retain handling 3")
		case options&4 != 0 && group != "":
			return violation("no local on a shared subscription") // [MQTT-3.8.3-4]
		}
	}
	return s.err
}

// refusable reports whether an invalid filter is refused by itself, without an
// end of the connection: of a shared subscription, which MQTT 3.1 and 3.1.1 do
// not know.
func refusable(filter string, version byte) bool {
	return version != V5 && strings.HasPrefix(filter, sharePrefix)
}

func (s *scanner) unsubscribe(version byte) error {
	if id := s.uint16("packet identifier"); id == 0 && s.err == nil {
		return violation("packet identifier 0")
	}
	if version == V5 {
		s.properties(Unsubscribe, nil)
	}
	if s.err == nil && len(s.rest) == 0 {
		return violation("UNSUBSCRIBE without a filter") // [MQTT-3.10.3-2]
	}
	for s.err == nil && len(s.rest) > 0 {
		if filter := s.text("topic filter"); s.err == nil && !ValidFilter(string(filter)) && !refusable(string(filter), version) {
			return malformed("a topic filter that is none")
		}
	}
	return s.err
}

// What a client may say in DISCONNECT and AUTH [MQTT-3.14.2-1, -3.15.2-1].
var (
	disconnectCodes = []byte{
		Success, DisconnectWithWill, Unspecified, MalformedPacket, ProtocolError, ImplementationSpecific,
		TopicNameInvalid, ReceiveMaximumExceeded, TopicAliasInvalid, PacketTooLarge, MessageRateTooHigh,
		QuotaExceeded, AdministrativeAction, PayloadFormatInvalid,
	}
	authCodes = []byte{Success, 0x18 /* continue */, 0x19 /* re-authenticate */}
)

func (s *scanner) reason(kind, version byte, codes []byte) error {
	if version != V5 || len(s.rest) == 0 {
		return s.end("packet")
	}
	code := s.byte("reason code")
	if len(s.rest) > 0 {
		s.properties(kind, nil)
	}
	if s.err == nil && !slices.Contains(codes, code) {
		return violation("a reason code that the packet does not have")
	}
	return s.end("packet")
}

// Append encodes a control packet that a server sends: CONNACK, SUBACK,
// UNSUBACK, PINGRESP or DISCONNECT.
func Append(b []byte, kind byte, pk Packet) ([]byte, error) {
	pk.FixedHeader.Type = kind
	buf := bytes.NewBuffer(b)
	var err error
	switch kind {
	case Connack:
		err = pk.ConnackEncode(buf)
	case Suback:
		err = pk.SubackEncode(buf)
	case Unsuback:
		err = pk.UnsubackEncode(buf)
	case Pingresp:
		err = pk.PingrespEncode(buf)
	case Disconnect:
		err = pk.DisconnectEncode(buf)
	default:
		err = fmt.Errorf("cannot encode packet type %d: a server does not send it", kind)
	}
	return buf.Bytes(), err
}
