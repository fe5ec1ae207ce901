package wire

// The properties of MQTT 5 (2.2.2.2).
const (
	propPayloadFormat    byte = 1
	propMessageExpiry    byte = 2
	propContentType      byte = 3
	propResponseTopic    byte = 8
	propCorrelation      byte = 9
	propSubscriptionID   byte = 11
	propSessionExpiry    byte = 17
	propAuthMethod       byte = 21
	propAuthData         byte = 22
	propProblemInfo      byte = 23
	propWillDelay        byte = 24
	propResponseInfoWish byte = 25
	propReasonString     byte = 31
	propReceiveMaximum   byte = 33
	propAliasMaximum     byte = 34
	propTopicAlias       byte = 35
	propUser             byte = 38
	propMaximumPacket    byte = 39
)

type shape byte

const (
	shapeByte shape = iota + 1
	shapeUint16
	shapeUint32
	shapeVarint
	shapeBytes
	shapeText
	shapePair
)

func in(kinds ...byte) (set uint32) {
	for _, k := range kinds {
		set |= 1 << k
	}
	return set
}

// property says how a property is written and which packets of a client may
// have it. What only servers send is absent, and so refused.
type property struct {
	shape shape
	in    uint32
	name  string
}

var properties = [...]property{
	propPayloadFormat:    {shapeByte, in(PublishType, will), "payload format indicator"},
	propMessageExpiry:    {shapeUint32, in(PublishType, will), "message expiry interval"},
	propContentType:      {shapeText, in(PublishType, will), "content type"},
	propResponseTopic:    {shapeText, in(PublishType, will), "response topic"},
	propCorrelation:      {shapeBytes, in(PublishType, will), "correlation data"},
	propSubscriptionID:   {shapeVarint, in(Subscribe), "subscription identifier"},
	propSessionExpiry:    {shapeUint32, in(Connect, Disconnect), "session expiry interval"},
	propAuthMethod:       {shapeText, in(Connect, Auth), "authentication method"},
	propAuthData:         {shapeBytes, in(Connect, Auth), "authentication data"},
	propProblemInfo:      {shapeByte, in(Connect), "request problem information"},
	propWillDelay:        {shapeUint32, in(will), "will delay interval"},
	propResponseInfoWish: {shapeByte, in(Connect), "request response information"},
	propReasonString:     {shapeText, in(Puback, Pubrec, Pubrel, Pubcomp, Disconnect, Auth), "reason string"},
	propReceiveMaximum:   {shapeUint16, in(Connect), "receive maximum"},
	propAliasMaximum:     {shapeUint16, in(Connect), "topic alias maximum"},
	propTopicAlias:       {shapeUint16, in(PublishType), "topic alias"},
	propUser: {shapePair, in(Connect, PublishType, will, Puback, Pubrec, Pubrel, Pubcomp,
		Subscribe, Unsubscribe, Disconnect, Auth), "user property"},
	propMaximumPacket: {shapeUint32, in(Connect), "maximum packet size"},
}

// value is one property as it is in a packet.
type value struct {
	id     byte
	number uint32
	bytes  []byte // of a text, of binary data, or the name of a pair
	second []byte // the value of a pair
	raw    []byte // all of it, with its identifier
}

// properties reads the properties of a packet and hands each to see, if that
// is not nil. It refuses what does not belong, comes twice or is out of range.
func (s *scanner) properties(kind byte, see func(*value)) {
	n := s.varint("property length")
	all := scanner{rest: s.take(n, "properties"), err: s.err}
	var seen uint64
	for all.err == nil && len(all.rest) > 0 {
		before := all.rest
		v := value{id: all.byte("property")}
		if int(v.id) >= len(properties) || properties[v.id].in&(1<<kind) == 0 {
			all.fail(misplaced(v.id, kind))
			break
		}
		p := &properties[v.id]
		if p.shape != shapePair {
			if seen&(1<<v.id) != 0 {
				all.fail(violation(p.name + " twice"))
				break
			}
			seen |= 1 << v.id
		}
		switch p.shape {
		case shapeByte:
			v.number = uint32(all.byte(p.name))
		case shapeUint16:
			v.number = uint32(all.uint16(p.name))
		case shapeUint32:
			v.number = all.uint32(p.name)
		case shapeVarint:
			v.number = uint32(all.varint(p.name))
		case shapeBytes:
			v.bytes = all.bytes(p.name)
		case shapeText:
			v.bytes = all.text(p.name)
		case shapePair:
			v.bytes, v.second = all.text(p.name), all.text(p.name)
		}
		if all.err != nil {
			break
		}
		if err := v.check(); err != nil {
			all.fail(err)
			break
		}
		v.raw = before[:len(before)-len(all.rest)]
		if see != nil {
			see(&v)
		}
	}
	if all.err == nil && seen&(1<<propAuthData) != 0 && seen&(1<<propAuthMethod) == 0 {
		all.fail(violation("authentication data without a method"))
	}
	if all.err != nil {
		s.fail(all.err)
	}
}

// misplaced is the fault of a property that does not belong to a packet: one
// that MQTT has somewhere is a protocol error, others cannot be read at all.
func misplaced(id, kind byte) error {
	if kind == PublishType && id == propSubscriptionID {
		return violation("a subscription identifier from a client") // [MQTT-3.3.4-6]
	}
	return malformed("a property that does not belong to the packet")
}

func (v *value) check() error {
	switch v.id {
	case propPayloadFormat, propProblemInfo, propResponseInfoWish:
		if v.number > 1 {
			return violation(properties[v.id].name + " is neither 0 nor 1")
		}
	case propReceiveMaximum, propMaximumPacket, propSubscriptionID:
		if v.number == 0 {
			return violation(properties[v.id].name + " is 0")
		}
	case propTopicAlias:
		if v.number == 0 {
			return &Error{TopicAliasInvalid, "topic alias 0"} // [MQTT-3.3.2-8]
		}
	case propResponseTopic:
		if !ValidTopic(string(v.bytes)) {
			return violation("the response topic is no topic name") // [MQTT-3.3.2-14]
		}
	}
	return nil
}
