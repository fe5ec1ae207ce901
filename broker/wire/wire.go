// Package wire encodes and decodes MQTT 3.1, 3.1.1 and 5.0: frames, packets, topic
// names and filters.
//
// What comes from a client is checked strictly: no malformed packet passes, and each
// error carries the reason code that MQTT 5 has for it. What comes from a server is
// checked as far as a client needs it. The package knows nothing of sessions, keeps no
// state, does no I/O and imports the standard library alone. It is imported by the
// engine, the clients of this module, and tests that speak MQTT by hand.
//
// # Files
//
//	ack.go              acknowledgements
//	client.go           packets of a client
//	control_packets.go  CONNECT, SUBSCRIBE and other control packets of a server
//	properties.go       properties: identifiers, types, where they may be
//	publish.go          PUBLISH
//	reasons.go          reason codes in words
//	scanner.go          reading fields of a packet
//	topic.go            valid topics and filters, matching
//	wire.go             frames, packet types, reason codes, errors
package wire

import "fmt"

// Packet types (MQTT 5.0, 2.1.2).
const (
	Connect     byte = 1
	Connack     byte = 2
	PublishType byte = 3
	Puback      byte = 4
	Pubrec      byte = 5
	Pubrel      byte = 6
	Pubcomp     byte = 7
	Subscribe   byte = 8
	Suback      byte = 9
	Unsubscribe byte = 10
	Unsuback    byte = 11
	Pingreq     byte = 12
	Pingresp    byte = 13
	Disconnect  byte = 14
	Auth        byte = 15
)

// willProperties stands for the properties of a will in the table, as a packet type: a
// will is part of CONNECT but has properties of its own.
const willProperties byte = 16

// Protocol levels.
const (
	V31  byte = 3
	V311 byte = 4
	V5   byte = 5
)

// The flags of a PUBLISH in the first byte of its frame.
const (
	FlagRetain byte = 1
	FlagDup    byte = 8
)

// The options of a subscription, beside its QoS (MQTT 5.0, 3.8.3.1).
const (
	NoLocal           byte = 1 << 2
	RetainAsPublished byte = 1 << 3
)

// MaxRemaining is the maximum remaining length of a frame.
const MaxRemaining = 268435455

// Reason codes (MQTT 5.0, 2.4).
const (
	Success                  byte = 0x00
	DisconnectWithWill       byte = 0x04
	NoMatchingSubscribers    byte = 0x10
	NoSubscriptionExisted    byte = 0x11
	Unspecified              byte = 0x80
	MalformedPacket          byte = 0x81
	ProtocolError            byte = 0x82
	ImplementationSpecific   byte = 0x83
	UnsupportedVersion       byte = 0x84
	ClientIdentifierNotValid byte = 0x85
	BadUserNameOrPassword    byte = 0x86
	NotAuthorized            byte = 0x87
	ServerUnavailable        byte = 0x88
	ServerBusy               byte = 0x89
	Banned                   byte = 0x8A
	ServerShuttingDown       byte = 0x8B
	BadAuthenticationMethod  byte = 0x8C
	KeepAliveTimeout         byte = 0x8D
	SessionTakenOver         byte = 0x8E
	TopicFilterInvalid       byte = 0x8F
	TopicNameInvalid         byte = 0x90
	PacketIdentifierInUse    byte = 0x91
	PacketIdentifierNotFound byte = 0x92
	ReceiveMaximumExceeded   byte = 0x93
	TopicAliasInvalid        byte = 0x94
	PacketTooLarge           byte = 0x95
	MessageRateTooHigh       byte = 0x96
	QuotaExceeded            byte = 0x97
	AdministrativeAction     byte = 0x98
	PayloadFormatInvalid     byte = 0x99
	RetainNotSupported       byte = 0x9A
	QoSNotSupported          byte = 0x9B
	ConnectionRateExceeded   byte = 0x9F
)

// Error is an error of a packet. Code is the reason code that an MQTT 5 server sends
// before it closes the connection; in earlier versions it only closes it.
type Error struct {
	Code   byte
	Reason string
}

func (e *Error) Error() string { return fmt.Sprintf("%s (0x%02X)", e.Reason, e.Code) }

// malformed returns the error for a packet that cannot be decoded.
func malformed(reason string) *Error { return &Error{MalformedPacket, "malformed packet: " + reason} }

// violation returns the error for a packet that breaks a rule of the protocol.
func violation(reason string) *Error { return &Error{ProtocolError, "protocol error: " + reason} }

// Frame finds the frame at the beginning of b: its first byte, and where its body
// begins and ends. more is true if b does not contain the whole fixed header; end may
// be beyond b.
func Frame(b []byte) (first byte, start, end int, more bool, err error) {
	if len(b) == 0 {
		return 0, 0, 0, true, nil
	}
	remaining, n, ok, fault := varint(b[1:])
	if fault != nil {
		return b[0], 0, 0, false, fault
	}
	if !ok {
		return b[0], 0, 0, true, nil
	}
	return b[0], 1 + n, 1 + n + remaining, false, nil
}

// CheckFirst checks type and flags of a packet from a client [MQTT-2.1.3-1; MQTT
// 3.1.1: MQTT-2.2.2-2].
func CheckFirst(first, version byte) error {
	flags := first & 0xf
	switch kind := first >> 4; kind {
	case PublishType:
		if flags>>1&3 == 3 {
			return malformed("QoS 3") // [MQTT-3.3.1-4]
		}
		if flags>>1&3 == 0 && flags&FlagDup != 0 {
			return malformed("DUP with QoS 0") // [MQTT-3.3.1-2]
		}
		return nil
	case Pubrel, Subscribe, Unsubscribe:
		// MQTT 3.1 has DUP and QoS there, and some clients set DUP.
		if flags != 2 && version != V31 {
			return malformed("reserved flags") // [MQTT-3.6.1-1, -3.8.1-1, -3.10.1-1]
		}
		return nil
	case Connect, Puback, Pubrec, Pubcomp, Pingreq, Disconnect:
	case Auth:
		if version != V5 {
			return malformed("AUTH exists only in MQTT 5")
		}
	case 0:
		return malformed("packet type 0")
	default:
		return violation("a packet that only a server sends")
	}
	if flags != 0 {
		return malformed("reserved flags")
	}
	return nil
}

// varint decodes a variable byte integer; ok is false if b ends within it. It must
// have its shortest form [MQTT-1.5.5-1].
func varint(b []byte) (value, n int, ok bool, err error) {
	for n < 4 {
		if n == len(b) {
			return 0, 0, false, nil
		}
		c := b[n]
		value |= int(c&0x7f) << (7 * n)
		n++
		if c < 0x80 {
			if c == 0 && n > 1 {
				return 0, 0, false, malformed("a variable byte integer is not in its shortest form")
			}
			return value, n, true, nil
		}
	}
	return 0, 0, false, malformed("a variable byte integer of more than four bytes")
}

// appendVarint appends a variable byte integer.
func appendVarint(b []byte, v int) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// varintLen returns the length of a variable byte integer.
func varintLen(v int) int {
	switch {
	case v < 1<<7:
		return 1
	case v < 1<<14:
		return 2
	case v < 1<<21:
		return 3
	}
	return 4
}
