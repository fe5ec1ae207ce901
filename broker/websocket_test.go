package broker_test

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/topics"
)

// overWebSocket connects a client and returns its WebSocket behind CONNACK.
func overWebSocket(t *testing.T, url, id string, header http.Header) *websocket.Conn {
	t.Helper()
	ws, _, err := (&websocket.Dialer{Subprotocols: []string{"mqtt"}}).Dial(url+"/mqtt", header)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.Close() })
	connect := encode(t, packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 4,
		Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), Clean: true, ClientIdentifier: id},
	})
	if err := ws.WriteMessage(websocket.BinaryMessage, connect); err != nil {
		t.Fatal(err)
	}
	if got := message(t, ws); !bytes.Equal(got, []byte{0x20, 2, 0, 0}) {
		t.Fatalf("CONNACK is %x", got)
	}
	return ws
}

func message(t *testing.T, ws *websocket.Conn) []byte {
	t.Helper()
	kind, got, err := ws.ReadMessage()
	if err != nil || kind != websocket.BinaryMessage {
		t.Fatalf("a message of kind %d, %v", kind, err)
	}
	return got
}

func subscribeTo(t *testing.T, ws *websocket.Conn, filter string) {
	t.Helper()
	p := encode(t, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 1, Filters: packets.Subscriptions{{Filter: filter}}})
	if err := ws.WriteMessage(websocket.BinaryMessage, p); err != nil {
		t.Fatal(err)
	}
	if got := message(t, ws); got[0] != 0x90 {
		t.Fatalf("SUBACK is %x", got)
	}
}

func publishOf(t *testing.T, topic string, payload []byte) []byte {
	t.Helper()
	return encode(t, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: topic, Payload: payload})
}

// Each packet is a message of its own, whatever its size: clients exist that
// cannot read parts, several, or an empty message.
func TestAPacketIsAWebSocketMessage(t *testing.T) {
	b, urls := listen(t, broker.Config{ListenWS: "127.0.0.1:0"})
	want := make(map[string][]byte)
	for i, size := range []int{0, 1, 110, 126, 1000, 4000, 4095, 4096, 4097, 16 << 10, 65_530, 65_536, 300_000} {
		for n := range 8 {
			topic := fmt.Sprintf("house/%d/%d", i, n)
			payload := bytes.Repeat([]byte{byte(n + 1)}, size+1)
			b.Publish(topics.Message{Topic: topic, Payload: payload, Retain: true})
			want[topic] = payload
		}
	}
	ws := overWebSocket(t, urls["ws"], "paho", nil)
	subscribeTo(t, ws, "house/#")
	for len(want) > 0 {
		got := message(t, ws)
		found := false
		for topic, payload := range want {
			p := publishOf(t, topic, payload)
			p[0] |= 1 // retained
			if found = bytes.Equal(got, p); found {
				delete(want, topic)
				break
			}
		}
		if !found {
			t.Fatalf("a message of %d bytes is no packet, %d are missing", len(got), len(want))
		}
	}
}

// A message may hold many packets: the limit is that of a packet.
func TestAWebSocketMessageOfManyPackets(t *testing.T) {
	const many = 3000
	b, urls := listen(t, broker.Config{ListenWS: "127.0.0.1:0", Limits: broker.Limits{MaxPacket: 4 << 10}})
	arrived := make(chan int, many)
	if err := b.Subscribe("burst", func(m topics.Message) { arrived <- len(m.Payload) }); err != nil {
		t.Fatal(err)
	}
	ws := overWebSocket(t, urls["ws"], "mqttjs", nil)
	var burst []byte
	for range many {
		burst = append(burst, publishOf(t, "burst", make([]byte, 1000))...)
	}
	if err := ws.WriteMessage(websocket.BinaryMessage, burst); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, _, err := ws.ReadMessage()
		ended <- err
	}()
	for range many {
		select {
		case n := <-arrived:
			if n != 1000 {
				t.Fatalf("%d bytes", n)
			}
		case err := <-ended:
			t.Fatal(err)
		}
	}
	// a packet above the limit is refused as everywhere
	// (the connection may be over before all of it is written)
	_ = ws.WriteMessage(websocket.BinaryMessage, publishOf(t, "burst", make([]byte, 5<<10)))
	if err := <-ended; err == nil {
		t.Error("a packet above max_packet is taken")
	}
}
