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

// DecodeAck decodes the body of an acknowledgement from a client. Reason string and
// user properties are checked and discarded: they are meant for this connection only.
func DecodeAck(kind byte, body []byte, version byte) (Ack, error) {
	s := scanner{rest: body}
	a := Ack{PacketID: s.readUint16("packet identifier")}
	if s.err == nil && a.PacketID == 0 {
		return a, violation("packet identifier 0")
	}
	if version == V5 && len(s.rest) > 0 {
		a.Code = s.readByte("reason code")
		if len(s.rest) > 0 {
			s.readProperties(kind, nil)
		}
		if s.err == nil && !slices.Contains(ackCodes(kind), a.Code) {
			return a, violation("a reason code that this packet type does not have") // [MQTT-3.4.2-1, -3.5.2-1, -3.6.2-1, -3.7.2-1]
		}
	}
	return a, s.checkEnd("packet")
}

var (
	receiptCodes = []byte{
		Success, NoMatchingSubscribers, Unspecified, ImplementationSpecific, NotAuthorized, TopicNameInvalid,
		PacketIdentifierInUse, QuotaExceeded, PayloadFormatInvalid,
	}
	releaseCodes = []byte{Success, PacketIdentifierNotFound}
)

// ackCodes returns the reason codes that an acknowledgement may have.
func ackCodes(kind byte) []byte {
	if kind == Puback || kind == Pubrec {
		return receiptCodes
	}
	return releaseCodes
}

// AppendAck appends an acknowledgement in its shortest form.
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
