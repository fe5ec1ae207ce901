package wire

// The identifiers of the properties of MQTT 5 (2.2.2.2).
const (
	propPayloadFormat       byte = 1
	propMessageExpiry       byte = 2
	propContentType         byte = 3
	propResponseTopic       byte = 8
	propCorrelation         byte = 9
	propSubscriptionID      byte = 11
	propSessionExpiry       byte = 17
	propAssignedClientID    byte = 18
	propServerKeepAlive     byte = 19
	propAuthMethod          byte = 21
	propAuthData            byte = 22
	propRequestProblemInfo  byte = 23
	propWillDelay           byte = 24
	propRequestResponseInfo byte = 25
	propResponseInfo        byte = 26
	propServerReference     byte = 28
	propReasonString        byte = 31
	propReceiveMaximum      byte = 33
	propAliasMaximum        byte = 34
	propTopicAlias          byte = 35
	propMaximumQoS          byte = 36
	propRetainAvailable     byte = 37
	propUser                byte = 38
	propMaximumPacket       byte = 39
	propWildcardAvailable   byte = 40
	propIDsAvailable        byte = 41
	propSharedAvailable     byte = 42
)

// encoding is the type of a property's value (MQTT 5.0, 1.5).
type encoding byte

const (
	encodingByte encoding = iota + 1
	encodingUint16
	encodingUint32
	encodingVarint
	encodingBytes
	encodingText
	encodingPair
)

// inPackets returns a set of packet types.
func inPackets(kinds ...byte) (set uint32) {
	for _, k := range kinds {
		set |= 1 << k
	}
	return set
}

// property describes the encoding of a property and the packets from a client that may
// have it: none, if only servers send it.
type property struct {
	encoding encoding
	packets  uint32
	name     string
}

// properties is indexed by property identifier.
var properties = [...]property{
	propPayloadFormat:       {encodingByte, inPackets(PublishType, willProperties), "payload format indicator"},
	propMessageExpiry:       {encodingUint32, inPackets(PublishType, willProperties), "message expiry interval"},
	propContentType:         {encodingText, inPackets(PublishType, willProperties), "content type"},
	propResponseTopic:       {encodingText, inPackets(PublishType, willProperties), "response topic"},
	propCorrelation:         {encodingBytes, inPackets(PublishType, willProperties), "correlation data"},
	propSubscriptionID:      {encodingVarint, inPackets(Subscribe), "subscription identifier"},
	propSessionExpiry:       {encodingUint32, inPackets(Connect, Disconnect), "session expiry interval"},
	propAuthMethod:          {encodingText, inPackets(Connect, Auth), "authentication method"},
	propAuthData:            {encodingBytes, inPackets(Connect, Auth), "authentication data"},
	propRequestProblemInfo:  {encodingByte, inPackets(Connect), "request problem information"},
	propWillDelay:           {encodingUint32, inPackets(willProperties), "will delay interval"},
	propRequestResponseInfo: {encodingByte, inPackets(Connect), "request response information"},
	propReasonString:        {encodingText, inPackets(Puback, Pubrec, Pubrel, Pubcomp, Disconnect, Auth), "reason string"},
	propReceiveMaximum:      {encodingUint16, inPackets(Connect), "receive maximum"},
	propAliasMaximum:        {encodingUint16, inPackets(Connect), "topic alias maximum"},
	propTopicAlias:          {encodingUint16, inPackets(PublishType), "topic alias"},
	propUser: {encodingPair, inPackets(Connect, PublishType, willProperties, Puback, Pubrec, Pubrel, Pubcomp,
		Subscribe, Unsubscribe, Disconnect, Auth), "user property"},
	propMaximumPacket: {encodingUint32, inPackets(Connect), "maximum packet size"},

	propAssignedClientID:  {encodingText, 0, "assigned client identifier"},
	propServerKeepAlive:   {encodingUint16, 0, "server keep alive"},
	propResponseInfo:      {encodingText, 0, "response information"},
	propServerReference:   {encodingText, 0, "server reference"},
	propMaximumQoS:        {encodingByte, 0, "maximum QoS"},
	propRetainAvailable:   {encodingByte, 0, "retain available"},
	propWildcardAvailable: {encodingByte, 0, "wildcard subscription available"},
	propIDsAvailable:      {encodingByte, 0, "subscription identifiers available"},
	propSharedAvailable:   {encodingByte, 0, "shared subscription available"},
}

// value is one property of a packet.
type value struct {
	id     byte
	number uint32
	// bytes is a text, binary data, or the name of a pair.
	bytes []byte
	// pairValue is the value of a pair.
	pairValue []byte
	// raw is the whole property with its identifier, as it was encoded.
	raw []byte
}

// readProperties reads the properties of a packet and calls each, if it is not nil. A
// property that does not belong to the packet, occurs twice or is out of range is an
// error.
func (s *scanner) readProperties(kind byte, each func(*value)) {
	n := s.readVarint("property length")
	list := scanner{rest: s.next(n, "properties"), err: s.err}
	var present uint64
	for list.err == nil && len(list.rest) > 0 {
		before := list.rest
		v := value{id: list.readByte("property")}
		if int(v.id) >= len(properties) || properties[v.id].packets&(1<<kind) == 0 {
			list.fail(misplacedProperty(v.id, kind))
			break
		}
		p := &properties[v.id]
		if p.encoding != encodingPair {
			if present&(1<<v.id) != 0 {
				list.fail(violation(p.name + " occurs twice"))
				break
			}
			present |= 1 << v.id
		}
		list.readValue(&v, p)
		if list.err != nil {
			break
		}
		if err := v.check(); err != nil {
			list.fail(err)
			break
		}
		v.raw = before[:len(before)-len(list.rest)]
		if each != nil {
			each(&v)
		}
	}
	if list.err == nil && present&(1<<propAuthData) != 0 && present&(1<<propAuthMethod) == 0 {
		list.fail(violation("authentication data without a method"))
	}
	if list.err != nil {
		s.fail(list.err)
	}
}

// readValue reads the value of a property.
func (s *scanner) readValue(v *value, p *property) {
	switch p.encoding {
	case encodingByte:
		v.number = uint32(s.readByte(p.name))
	case encodingUint16:
		v.number = uint32(s.readUint16(p.name))
	case encodingUint32:
		v.number = s.readUint32(p.name)
	case encodingVarint:
		v.number = uint32(s.readVarint(p.name))
	case encodingBytes:
		v.bytes = s.readBytes(p.name)
	case encodingText:
		v.bytes = s.readText(p.name)
	case encodingPair:
		v.bytes, v.pairValue = s.readText(p.name), s.readText(p.name)
	}
}

// misplacedProperty returns the error for a property that a packet may not have. A
// subscription identifier is a protocol error; others cannot be decoded.
func misplacedProperty(id, kind byte) error {
	if kind == PublishType && id == propSubscriptionID {
		return violation("a subscription identifier from a client") // [MQTT-3.3.4-6]
	}
	return malformed("a property that this packet type does not have")
}

// check checks the range of a value.
func (v *value) check() error {
	switch v.id {
	case propPayloadFormat, propRequestProblemInfo, propRequestResponseInfo:
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
			return violation("the response topic is not a valid topic name") // [MQTT-3.3.2-14]
		}
	}
	return nil
}
