package wire

import (
	"encoding/binary"
	"slices"
)

// Ack is a PUBACK, PUBREC, PUBREL or PUBCOMP.
type Ack struct {
	PacketID uint16
	Code     byte
}

// DecodeAck decodes the body of one that a client sent. Reason strings and user
// properties are checked and left behind: they are for this connection alone.
func DecodeAck(kind byte, body []byte, version byte) (Ack, error) {
	s := scanner{rest: body}
	a := Ack{PacketID: s.uint16("packet identifier")}
	if s.err == nil && a.PacketID == 0 {
		return a, violation("packet identifier 0")
	}
	if version == V5 && len(s.rest) > 0 {
		a.Code = s.byte("reason code")
		if len(s.rest) > 0 {
			s.properties(kind, nil)
		}
		if s.err == nil && !slices.Contains(ackCodes(kind), a.Code) {
			return a, violation("a reason code that the packet does not have") // [MQTT-3.4.2-1, -3.5.2-1, -3.6.2-1, -3.7.2-1]
		}
	}
	return a, s.end("packet")
}

var (
	receiptCodes = []byte{
		Success, NoMatchingSubscribers, Unspecified, ImplementationSpecific, NotAuthorized, TopicNameInvalid,
		PacketIdentifierInUse, QuotaExceeded, PayloadFormatInvalid,
	}
	releaseCodes = []byte{Success, PacketIdentifierNotFound}
)

func ackCodes(kind byte) []byte {
	if kind == Puback || kind == Pubrec {
		return receiptCodes
	}
	return releaseCodes
}

// AppendAck encodes an acknowledgement, in its shortest form.
func AppendAck(b []byte, kind byte, a Ack, version byte) []byte {
	first := kind << 4
	if kind == Pubrel {
		first |= 2
	}
	if version == V5 && a.Code != Success {
		b = append(b, first, 3)
		return append(binary.BigEndian.AppendUint16(b, a.PacketID), a.Code)
	}
	return binary.BigEndian.AppendUint16(append(b, first, 2), a.PacketID)
}
