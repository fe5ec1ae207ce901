package wire

import (
	"bytes"
	"fmt"
	"testing"
)

// every property a PUBLISH may have, in an order with something between.
var everything = []byte{
	propUser, 0, 1, 'z', 0, 1, '1',
	propMessageExpiry, 0, 0, 0, 9,
	propUser, 0, 1, 'a', 0, 0,
	propPayloadFormat, 1,
	propTopicAlias, 0, 3,
	propContentType, 0, 0,
	propResponseTopic, 0, 2, 'r', '/',
	propCorrelation, 0, 0,
	propUser, 0, 1, 'z', 0, 1, '1',
}

func publishBody(topic string, id uint16, properties []byte, payload string) []byte {
	b := appendText(nil, []byte(topic))
	if id != 0 {
		b = append(b, byte(id>>8), byte(id))
	}
	b = appendVarint(b, len(properties))
	return append(append(b, properties...), payload...)
}

// What subscribers get is what was published, in its order, without what is
// between publisher and server.
func TestPublishForwards(t *testing.T) {
	var p Publish
	if err := p.Decode(PublishType<<4|2<<1|FlagRetain|FlagDup, publishBody("a/b", 7, everything, "hello"), V5); err != nil {
		t.Fatal(err)
	}
	if p.QoS != 2 || !p.Dup || !p.Retain || p.PacketID != 7 || string(p.Topic) != "a/b" || p.Alias != 3 ||
		!p.HasExpiry || p.Expiry != 9 || string(p.Payload) != "hello" {
		t.Errorf("decoded %+v", p)
	}
	want := slicesWithout(everything, []byte{propMessageExpiry, 0, 0, 0, 9}, []byte{propTopicAlias, 0, 3})
	if !bytes.Equal(p.Forward, want) {
		t.Errorf("forwarded % x, want % x", p.Forward, want)
	}
	again := Properties{}
	s := scanner{rest: append(appendVarint(nil, len(want)), p.Properties.Append(nil)...)}
	s.readProperties(PublishType, again.set)
	if s.err != nil || fmt.Sprint(again) != fmt.Sprint(p.Properties) {
		t.Errorf("encoded again: %v, %v, want %v", again, s.err, p.Properties)
	}
}

func TestPublishForwardsManyInARow(t *testing.T) {
	var p Publish
	want := bytes.Repeat([]byte{propUser, 0, 1, 'a', 0, 1, 'b'}, 5)
	if err := p.Decode(PublishType<<4, publishBody("a", 0, want, "x"), V5); err != nil || !bytes.Equal(p.Forward, want) {
		t.Errorf("forwarded % x, %v", p.Forward, err)
	}
}

func slicesWithout(b []byte, all ...[]byte) []byte {
	for _, one := range all {
		b = bytes.ReplaceAll(b, one, nil)
	}
	return b
}

// A client that reads what we encode has what we meant.
func TestOutgoing(t *testing.T) {
	for _, version := range []byte{V311, V5} {
		for _, o := range []Outgoing{
			{Topic: "a", Payload: 3},
			{Topic: "a/b", Flags: 1<<1 | FlagRetain, PacketID: 65535, Payload: 3},
			{Topic: "a/b", Flags: 2<<1 | FlagDup, PacketID: 1, HasExpiry: true, Expiry: 5, Forward: []byte{propPayloadFormat, 1}, Payload: 3},
			{Topic: "a/b", Alias: 9, OmitTopic: version == V5, Payload: 3},
		} {
			b := append(o.Append(nil, version), "xyz"...)
			if len(b) != o.Size(version) {
				t.Errorf("%+v has %d bytes, and is said to have %d", o, len(b), o.Size(version))
			}
			first, start, end, more, err := Frame(b)
			if err != nil || more || end != len(b) {
				t.Fatalf("frame of % x: %d to %d, %v %v", b, start, end, more, err)
			}
			var p Publish
			if err := p.Decode(first, b[start:end], version); err != nil {
				t.Fatalf("%+v: %v", o, err)
			}
			if string(p.Payload) != "xyz" || p.PacketID != o.PacketID || version == V5 && (p.Alias != o.Alias || p.Expiry != o.Expiry || !bytes.Equal(p.Forward, o.Forward)) {
				t.Errorf("%+v became %+v", o, p)
			}
		}
	}
}

func TestIdentifiersAreWritten(t *testing.T) {
	o := Outgoing{Topic: "a", Identifiers: []uint32{1, 300}}
	want := []byte{PublishType << 4, 9, 0, 1, 'a', 5, propSubscriptionID, 1, propSubscriptionID, 0xac, 2}
	if got := o.Append(nil, V5); !bytes.Equal(got, want) {
		t.Errorf("got % x, want % x", got, want)
	}
}

// Whatever comes is taken or refused, and what is taken is well formed.
func FuzzDecode(f *testing.F) {
	f.Add(PublishType<<4|2, publishBody("a/b", 7, everything, "hello"), true)
	f.Add(PublishType<<4, publishBody("a", 0, bytes.Repeat([]byte{propUser, 0, 1, 'a', 0, 1, 'b'}, 5), "x"), true)
	f.Add(Connect<<4, []byte("\x00\x04MQTT\x05\xc2\x00\x3c\x05\x11\x00\x00\x00\x0a\x00\x01c\x00\x01u\x00\x01p"), true)
	f.Add(Connect<<4, []byte("\x00\x04MQTT\x04\x2e\x00\x3c\x00\x01c\x00\x01w\x00\x00"), false)
	f.Add(Subscribe<<4|2, []byte("\x00\x01\x00\x00\x01a"), true) // which ends the process of others
	f.Add(Subscribe<<4|2, []byte("\x00\x01\x02\x0b\x05\x00\x03a/#\x2e"), true)
	f.Add(Unsubscribe<<4|2, []byte("\x00\x01\x00\x00\x01a"), true)
	f.Add(Disconnect<<4, []byte{4, 5, propSessionExpiry, 0, 0, 0, 1}, true)
	f.Add(Auth<<4, []byte{0x18, 0}, true)
	f.Add(Puback<<4, []byte{0, 1, 0x10, 0}, true)
	f.Add(Pingreq<<4, []byte{}, false)
	f.Fuzz(func(t *testing.T, first byte, body []byte, five bool) {
		version := V311
		if five {
			version = V5
		}
		if err := CheckFirst(first, version); err != nil {
			return
		}
		before := bytes.Clone(body)
		switch kind := first >> 4; kind {
		case PublishType:
			var p Publish
			if p.Decode(first, body, version) == nil {
				if len(p.Topic) > 0 && !ValidTopic(string(p.Topic)) {
					t.Errorf("topic %q", p.Topic)
				}
				if !bytes.Contains(body, p.Payload) {
					t.Errorf("payload %q", p.Payload)
				}
			}
		case Puback, Pubrec, Pubrel, Pubcomp:
			a, err := DecodeAck(kind, body, version)
			if err == nil && a.PacketID == 0 {
				t.Error("packet identifier 0")
			}
		default:
			pk, err := Decode(first, body, version)
			if err != nil {
				return
			}
			for _, f := range pk.Filters {
				if !ValidFilter(f.Filter) || f.Qos > 2 || f.RetainHandling > 2 {
					t.Errorf("filter %+v", f)
				}
			}
		}
		if !bytes.Equal(body, before) {
			t.Error("the body was changed")
		}
	})
}
