package wire

import "fmt"

// reasonNames are the names of the reason codes of 0x80 and above (MQTT 5.0, 2.4).
var reasonNames = [...]string{
	0x00: "unspecified error", 0x01: "malformed packet", 0x02: "protocol error", 0x03: "implementation specific error",
	0x04: "unsupported protocol version", 0x05: "client identifier not valid", 0x06: "bad user name or password",
	0x07: "not authorized", 0x08: "server unavailable", 0x09: "server busy", 0x0A: "banned", 0x0B: "server shutting down",
	0x0C: "bad authentication method", 0x0D: "keep alive timeout", 0x0E: "session taken over", 0x0F: "topic filter invalid",
	0x10: "topic name invalid", 0x11: "packet identifier in use", 0x12: "packet identifier not found",
	0x13: "receive maximum exceeded", 0x14: "topic alias invalid", 0x15: "packet too large", 0x16: "message rate too high",
	0x17: "quota exceeded", 0x18: "administrative action", 0x19: "payload format invalid", 0x1A: "retain not supported",
	0x1B: "QoS not supported", 0x1C: "use another server", 0x1D: "server moved", 0x1E: "shared subscriptions not supported",
	0x1F: "connection rate exceeded", 0x20: "maximum connect time", 0x21: "subscription identifiers not supported",
	0x22: "wildcard subscriptions not supported",
}

// DescribeReason returns a reason code of MQTT 5 as text, such as "not authorized
// (0x87)", followed by the reason string of its packet if there is one.
func DescribeReason(code byte, reason string) string {
	name := "reason"
	if code == Success {
		name = "normal disconnection"
	} else if i := int(code) - 0x80; i >= 0 && i < len(reasonNames) {
		name = reasonNames[i]
	}
	text := fmt.Sprintf("%s (0x%02X)", name, code)
	if reason != "" {
		text += fmt.Sprintf(": %.200q", reason)
	}
	return text
}
