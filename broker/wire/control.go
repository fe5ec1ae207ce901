package wire

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Packet is mochi's control packet.
type Packet = packets.Packet

// VersionError is returned for a CONNECT of a protocol level other than 3.1, 3.1.1 and
// 5.0; the answer depends on it [MQTT-3.1.2-2].
type VersionError struct{ Level byte }

func (e *VersionError) Error() string {
	return fmt.Sprintf("protocol level %d is not supported: use MQTT 3.1, 3.1.1 or 5.0", e.Level)
}

// The first bytes of a CONNECT: of 3.1.1 and later, and of 3.1.
var (
	prefixMQTT   = []byte("\x00\x04MQTT")
	prefixMQIsdp = []byte("\x00\x06MQIsdp")
)

// bridgeMark is the bit of the protocol level that mosquitto sets for a bridge.
const bridgeMark = 0x80

// TrimBridgeMark reports whether the body of a CONNECT is that of a bridge between
// brokers, which marks the protocol level as mosquitto does, and returns the body
// without the mark.
func TrimBridgeMark(body []byte) (plain []byte, bridge bool) {
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

// normalize31 returns the body of a CONNECT of MQTT 3.1 in the form of 3.1.1: in 3.1
// the reserved flag has no meaning, and a user name or password may be missing
// although its flag is set. Any other body is returned unchanged.
func normalize31(body []byte) []byte {
	at := len(prefixMQIsdp)
	if len(body) < at+4 || body[at] != V31 || !bytes.HasPrefix(body, prefixMQIsdp) {
		return body
	}
	flags := body[at+1] &^ 1
	s := scanner{rest: body[at+4:]} // after the keep alive
	s.readBytes("client identifier")
	if flags&flagWill != 0 {
		s.readBytes("will topic")
		s.readBytes("will payload")
	}
	for _, field := range []byte{flagUser, flagPassword} {
		if flags&field == 0 || s.err != nil {
			continue
		}
		if len(s.rest) == 0 {
			flags &^= field
		} else {
			s.readBytes("user name or password")
		}
	}
	if flags == body[at+1] {
		return body
	}
	body = slices.Clone(body)
	body[at+1] = flags
	return body
}

// Decode decodes a control packet from a client: CONNECT, SUBSCRIBE, UNSUBSCRIBE,
// DISCONNECT, AUTH or PINGREQ. The packet does not share memory with body. For a
// CONNECT, version is ignored, and the error may be a VersionError.
func Decode(first byte, body []byte, version byte) (Packet, error) {
	kind := first >> 4
	pk := Packet{ProtocolVersion: version}
	if kind == Connect {
		body = normalize31(body)
	}
	if err := checkBody(kind, body, version); err != nil {
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
		pk.ReasonCode = body[0] // mochi ignores a code without properties
		return pk, nil
	}
	if err := decode(kind, &pk, slices.Clone(body)); err != nil {
		return pk, malformed(err.Error())
	}
	return pk, nil
}

// decode passes a checked body to mochi, whose strings refer to it.
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

// checkBody checks the body of a packet that mochi decodes.
func checkBody(kind byte, body []byte, version byte) error {
	s := scanner{rest: body}
	switch kind {
	case Connect:
		return s.checkConnect()
	case Subscribe:
		return s.checkSubscribe(version)
	case Unsubscribe:
		return s.checkUnsubscribe(version)
	case Disconnect:
		return s.checkReason(kind, version, disconnectCodes)
	case Auth:
		return s.checkReason(kind, version, authCodes)
	}
	return s.checkEnd("packet")
}

// The flags of CONNECT (MQTT 5.0, 3.1.2.3).
const (
	flagWill       = 1 << 2
	flagWillRetain = 1 << 5
	flagPassword   = 1 << 6
	flagUser       = 1 << 7
)

// checkConnect checks the body of a CONNECT (MQTT 5.0, 3.1).
func (s *scanner) checkConnect() error {
	name := s.readBytes("protocol name")
	level := s.readByte("protocol version")
	if s.err != nil {
		return s.err
	}
	switch {
	case bytes.Equal(name, []byte("MQIsdp")):
		if level != V31 {
			return &VersionError{level}
		}
	case !bytes.Equal(name, []byte("MQTT")):
		return &Error{UnsupportedVersion, "the protocol name is not MQTT"} // [MQTT-3.1.2-1]
	case level != V311 && level != V5:
		return &VersionError{level}
	}
	flags := s.readByte("connect flags")
	switch {
	case flags&1 != 0:
		return malformed("the reserved connect flag is set") // [MQTT-3.1.2-3]
	case flags>>3&3 == 3:
		return malformed("will QoS 3") // [MQTT-3.1.2-12]
	case flags&flagWill == 0 && flags&(flagWillRetain|3<<3) != 0:
		return malformed("will flags without a will") // [MQTT-3.1.2-11, -13]
	case flags&flagPassword != 0 && flags&flagUser == 0 && level != V5:
		return malformed("a password without a user name") // [MQTT 3.1.1: MQTT-3.1.2-22]
	}
	s.readUint16("keep alive")
	if level == V5 {
		s.readProperties(Connect, nil)
	}
	s.readText("client identifier") // [MQTT-3.1.3-4]
	if flags&flagWill != 0 {
		if level == V5 {
			s.readProperties(willProperties, nil)
		}
		topic := s.readText("will topic")
		if s.err == nil && !ValidTopic(string(topic)) {
			return malformed("the will topic is not a valid topic name")
		}
		s.readBytes("will payload")
	}
	if flags&flagUser != 0 {
		s.readText("user name")
	}
	if flags&flagPassword != 0 {
		s.readBytes("password")
	}
	return s.checkEnd("CONNECT")
}

// checkSubscribe checks the body of a SUBSCRIBE (MQTT 5.0, 3.8).
func (s *scanner) checkSubscribe(version byte) error {
	if id := s.readUint16("packet identifier"); id == 0 && s.err == nil {
		return violation("packet identifier 0")
	}
	if version == V5 {
		s.readProperties(Subscribe, nil)
	}
	if s.err == nil && len(s.rest) == 0 {
		return violation("SUBSCRIBE without a filter") // [MQTT-3.8.3-2; MQTT 3.1.1: MQTT-3.8.3-3]
	}
	for s.err == nil && len(s.rest) > 0 {
		filter := string(s.readText("topic filter"))
		options := s.readByte("subscription options")
		if s.err != nil {
			break
		}
		switch group, _ := SplitShared(filter); {
		case !ValidFilter(filter) && !refusedByItself(filter, version):
			return malformed("the topic filter is not valid")
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

// refusedByItself reports whether an invalid filter is refused in SUBACK, without an
// end of the connection: one that looks shared in MQTT 3.1 and 3.1.1, which have no
// shared subscriptions.
func refusedByItself(filter string, version byte) bool {
	return version != V5 && strings.HasPrefix(filter, sharePrefix)
}

// checkUnsubscribe checks the body of an UNSUBSCRIBE (MQTT 5.0, 3.10).
func (s *scanner) checkUnsubscribe(version byte) error {
	if id := s.readUint16("packet identifier"); id == 0 && s.err == nil {
		return violation("packet identifier 0")
	}
	if version == V5 {
		s.readProperties(Unsubscribe, nil)
	}
	if s.err == nil && len(s.rest) == 0 {
		return violation("UNSUBSCRIBE without a filter") // [MQTT-3.10.3-2]
	}
	for s.err == nil && len(s.rest) > 0 {
		if filter := s.readText("topic filter"); s.err == nil && !ValidFilter(string(filter)) && !refusedByItself(string(filter), version) {
			return malformed("the topic filter is not valid")
		}
	}
	return s.err
}

// The reason codes that a client may send in DISCONNECT and AUTH [MQTT-3.14.2-1,
// -3.15.2-1].
var (
	disconnectCodes = []byte{
		Success, DisconnectWithWill, Unspecified, MalformedPacket, ProtocolError, ImplementationSpecific,
		TopicNameInvalid, ReceiveMaximumExceeded, TopicAliasInvalid, PacketTooLarge, MessageRateTooHigh,
		QuotaExceeded, AdministrativeAction, PayloadFormatInvalid,
	}
	authCodes = []byte{Success, 0x18 /* continue */, 0x19 /* re-authenticate */}
)

// checkReason checks the body of a packet that has only a reason code and properties.
func (s *scanner) checkReason(kind, version byte, codes []byte) error {
	if version != V5 || len(s.rest) == 0 {
		return s.checkEnd("packet")
	}
	code := s.readByte("reason code")
	if len(s.rest) > 0 {
		s.readProperties(kind, nil)
	}
	if s.err == nil && !slices.Contains(codes, code) {
		return violation("a reason code that this packet type does not have")
	}
	return s.checkEnd("packet")
}

// Append appends a control packet from a server: CONNACK, SUBACK, UNSUBACK, PINGRESP
// or DISCONNECT.
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
