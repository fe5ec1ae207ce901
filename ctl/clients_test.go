package ctl

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// someClients are clients as a home has them, and one that is called as nobody
// should be.
func someClients() []topics.ClientView {
	at := func(d time.Duration) topics.Time { return topics.Time{Time: noon.Add(-d)} }
	return []topics.ClientView{
		{Client: "bridge-attic", Address: "pipe", Listener: "local", Protocol: "3.1.1", Since: at(3 * time.Minute), Expires: at(-time.Hour), Subscriptions: 2, Queued: 1204, QueuedBytes: 98_000, Dropped: 57, Memory: 623_456},
		{Client: "domain-6f9619ff-8b86-4d01-b42d-00cf4fc964ff", User: "pi-kitchen", Address: "[fd00::1234:5678:9abc:def0]:51234", Listener: "mqtts", Protocol: "3.1.1", Connected: true, Since: at(72 * time.Hour), Subscriptions: 4},
		{Client: "homeassistant", Listener: "unix", Protocol: "5.0", Connected: true, Since: at(26 * time.Hour), Subscriptions: 311, Queued: 2, QueuedBytes: 120, Memory: 123_456_789, Refused: 3},
		{Client: "x\x1b[2J\nroot  connected", User: "tv\u202egnp", Address: "192.168.1.77:40000", Listener: "mqtt", Protocol: "5.0", Connected: true, Since: at(0)},
	}
}

// someLines are lines of a trace, one of each kind.
func someLines() []topics.TraceLine {
	at := topics.Time{Time: noon.Add(123 * time.Millisecond)}
	return []topics.TraceLine{
		{At: at, Client: "plug", User: "tv", Remote: "192.168.1.77:40000", Direction: "in", Packet: "CONNECT", Note: "clean=true keepalive=60 with a password will", Topic: "tele/plug/LWT"},
		{At: at, Client: "plug", User: "tv", Direction: "in", Packet: "PUBLISH", QoS: 1, PacketID: 7, Topic: "tele/plug/STATE", Payload: `{"POWER":"ON"}`, Size: 14},
		{At: at, Client: "plug", Direction: "out", Packet: "PUBACK", PacketID: 7, Code: 0x10},
		{At: at, Client: "lamp", User: "tv", Direction: "in", Packet: "PUBLISH", Retain: true, Topic: "dominion/service/web/set", Payload: "OFF", Size: 3, Code: 0x87, Result: "refused", By: "role device: not the topics of the dominion"},
		{At: at, Client: "tablet", User: "eve", Direction: "out", Packet: "PUBLISH", QoS: 1, Dup: true, PacketID: 65535, Topic: "camera/door", Payload: `\xff\xd8\xff…`, Size: 2_000_000, Result: "dropped", Note: "its queue is full"},
		{At: at, Client: "x\x1b[2J", User: "tv\nroot", Direction: "in", Packet: "SUBSCRIBE", QoS: 2, Topic: "a/\x1b]0;title\x07#"},
		{At: at, Client: "plug", User: "tv", Note: "the connection is over: the client closed it"},
		{At: at, LeftOut: 1234},
	}
}

// A trace goes on and on, each line as long as it is; nothing that a client
// said orders the terminal.
func TestRenderTrace(t *testing.T) {
	for style, s := range map[string]Style{"pipe": {Now: noon}, "color": {Now: noon, Color: true}} {
		t.Run(style, func(t *testing.T) {
			var b bytes.Buffer
			for _, l := range someLines() {
				if err := RenderTrace(&b, l, s); err != nil {
					t.Fatal(err)
				}
			}
			checkColumns(t, b.String(), s)
			golden(t, "trace-"+style+".txt", strings.ReplaceAll(b.String(), "\x1b", "^["))
		})
	}
}
