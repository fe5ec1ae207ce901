package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// Packet is a control packet: one from a client, decoded, or one from a server, to be
// encoded.
type Packet struct {
	ProtocolVersion byte
	PacketID        uint16
	SessionPresent  bool
	ReasonCode      byte
	// ReasonCodes are those of a SUBACK or UNSUBACK.
	ReasonCodes []byte
	Connect     ConnectParams
	Properties  ControlProperties
	// Filters are those of a SUBSCRIBE or UNSUBSCRIBE.
	Filters []Subscription
}

// ConnectParams are the fields of a CONNECT.
type ConnectParams struct {
	ClientIdentifier string
	Clean            bool
	// Keepalive is in seconds.
	Keepalive      uint16
	UsernameFlag   bool
	Username       []byte
	PasswordFlag   bool
	Password       []byte
	WillFlag       bool
	WillRetain     bool
	WillQos        byte
	WillTopic      string
	WillPayload    []byte
	WillProperties WillProperties
}

// WillProperties are the properties of a will. Intervals are in seconds.
type WillProperties struct {
	Properties
	WillDelayInterval     uint32
	MessageExpiryInterval uint32
}

// ControlProperties are the properties of a control packet that the engine uses.
// Intervals are in seconds. A property without a flag is not encoded if it is 0.
type ControlProperties struct {
	SessionExpiryIntervalFlag bool
	SessionExpiryInterval     uint32
	AssignedClientID          string
	ServerKeepAliveFlag       bool
	ServerKeepAlive           uint16
	AuthenticationMethod      string
	ReasonString              string
	ReceiveMaximum            uint16
	TopicAliasMaximum         uint16
	MaximumPacketSize         uint32
}

// set sets the field of a property from a client.
func (p *ControlProperties) set(v *value) {
	switch v.id {
	case propSessionExpiry:
		p.SessionExpiryIntervalFlag, p.SessionExpiryInterval = true, v.number
	case propAuthMethod:
		p.AuthenticationMethod = string(v.bytes)
	case propReceiveMaximum:
		p.ReceiveMaximum = uint16(v.number)
	case propAliasMaximum:
		p.TopicAliasMaximum = uint16(v.number)
	case propMaximumPacket:
		p.MaximumPacketSize = v.number
	}
}

// Subscription is a filter of a SUBSCRIBE with its options. UNSUBSCRIBE has only
// filters.
type Subscription struct {
	Filter            string
	Qos               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte
	// Identifier is the subscription identifier; 0: none.
	Identifier int
}

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
// DISCONNECT, AUTH or PINGREQ. first is the first byte of the frame, which CheckFirst
// has checked. The packet does not share memory with body. For a CONNECT, version is
// ignored, and the error may be a VersionError.
func Decode(first byte, body []byte, version byte) (Packet, error) {
	pk := Packet{ProtocolVersion: version}
	kind := first >> 4
	if kind == Connect {
		body = normalize31(body)
	}
	s := scanner{rest: body}
	var err error
	switch kind {
	case Connect:
		err = s.readConnect(&pk)
	case Subscribe:
		err = s.readSubscribe(&pk)
	case Unsubscribe:
		err = s.readUnsubscribe(&pk)
	case Disconnect:
		err = s.readReason(&pk, kind, disconnectCodes)
	case Auth:
		err = s.readReason(&pk, kind, authCodes)
	default:
		err = s.checkEnd("packet")
	}
	return pk, err
}

// The flags of CONNECT (MQTT 5.0, 3.1.2.3).
const (
	flagClean      = 1 << 1
	flagWill       = 1 << 2
	flagWillRetain = 1 << 5
	flagPassword   = 1 << 6
	flagUser       = 1 << 7
)

// readConnect reads the body of a CONNECT (MQTT 5.0, 3.1).
func (s *scanner) readConnect(pk *Packet) error {
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
	pk.ProtocolVersion = level
	p := &pk.Connect
	p.Clean = flags&flagClean != 0
	p.Keepalive = s.readUint16("keep alive")
	if level == V5 {
		s.readProperties(Connect, pk.Properties.set)
	}
	p.ClientIdentifier = string(s.readText("client identifier")) // [MQTT-3.1.3-4]
	if flags&flagWill != 0 {
		if err := s.readWill(p, flags, level); err != nil {
			return err
		}
	}
	if p.UsernameFlag = flags&flagUser != 0; p.UsernameFlag {
		p.Username = slices.Clone(s.readText("user name"))
	}
	if p.PasswordFlag = flags&flagPassword != 0; p.PasswordFlag {
		p.Password = slices.Clone(s.readBytes("password"))
	}
	return s.checkEnd("CONNECT")
}

// readWill reads the will of a CONNECT.
func (s *scanner) readWill(p *ConnectParams, flags, level byte) error {
	p.WillFlag, p.WillRetain, p.WillQos = true, flags&flagWillRetain != 0, flags>>3&3
	if level == V5 {
		s.readProperties(willProperties, func(v *value) {
			switch v.id {
			case propWillDelay:
				p.WillProperties.WillDelayInterval = v.number
			case propMessageExpiry:
				p.WillProperties.MessageExpiryInterval = v.number
			default:
				v.bytes, v.pairValue = slices.Clone(v.bytes), slices.Clone(v.pairValue)
				p.WillProperties.set(v)
			}
		})
	}
	p.WillTopic = string(s.readText("will topic"))
	if s.err == nil && !ValidTopic(p.WillTopic) {
		return malformed("the will topic is not a valid topic name")
	}
	p.WillPayload = slices.Clone(s.readBytes("will payload"))
	return s.err
}

// readSubscribe reads the body of a SUBSCRIBE (MQTT 5.0, 3.8).
func (s *scanner) readSubscribe(pk *Packet) error {
	version := pk.ProtocolVersion
	if pk.PacketID = s.readUint16("packet identifier"); pk.PacketID == 0 && s.err == nil {
		return violation("packet identifier 0")
	}
	identifier := 0
	if version == V5 {
		s.readProperties(Subscribe, func(v *value) {
			if v.id == propSubscriptionID {
				identifier = int(v.number)
			}
		})
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
		case options&NoLocal != 0 && group != "":
			return violation("no local on a shared subscription") // [MQTT-3.8.3-4]
		}
		pk.Filters = append(pk.Filters, Subscription{
			Filter: filter, Qos: options & 3, NoLocal: options&NoLocal != 0, RetainAsPublished: options&RetainAsPublished != 0,
			RetainHandling: options >> 4 & 3, Identifier: identifier,
		})
	}
	return s.err
}

// refusedByItself reports whether an invalid filter is refused in SUBACK, without an
// end of the connection: one that looks shared in MQTT 3.1 and 3.1.1, which have no
// shared subscriptions.
func refusedByItself(filter string, version byte) bool {
	return version != V5 && strings.HasPrefix(filter, sharePrefix)
}

// readUnsubscribe reads the body of an UNSUBSCRIBE (MQTT 5.0, 3.10).
func (s *scanner) readUnsubscribe(pk *Packet) error {
	version := pk.ProtocolVersion
	if pk.PacketID = s.readUint16("packet identifier"); pk.PacketID == 0 && s.err == nil {
		return violation("packet identifier 0")
	}
	if version == V5 {
		s.readProperties(Unsubscribe, nil)
	}
	if s.err == nil && len(s.rest) == 0 {
		return violation("UNSUBSCRIBE without a filter") // [MQTT-3.10.3-2]
	}
	for s.err == nil && len(s.rest) > 0 {
		filter := string(s.readText("topic filter"))
		if s.err != nil {
			break
		}
		if !ValidFilter(filter) && !refusedByItself(filter, version) {
			return malformed("the topic filter is not valid")
		}
		pk.Filters = append(pk.Filters, Subscription{Filter: filter})
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

// readReason reads the body of a packet that has only a reason code and properties.
func (s *scanner) readReason(pk *Packet, kind byte, codes []byte) error {
	if pk.ProtocolVersion != V5 || len(s.rest) == 0 {
		return s.checkEnd("packet")
	}
	pk.ReasonCode = s.readByte("reason code")
	if len(s.rest) > 0 {
		s.readProperties(kind, pk.Properties.set)
	}
	if s.err == nil && !slices.Contains(codes, pk.ReasonCode) {
		return violation("a reason code that this packet type does not have")
	}
	return s.checkEnd("packet")
}

// Append appends a control packet from a server: CONNACK, SUBACK, UNSUBACK, PINGRESP
// or DISCONNECT. DISCONNECT exists only in MQTT 5.
func Append(b []byte, kind byte, pk Packet) ([]byte, error) {
	var properties []byte
	if pk.ProtocolVersion == V5 {
		properties = pk.Properties.append(make([]byte, 0, 64), kind)
		properties = append(appendVarint(make([]byte, 0, 4+len(properties)), len(properties)), properties...)
	}
	body := make([]byte, 0, 2+len(properties)+len(pk.ReasonCodes))
	switch kind {
	case Connack:
		var flags byte
		if pk.SessionPresent {
			flags = 1
		}
		body = append(append(body, flags, pk.ReasonCode), properties...)
	case Suback:
		body = append(append(binary.BigEndian.AppendUint16(body, pk.PacketID), properties...), pk.ReasonCodes...)
	case Unsuback:
		body = append(binary.BigEndian.AppendUint16(body, pk.PacketID), properties...)
		if pk.ProtocolVersion == V5 {
			body = append(body, pk.ReasonCodes...)
		}
	case Pingresp:
	case Disconnect:
		body = append(append(body, pk.ReasonCode), properties...)
	default:
		return b, fmt.Errorf("cannot encode packet type %d: a server does not send it", kind)
	}
	return append(appendVarint(append(b, kind<<4), len(body)), body...), nil
}

// append appends the properties that a packet from a server may have, without their
// length.
func (p *ControlProperties) append(b []byte, kind byte) []byte {
	if kind != Connack && kind != Disconnect {
		return b
	}
	if p.SessionExpiryIntervalFlag && kind == Connack { // [MQTT-3.14.2-2]
		b = binary.BigEndian.AppendUint32(append(b, propSessionExpiry), p.SessionExpiryInterval)
	}
	if p.AssignedClientID != "" {
		b = appendText(append(b, propAssignedClientID), []byte(p.AssignedClientID))
	}
	if p.ServerKeepAliveFlag {
		b = binary.BigEndian.AppendUint16(append(b, propServerKeepAlive), p.ServerKeepAlive)
	}
	if p.ReasonString != "" {
		b = appendText(append(b, propReasonString), []byte(p.ReasonString))
	}
	if p.ReceiveMaximum > 0 {
		b = binary.BigEndian.AppendUint16(append(b, propReceiveMaximum), p.ReceiveMaximum)
	}
	if p.TopicAliasMaximum > 0 {
		b = binary.BigEndian.AppendUint16(append(b, propAliasMaximum), p.TopicAliasMaximum)
	}
	if p.MaximumPacketSize > 0 {
		b = binary.BigEndian.AppendUint32(append(b, propMaximumPacket), p.MaximumPacketSize)
	}
	return b
}
