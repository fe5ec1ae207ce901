package client

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"testing"
	"testing/iotest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/jmbarzee/dominion/topics"
)

func publish(topic string, qos byte, id uint16, payload int) []byte {
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Qos, p.MessageID, p.Payload = topic, qos, id, make([]byte, payload)
	var b bytes.Buffer
	_ = p.Write(&b) // never fails
	return b.Bytes()
}

// What is within the limit is handed on byte for byte, however it is cut; what
// is not is left out, reported, and acknowledged where it must be.
func TestIncoming(t *testing.T) {
	const limit = 1000
	small := func(id uint16) []byte { return publish("small", 1, id, 900) }
	var sent, want []byte
	for i, p := range [][]byte{small(1), publish("large/0", 0, 0, 5000), small(2), publish("large/1", 1, 77, 70_000), {0xd0, 0}, small(3)} {
		if sent = append(sent, p...); i != 1 && i != 3 {
			want = append(want, p...)
		}
	}
	for name, cut := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "halves": iotest.HalfReader, "bytes": iotest.OneByteReader} {
		var acks []byte
		var large []string
		r := newPacketReader(cut(bytes.NewReader(sent)), limit, func(b []byte) error { acks = append(acks, b...); return nil },
			func(topic string, size int) { large = append(large, fmt.Sprint(topic, " ", size)) })
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(want), err)
		}
		if !bytes.Equal(acks, []byte{0x40, 2, 0, 77}) || fmt.Sprint(large) != "[large/0 5012 large/1 70015]" {
			t.Errorf("%s: acknowledged %x, too large %v", name, acks, large)
		}
	}
}

// What no broker sends that keeps to the protocol ends the connection, before
// anything is allocated for it.
func TestIncomingRefuses(t *testing.T) {
	for name, sent := range map[string][]byte{
		"QoS 2":                publish("a", 2, 1, 1),
		"a large SUBACK":       {0x90, 0xff, 0xff, 0xff, 0x7f, 0, 1},
		"a malformed length":   {0x30, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"a topic that is long": {0x30, 0x80, 0x80, 0x80, 0x7f, 0xff, 0xff},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := io.ReadAll(newPacketReader(bytes.NewReader(sent), 1000, nil, func(string, int) {}))
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; err == nil || grown > 256<<10 {
			t.Errorf("%s: %v, %d bytes were allocated", name, err, grown)
		}
	}
}

func FuzzIncoming(f *testing.F) {
	f.Add(publish("a", 1, 1, 10))
	f.Add(publish("large", 1, 1, 2000))
	f.Fuzz(func(t *testing.T, sent []byte) {
		r := newPacketReader(bytes.NewReader(sent), 1000, func([]byte) error { return nil }, func(string, int) {})
		got, err := io.ReadAll(r)
		if len(got) > len(sent) {
			t.Fatalf("%d bytes of %d", len(got), len(sent))
		}
		if rest := bytes.NewReader(got); err == nil {
			for {
				first, err := rest.ReadByte()
				if err != nil {
					return
				}
				size := 0
				for shift := 0; ; shift += 7 {
					b, err := rest.ReadByte()
					if err != nil {
						return
					}
					size |= int(b&0x7f) << shift
					if b < 0x80 {
						break
					}
				}
				if first>>4 == typePublish && size > 1000 {
					t.Fatalf("a message of %d bytes was handed on", size)
				}
				if _, err := rest.Seek(int64(size), io.SeekCurrent); err != nil {
					return
				}
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
		Dial: p.dial, ClientID: "c", MaxPacket: 1000,
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
