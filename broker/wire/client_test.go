package wire

import (
	"bytes"
	"fmt"
	"testing"
)

// What a client encodes, a server decodes.
func TestPacketsOfAClient(t *testing.T) {
	r := Request{
		Version: V5, CleanStart: true, KeepAlive: 5, SessionExpiry: NeverExpires, ReceiveMaximum: 100, ClientID: "c",
		HasWill: true, WillTopic: "w", WillPayload: []byte("gone"), WillQoS: 1, WillRetain: true, User: "u", Password: "p",
	}
	for _, version := range []byte{V5, V311} {
		r.Version = version
		b, err := r.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		pk, err := Decode(b[0], body(t, b), 0)
		c := pk.Connect
		if err != nil || pk.ProtocolVersion != version || !c.Clean || c.Keepalive != 5 || c.ClientIdentifier != "c" || !c.WillFlag || !c.WillRetain ||
			c.WillQos != 1 || c.WillTopic != "w" || string(c.WillPayload) != "gone" || string(c.Username) != "u" || string(c.Password) != "p" {
			t.Errorf("version %d: %+v, %v", version, pk, err)
		}
		if v5 := version == V5; v5 != (pk.Properties.SessionExpiryInterval == NeverExpires) || v5 != (pk.Properties.ReceiveMaximum == 100) {
			t.Errorf("version %d: %+v", version, pk.Properties)
		}
		b = AppendSubscribe(nil, 7, "a/#", 1, version)
		if pk, err := Decode(b[0], body(t, b), version); err != nil || pk.PacketID != 7 || fmt.Sprint(pk.Filters) != "[{a/# 1 false false 0 0}]" {
			t.Errorf("version %d: %+v, %v", version, pk, err)
		}
		b = AppendUnsubscribe(nil, 8, []string{"a", "b"}, version)
		if pk, err := Decode(b[0], body(t, b), version); err != nil || pk.PacketID != 8 || len(pk.Filters) != 2 || pk.Filters[1].Filter != "b" {
			t.Errorf("version %d: %+v, %v", version, pk, err)
		}
		for _, b := range [][]byte{AppendPingreq(nil), AppendDisconnect(nil)} {
			if pk, err := Decode(b[0], body(t, b), version); err != nil || pk.ReasonCode != Success {
				t.Errorf("version %d: %+v, %v", version, pk, err)
			}
		}
	}
	b := AppendSubscribe(nil, 7, "a", 1|NoLocal|RetainAsPublished, V5)
	if pk, err := Decode(b[0], body(t, b), V5); err != nil || !pk.Filters[0].NoLocal || !pk.Filters[0].RetainAsPublished {
		t.Errorf("%+v, %v", pk, err)
	}
}

// body returns the body of the only frame in b.
func body(t *testing.T, b []byte) []byte {
	t.Helper()
	first, start, end, more, err := Frame(b)
	if err != nil || more || end != len(b) {
		t.Fatalf("% x is not one frame: %v", b, err)
	}
	if err := CheckFirst(first, V5); err != nil && first>>4 != Connack && first>>4 != Suback && first>>4 != Unsuback {
		t.Fatal(err)
	}
	return b[start:end]
}

// What a server encodes, a client decodes, and it has the form that the standard gives.
func TestPacketsOfAServer(t *testing.T) {
	connack := Packet{ProtocolVersion: V5, SessionPresent: true, ReasonCode: ServerBusy}
	connack.Properties = ControlProperties{
		SessionExpiryIntervalFlag: true, SessionExpiryInterval: 60, AssignedClientID: "x", ServerKeepAliveFlag: true, ServerKeepAlive: 30,
		ReasonString: "later", ReceiveMaximum: 20, TopicAliasMaximum: 10, MaximumPacketSize: 4096,
	}
	for _, c := range []struct {
		kind byte
		pk   Packet
		want string
	}{
		{Connack, connack, "\x20\x22\x01\x89\x1f\x11\x00\x00\x00\x3c\x12\x00\x01x\x13\x00\x1e\x1f\x00\x05later\x21\x00\x14\x22\x00\x0a\x27\x00\x00\x10\x00"},
		{Connack, Packet{ProtocolVersion: V311, ReasonCode: 5}, "\x20\x02\x00\x05"},
		{Suback, Packet{ProtocolVersion: V5, PacketID: 7, ReasonCodes: []byte{1, 0x87}}, "\x90\x05\x00\x07\x00\x01\x87"},
		{Suback, Packet{ProtocolVersion: V311, PacketID: 7, ReasonCodes: []byte{1, 0x80}}, "\x90\x04\x00\x07\x01\x80"},
		{Unsuback, Packet{ProtocolVersion: V5, PacketID: 7, ReasonCodes: []byte{0x11}}, "\xb0\x04\x00\x07\x00\x11"},
		{Unsuback, Packet{ProtocolVersion: V311, PacketID: 7, ReasonCodes: []byte{0x11}}, "\xb0\x02\x00\x07"},
		{Pingresp, Packet{ProtocolVersion: V5}, "\xd0\x00"},
		{Disconnect, Packet{ProtocolVersion: V5, ReasonCode: SessionTakenOver, Properties: ControlProperties{ReasonString: "no", SessionExpiryIntervalFlag: true}}, "\xe0\x07\x8e\x05\x1f\x00\x02no"},
	} {
		got, err := Append([]byte{0xAA}, c.kind, c.pk)
		if err != nil || string(got) != "\xaa"+c.want {
			t.Errorf("type %d: % x, %v, want % x", c.kind, got, err, c.want)
		}
	}
	raw, _ := Append(nil, Connack, connack)
	a, err := DecodeConnack(body(t, raw), V5)
	if want := (Answer{SessionPresent: true, Version: V5, Code: ServerBusy, Reason: "later", ReceiveMaximum: 20, MaxPacket: 4096, MaxQoS: 2, KeepAlive: 30}); err != nil || a != want {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := Append(nil, Connect, Packet{}); err == nil {
		t.Error("a CONNECT from a server is encoded")
	}
}

// What comes from a server is decoded as it is, also where the standard does not allow
// it but nothing depends on it.
func TestDecodeFromServer(t *testing.T) {
	for _, c := range []struct {
		kind, version byte
		body          string
		want          string // "": an error
	}{
		{Puback, V5, "\x00\x07", "{7 [0] }"},
		{Puback, V5, "\x00\x07\x87", "{7 [135] }"},
		{Puback, V5, "\x00\x07\x87\x0b\x1f\x00\x02no\x26\x00\x01\xff\x00\x00", "{7 [135] no}"},
		{Puback, V311, "\x00\x07", "{7 [0] }"},
		{Puback, V311, "\x00\x07\x00", ""},
		{Puback, V5, "\x00", ""},
		{Suback, V5, "\x00\x07\x00\x01\x87", "{7 [1 135] }"},
		{Suback, V5, "\x00\x07\x05\x1f\x00\x02no\x80", "{7 [128] no}"},
		{Suback, V5, "\x00\x07\x09\x1f\x00\x02no\x80", ""},
		{Suback, V311, "\x00\x07\x01", "{7 [1] }"},
		{Unsuback, V311, "\x00\x07", "{7 [] }"},
		{Suback, V5, "\x00\x07\x02\x63\x00\x01", ""}, // an unknown property
	} {
		a, err := DecodeServerAck(c.kind, []byte(c.body), c.version)
		if got := fmt.Sprint(a); (err != nil) != (c.want == "") || err == nil && got != c.want {
			t.Errorf("type %d, % x: %s, %v, want %s", c.kind, c.body, got, err, c.want)
		}
	}
	for in, want := range map[string]string{
		"":                         "0 ",
		"\x8b":                     "139 ",
		"\x95\x05\x1f\x00\x02no":   "149 no",
		"\x9c\x06\x1c\x00\x03pi2":  "156 ",
		"\x9c\x06\x1c\x00\x03pi2x": "error",
	} {
		code, reason, err := DecodeServerDisconnect([]byte(in))
		if got := fmt.Sprint(code, " ", reason); (err != nil) != (want == "error") || err == nil && got != want {
			t.Errorf("DISCONNECT % x: %s, %v, want %s", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"\x00\x01a\x00\x07\x07\x03\x00\x02xy\x0b\x01pay": "true 1 7 a pay",
		"\x00\x01a\x00\x07\x00":                          "true 1 7 a ",
		"\x00\x01a\x00\x00\x00":                          "error",
		"\x00\x00\x00\x07\x03\x23\x00\x01x":              "error", // an alias without a topic
		"\x00\x01a\x00\x07\x09x":                         "error",
	} {
		d, err := DecodeDelivery(PublishType<<4|1<<1|FlagRetain, []byte(in), V5)
		if got := fmt.Sprintf("%v %d %d %s %s", d.Retain, d.QoS, d.PacketID, d.Topic, d.Payload); (err != nil) != (want == "error") || err == nil && got != want {
			t.Errorf("PUBLISH % x: %s, %v, want %s", in, got, err, want)
		}
	}
}

func TestDescribeReason(t *testing.T) {
	for _, c := range []struct {
		code byte
		text string
		want string
	}{
		{NotAuthorized, "", "not authorized (0x87)"},
		{ServerBusy, "in\na minute", `server busy (0x89): "in\na minute"`},
		{Banned, "", "banned (0x8A)"},
		{ConnectionRateExceeded, "", "connection rate exceeded (0x9F)"},
		{0xA2, "", "wildcard subscriptions not supported (0xA2)"},
		{0xA3, "", "reason (0xA3)"},
		{Success, "", "normal disconnection (0x00)"},
	} {
		if got := DescribeReason(c.code, c.text); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// No packet makes the decoder panic, and none shares memory with the body.
func FuzzControlPackets(f *testing.F) {
	r := Request{Version: V5, ClientID: "c", HasWill: true, WillTopic: "w", User: "u", Password: "p"}
	connect, _ := r.Append(nil)
	for _, packet := range [][]byte{connect, AppendSubscribe(nil, 7, "a/#", 1, V5), AppendUnsubscribe(nil, 8, []string{"a"}, V5), {Disconnect << 4, 2, 4, 0}} {
		f.Add(packet[0], packet[2:])
	}
	f.Fuzz(func(t *testing.T, first byte, body []byte) {
		for _, version := range []byte{V31, V311, V5} {
			pk, err := Decode(first, body, version)
			if err != nil {
				continue
			}
			before := fmt.Sprintf("%+v", pk)
			other := bytes.Clone(body)
			for i := range body {
				body[i] ^= 0xFF
			}
			if after := fmt.Sprintf("%+v", pk); after != before {
				t.Errorf("%s became %s", before, after)
			}
			copy(body, other)
			for _, kind := range []byte{Connack, Puback, Suback, Disconnect} {
				_, _ = DecodeServerAck(kind, body, version)
				_, _ = DecodeConnack(body, version)
			}
			_, _ = DecodeDelivery(first, body, version)
			_, _, _ = DecodeServerDisconnect(body)
		}
	})
}
