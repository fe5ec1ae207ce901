package wire

import "encoding/binary"

// Publish is a decoded PUBLISH. Its slices refer to the body.
type Publish struct {
	Dup, Retain bool
	QoS         byte
	PacketID    uint16
	// Topic is empty if Alias replaces it.
	Topic []byte
	// Alias is the topic alias; 0: none.
	Alias     uint16
	HasExpiry bool
	// Expiry is the message expiry interval in seconds.
	Expiry uint32
	// Forward holds, as they were encoded, the properties that subscribers get
	// unaltered and in order [MQTT-3.3.2-4, -15, -16, -17, -18, -20].
	Forward    []byte
	Properties Properties
	Payload    []byte
}

// Properties are the decoded properties in Publish.Forward.
type Properties struct {
	HasPayloadFormat bool
	PayloadFormat    byte
	HasContentType   bool
	ContentType      []byte
	ResponseTopic    []byte
	// Correlation is nil if there is none.
	Correlation []byte
	User        []Pair
}

// Pair is a user property.
type Pair struct{ Name, Value []byte }

// Decode decodes the body of a PUBLISH. first is the first byte of the frame, which
// CheckFirst has checked.
func (p *Publish) Decode(first byte, body []byte, version byte) error {
	*p = Publish{Dup: first&FlagDup != 0, Retain: first&FlagRetain != 0, QoS: first >> 1 & 3}
	s := scanner{rest: body}
	p.Topic = s.readText("topic name")
	for _, c := range p.Topic {
		if c == '+' || c == '#' {
			return malformed("wildcards in a topic name") // [MQTT-3.3.2-2]
		}
	}
	if p.QoS > 0 {
		if p.PacketID = s.readUint16("packet identifier"); p.PacketID == 0 && s.err == nil {
			return violation("packet identifier 0") // [MQTT-2.2.1-3; MQTT 3.1.1: MQTT-2.3.1-1]
		}
	}
	if version == V5 {
		p.readProperties(&s)
	}
	if s.err != nil {
		return s.err
	}
	if len(p.Topic) == 0 && p.Alias == 0 {
		if version == V5 {
			return violation("neither topic name nor alias")
		}
		return malformed("the topic name is empty") // [MQTT 3.1.1: MQTT-4.7.3-1]
	}
	p.Payload = s.rest
	return nil
}

// readProperties reads the properties. Forward refers to the body as long as the
// properties in it are contiguous; after a gap it is a copy.
func (p *Publish) readProperties(s *scanner) {
	if len(s.rest) > 0 && s.rest[0] == 0 {
		s.rest = s.rest[1:]
		return
	}
	gap := false // something between was left out: what follows is copied
	s.readProperties(PublishType, func(v *value) {
		switch v.id {
		case propMessageExpiry:
			p.HasExpiry, p.Expiry = true, v.number
		case propTopicAlias:
			p.Alias = uint16(v.number)
		default:
			p.Properties.set(v)
			switch n := len(p.Forward); {
			case n == 0:
				p.Forward, gap = v.raw, false
			case gap:
				p.Forward = append(p.Forward[:n:n], v.raw...)
			default:
				p.Forward = p.Forward[:n+len(v.raw)] // contiguous
			}
			return
		}
		gap = true
	})
}

// set sets the field of a property.
func (p *Properties) set(v *value) {
	switch v.id {
	case propPayloadFormat:
		p.HasPayloadFormat, p.PayloadFormat = true, byte(v.number)
	case propContentType:
		p.HasContentType, p.ContentType = true, v.bytes
	case propResponseTopic:
		p.ResponseTopic = v.bytes
	case propCorrelation:
		p.Correlation = v.bytes
	case propUser:
		p.User = append(p.User, Pair{v.bytes, v.pairValue})
	}
}

// Append appends the properties, encoded as in Publish.Forward.
func (p *Properties) Append(b []byte) []byte {
	if p.HasPayloadFormat {
		b = append(b, propPayloadFormat, p.PayloadFormat)
	}
	if p.HasContentType {
		b = appendText(append(b, propContentType), p.ContentType)
	}
	if len(p.ResponseTopic) > 0 {
		b = appendText(append(b, propResponseTopic), p.ResponseTopic)
	}
	if p.Correlation != nil {
		b = appendText(append(b, propCorrelation), p.Correlation)
	}
	for _, u := range p.User {
		b = appendText(appendText(append(b, propUser), u.Name), u.Value)
	}
	return b
}

// appendText appends a text, or binary data, with its length.
func appendText(b, text []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
	return append(b, text...)
}

// Outgoing is a PUBLISH to be encoded.
type Outgoing struct {
	// Flags are DUP, QoS and RETAIN, as in the first byte of the frame.
	Flags     byte
	PacketID  uint16
	Topic     string
	HasExpiry bool
	Expiry    uint32
	// Alias is the topic alias; 0: none.
	Alias uint16
	// OmitTopic is set if the alias replaces the topic.
	OmitTopic   bool
	Identifiers []uint32
	Forward     []byte
	// Payload is the size of the payload, which the caller appends.
	Payload int
}

// Append appends everything but the payload.
func (o *Outgoing) Append(b []byte, version byte) []byte {
	remaining, properties := o.sizes(version)
	b = append(b, PublishType<<4|o.Flags)
	b = appendVarint(b, remaining)
	topic := o.Topic
	if o.OmitTopic {
		topic = ""
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(topic)))
	b = append(b, topic...)
	if o.Flags&6 != 0 {
		b = binary.BigEndian.AppendUint16(b, o.PacketID)
	}
	if version != V5 {
		return b
	}
	b = appendVarint(b, properties)
	if o.HasExpiry {
		b = binary.BigEndian.AppendUint32(append(b, propMessageExpiry), o.Expiry)
	}
	for _, id := range o.Identifiers {
		b = appendVarint(append(b, propSubscriptionID), int(id))
	}
	if o.Alias != 0 {
		b = binary.BigEndian.AppendUint16(append(b, propTopicAlias), o.Alias)
	}
	return append(b, o.Forward...)
}

// sizes returns the remaining length and the length of the properties.
func (o *Outgoing) sizes(version byte) (remaining, properties int) {
	remaining = 2 + o.Payload
	if !o.OmitTopic {
		remaining += len(o.Topic)
	}
	if o.Flags&6 != 0 {
		remaining += 2
	}
	if version != V5 {
		return remaining, 0
	}
	properties = len(o.Forward)
	if o.HasExpiry {
		properties += 5
	}
	for _, id := range o.Identifiers {
		properties += 1 + varintLen(int(id))
	}
	if o.Alias != 0 {
		properties += 3
	}
	return remaining + varintLen(properties) + properties, properties
}

// Size returns the size of the packet in bytes, with its payload.
func (o *Outgoing) Size(version byte) int {
	remaining, _ := o.sizes(version)
	return 1 + varintLen(remaining) + remaining
}
