package wire

import (
	"encoding/binary"
	"errors"
)

// NeverExpires is the session expiry interval of a session that does not expire.
const NeverExpires = 0xFFFFFFFF

// Request is a CONNECT to be encoded.
type Request struct {
	Version byte
	// Bridge sets mosquitto's bridge mark.
	Bridge     bool
	CleanStart bool
	// KeepAlive is in seconds.
	KeepAlive uint16
	// SessionExpiry is in seconds, and ReceiveMaximum 0 for none; both of MQTT 5.
	SessionExpiry  uint32
	ReceiveMaximum uint16
	ClientID       string
	HasWill        bool
	WillTopic      string
	WillPayload    []byte
	WillQoS        byte
	WillRetain     bool
	// User is empty for none. A password without a user is not sent.
	User     string
	Password string
}

// Append appends the CONNECT. It fails if a field is longer than 65,535 bytes.
func (r *Request) Append(b []byte) ([]byte, error) {
	for _, size := range []int{len(r.ClientID), len(r.WillTopic), len(r.WillPayload), len(r.User), len(r.Password)} {
		if size > 65535 {
			return nil, errors.New("client identifier, will, user and password are limited to 65535 bytes each")
		}
	}
	var flags byte
	if r.CleanStart {
		flags |= flagClean
	}
	if r.HasWill {
		flags |= flagWill | r.WillQoS<<3
		if r.WillRetain {
			flags |= flagWillRetain
		}
	}
	level := r.Version
	if r.Bridge {
		level |= bridgeMark
	}
	body := append(append([]byte(nil), prefixMQTT...), level, 0)
	at := len(body) - 1 // of the flags
	body = binary.BigEndian.AppendUint16(body, r.KeepAlive)
	if r.Version == V5 {
		var p []byte
		if r.SessionExpiry > 0 {
			p = binary.BigEndian.AppendUint32(append(p, propSessionExpiry), r.SessionExpiry)
		}
		if r.ReceiveMaximum > 0 {
			p = binary.BigEndian.AppendUint16(append(p, propReceiveMaximum), r.ReceiveMaximum)
		}
		body = append(appendVarint(body, len(p)), p...)
	}
	body = appendText(body, []byte(r.ClientID))
	if r.HasWill {
		if r.Version == V5 {
			body = append(body, 0) // no properties
		}
		body = appendText(appendText(body, []byte(r.WillTopic)), r.WillPayload)
	}
	if r.User != "" {
		flags |= flagUser
		if body = appendText(body, []byte(r.User)); r.Password != "" {
			flags |= flagPassword
			body = appendText(body, []byte(r.Password))
		}
	}
	body[at] = flags
	return append(appendVarint(append(b, Connect<<4), len(body)), body...), nil
}

// AppendSubscribe appends a SUBSCRIBE with one filter. Options are QoS and, in MQTT 5,
// NoLocal and RetainAsPublished.
func AppendSubscribe(b []byte, id uint16, filter string, options, version byte) []byte {
	return append(appendFilters(b, Subscribe, id, []string{filter}, 1, version), options)
}

// AppendUnsubscribe appends an UNSUBSCRIBE.
func AppendUnsubscribe(b []byte, id uint16, filters []string, version byte) []byte {
	return appendFilters(b, Unsubscribe, id, filters, 0, version)
}

// appendFilters appends a packet with a packet identifier and filters. The caller
// appends more bytes.
func appendFilters(b []byte, kind byte, id uint16, filters []string, more int, version byte) []byte {
	size := 2 + more
	if version == V5 {
		size++
	}
	for _, f := range filters {
		size += 2 + len(f)
	}
	b = binary.BigEndian.AppendUint16(appendVarint(append(b, kind<<4|2), size), id)
	if version == V5 {
		b = append(b, 0) // no properties
	}
	for _, f := range filters {
		b = appendText(b, []byte(f))
	}
	return b
}

// AppendPingreq appends a PINGREQ.
func AppendPingreq(b []byte) []byte { return append(b, Pingreq<<4, 0) }

// AppendDisconnect appends a DISCONNECT with the reason code success, which discards
// the will.
func AppendDisconnect(b []byte) []byte { return append(b, Disconnect<<4, 0) }

// Answer is a decoded CONNACK.
type Answer struct {
	SessionPresent bool
	// Version is that of the answer: a server that does not support MQTT 5 refuses it
	// in the form of 3.1.1.
	Version byte
	// Code is a reason code of MQTT 5, or a return code of 3.1.1, by Version.
	Code byte
	// Reason is the reason string; "": none.
	Reason string
	// ReceiveMaximum and MaxPacket are 0 if there is none.
	ReceiveMaximum int
	MaxPacket      int
	// MaxQoS is the maximum QoS.
	MaxQoS byte
	// NoRetain is set if the server does not support retained messages.
	NoRetain bool
	// KeepAlive is the server's, in seconds; 0: that of the client is accepted.
	KeepAlive uint16
}

// DecodeConnack decodes the body of a CONNACK; version is that of the CONNECT.
func DecodeConnack(body []byte, version byte) (Answer, error) {
	s := scanner{rest: body}
	flags := s.readByte("connect acknowledge flags")
	a := Answer{SessionPresent: flags&1 != 0, Version: version, Code: s.readByte("reason code"), MaxQoS: 2}
	if version != V5 || s.err != nil {
		return a, s.checkEnd("CONNACK")
	}
	if len(s.rest) == 0 {
		a.Version = V311
		return a, nil
	}
	s.readServerProperties(func(v *value) {
		switch v.id {
		case propReasonString:
			a.Reason = string(v.bytes)
		case propReceiveMaximum:
			a.ReceiveMaximum = int(v.number)
		case propMaximumPacket:
			a.MaxPacket = int(v.number)
		case propMaximumQoS:
			a.MaxQoS = byte(v.number)
		case propRetainAvailable:
			a.NoRetain = v.number == 0
		case propServerKeepAlive:
			a.KeepAlive = uint16(v.number)
		}
	})
	return a, s.checkEnd("CONNACK")
}

// Delivery is a decoded PUBLISH from a server. Its slices refer to the body.
type Delivery struct {
	Retain   bool
	QoS      byte
	PacketID uint16
	Topic    []byte
	Payload  []byte
}

// DecodeDelivery decodes the body of a PUBLISH from a server. Properties are not
// decoded. A topic alias is an error, as the CONNECT allows none.
func DecodeDelivery(first byte, body []byte, version byte) (Delivery, error) {
	d := Delivery{Retain: first&FlagRetain != 0, QoS: first >> 1 & 3}
	s := scanner{rest: body}
	d.Topic = s.readBytes("topic name")
	if d.QoS == 3 {
		s.fail(malformed("QoS 3"))
	}
	if d.QoS > 0 {
		if d.PacketID = s.readUint16("packet identifier"); d.PacketID == 0 {
			s.fail(violation("packet identifier 0"))
		}
	}
	if version == V5 {
		s.next(s.readVarint("property length"), "properties")
	}
	if len(d.Topic) == 0 {
		s.fail(malformed("the topic name is empty"))
	}
	d.Payload = s.rest
	return d, s.err
}

// ServerAck is a decoded PUBACK, SUBACK or UNSUBACK from a server.
type ServerAck struct {
	PacketID uint16
	// Codes are the reason codes: one of PUBACK, one for each filter of SUBACK and, in
	// MQTT 5, of UNSUBACK. They refer to the body.
	Codes []byte
	// Reason is the reason string; "": none.
	Reason string
}

// success is the reason code of a PUBACK without one.
var success = []byte{Success}

// DecodeServerAck decodes the body of a PUBACK, SUBACK or UNSUBACK from a server.
func DecodeServerAck(kind byte, body []byte, version byte) (a ServerAck, err error) {
	s := scanner{rest: body}
	a.PacketID = s.readUint16("packet identifier")
	reason := func(v *value) {
		if v.id == propReasonString {
			a.Reason = string(v.bytes)
		}
	}
	if kind == Puback {
		a.Codes = success
		if version == V5 && len(s.rest) > 0 {
			a.Codes = s.next(1, "reason code")
			if len(s.rest) > 0 {
				s.readServerProperties(reason)
			}
		}
		return a, s.checkEnd("PUBACK")
	}
	if version == V5 {
		s.readServerProperties(reason)
	}
	a.Codes = s.rest
	return a, s.err
}

// DecodeServerDisconnect decodes the body of a DISCONNECT from a server.
func DecodeServerDisconnect(body []byte) (code byte, reason string, err error) {
	if len(body) == 0 {
		return Success, "", nil
	}
	s := scanner{rest: body}
	code = s.readByte("reason code")
	if len(s.rest) > 0 {
		s.readServerProperties(func(v *value) {
			if v.id == propReasonString {
				reason = string(v.bytes)
			}
		})
	}
	return code, reason, s.checkEnd("DISCONNECT")
}

// readServerProperties reads the properties of a packet from a server. A client must
// work with servers that exist: which packets may have a property, how often it may
// occur and its range are not checked.
func (s *scanner) readServerProperties(each func(*value)) {
	n := s.readVarint("property length")
	list := scanner{rest: s.next(n, "properties"), err: s.err}
	for list.err == nil && len(list.rest) > 0 {
		v := value{id: list.readByte("property")}
		if int(v.id) >= len(properties) || properties[v.id].encoding == 0 {
			list.fail(malformed("an unknown property"))
			break
		}
		p := &properties[v.id]
		switch p.encoding {
		case encodingText: // it is shown, quoted: it need not be valid UTF-8
			v.bytes = list.readBytes(p.name)
		case encodingPair:
			v.bytes, v.pairValue = list.readBytes(p.name), list.readBytes(p.name)
		default:
			list.readValue(&v, p)
		}
		if list.err == nil {
			each(&v)
		}
	}
	if list.err != nil {
		s.fail(list.err)
	}
}
