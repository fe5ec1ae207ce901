package client

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"testing"
	"testing/iotest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

func publish(topic string, qos byte, id uint16, payload int) []byte {
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Qos, p.MessageID, p.Payload = topic, qos, id, make([]byte, payload)
	var b bytes.Buffer
	_ = p.Write(&b) // never fails
	return b.Bytes()
}

// reading returns a connection that reads and has no network.
func reading(version byte, limit int, o Options) *Conn {
	o.MaxPacket = limit
	o.setDefaults()
	c := &Conn{options: o, version: version, log: slog.New(slog.DiscardHandler), wake: make(chan struct{}, 1), failed: make(chan struct{})}
	c.state.requests = make(map[uint16]chan<- wire.ServerAck)
	return c
}

// readAll reads packets until an error.
func (c *Conn) readAll(r io.Reader) error {
	for b := bufio.NewReader(r); ; {
		if err := c.readPacket(b); err != nil {
			return err
		}
	}
}

// What is within the limit is delivered, however it is cut; what is not is skipped,
// reported, and acknowledged.
func TestReadPackets(t *testing.T) {
	var sent []byte
	for _, p := range [][]byte{publish("small", 1, 1, 900), publish("large/0", 0, 0, 5000), publish("small", 0, 0, 3), publish("large/1", 1, 77, 70_000), {0xd0, 0}, publish("small", 1, 3, 0)} {
		sent = append(sent, p...)
	}
	for name, cut := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "halves": iotest.HalfReader, "bytes": iotest.OneByteReader} {
		var got, large []string
		c := reading(wire.V311, 1000, Options{
			OnMessage: func(m topics.Message) { got = append(got, fmt.Sprint(m.Topic, " ", len(m.Payload), " ", m.QoS)) },
			TooLarge:  func(topic string, size int) { large = append(large, fmt.Sprint(topic, " ", size)) },
		})
		if err := c.readAll(cut(bytes.NewReader(sent))); err != io.EOF {
			t.Errorf("%s: %v", name, err)
		}
		if fmt.Sprint(got) != "[small 900 1 small 3 0 small 0 1]" || fmt.Sprint(large) != "[large/0 5012 large/1 70015]" {
			t.Errorf("%s: %v, too large %v", name, got, large)
		}
		if want := []byte{0x40, 2, 0, 1, 0x40, 2, 0, 77, 0x40, 2, 0, 3}; !bytes.Equal(c.state.control, want) {
			t.Errorf("%s: sent % x, want % x", name, c.state.control, want)
		}
	}
}

// What no broker sends that keeps to the protocol ends the connection, before
// anything is allocated for it.
func TestReadRefuses(t *testing.T) {
	for name, sent := range map[string][]byte{
		"QoS 2":                 publish("a", 2, 1, 1),
		"a large SUBACK":        {0x90, 0xff, 0xff, 0xff, 0x7f, 0, 1},
		"a malformed length":    {0x30, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"a topic that is long":  {0x30, 0x80, 0x80, 0x80, 0x7f, 0xff, 0xff},
		"a topic that is cut":   {0x30, 3, 0, 9, 'a'},
		"no topic":              {0x30, 3, 0, 0, 0},
		"packet identifier 0":   {0x32, 6, 0, 1, 'a', 0, 0, 0},
		"properties cut":        {0x30, 4, 0, 1, 'a', 9},
		"CONNACK":               {0x20, 3, 0, 0, 0},
		"CONNECT":               {0x10, 0},
		"AUTH":                  {0xF0, 0},
		"packet type 0":         {0, 0},
		"PUBACK without an id":  {0x40, 1, 0},
		"PUBACK with a surplus": {0x40, 5, 0, 1, 0, 0, 9},
		"an unknown property":   {0x90, 6, 0, 1, 2, 0x7f, 0, 0},
		"PUBREC":                {0x50, 2, 0, 1},
	} {
		c := reading(wire.V5, 1000, Options{})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := c.readAll(bytes.NewReader(sent))
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; err == nil || err == io.EOF || grown > 256<<10 {
			t.Errorf("%s: %v, %d bytes were allocated", name, err, grown)
		}
	}
}

// Nothing that a broker sends makes the reader panic, or deliver a message that is too
// large.
func FuzzRead(f *testing.F) {
	for _, packet := range [][]byte{
		publish("a", 1, 1, 10), publish("large", 1, 1, 2000),
		{0x33, 12, 0, 1, 'a', 0, 7, 5, 0x03, 0, 2, 'x', 'y', 'p'},
		{0x40, 4, 0, 7, 0x87, 0},
		{0xE0, 7, 0x95, 5, 0x1F, 0, 2, 'n', 'o'},
		{0x90, 5, 0, 7, 0, 1, 0x87},
		{0xB0, 4, 0, 7, 0, 0},
	} {
		f.Add(packet)
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		for _, version := range []byte{wire.V311, wire.V5} {
			c := reading(version, 1000, Options{OnMessage: func(m topics.Message) {
				if m.Topic == "" || len(m.Topic)+len(m.Payload) > 1000 || m.QoS > 1 {
					t.Errorf("%q, %d bytes, QoS %d", m.Topic, len(m.Payload), m.QoS)
				}
			}})
			if err := c.readAll(bytes.NewReader(sent)); err == nil {
				t.Error("no error at the end")
			}
		}
	})
}

// A message that is too large does not stop those behind it.
func TestTooLargeIsLeftOut(t *testing.T) {
	p := &peer{pushes: append(publish("large", 1, 9, 5000), publish("small", 1, 10, 10)...)}
	came := make(chan string, 10)
	large := make(chan string, 10)
	c, err := Connect(t.Context(), Options{
		Dial: p.dial, ClientID: "c", MaxPacket: 1000, Version: wire.V311,
		OnMessage: func(m topics.Message) { came <- m.Topic },
		TooLarge:  func(topic string, size int) { large <- fmt.Sprint(topic, " ", size) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Subscribe(t.Context(), "#"); err != nil {
		t.Fatal(err)
	}
	patience := time.After(20 * time.Second)
	for what, from := range map[string]chan string{"small": came, "large 5012": large} {
		select {
		case got := <-from:
			if got != what {
				t.Errorf("%q came, not %q", got, what)
			}
		case <-patience:
			t.Fatalf("%q did not come", what)
		}
	}
}
