package client

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// What a broker of 5.0 sends reaches paho in the form of 3.1.1.
func TestPacketsOf5AsThoseOf311(t *testing.T) {
	for _, c := range []struct {
		name     string
		in, want []byte
	}{
		{"CONNACK with limits", []byte{0x20, 11, 1, 0, 8, 0x21, 0, 20, 0x27, 0, 0, 0x10, 0}, []byte{0x20, 2, 1, 0}},
		{"CONNACK not authorized", []byte{0x20, 3, 0, 0x87, 0}, []byte{0x20, 2, 0, 5}},
		{"CONNACK of a broker of 3.1.1", []byte{0x20, 2, 0, 1}, []byte{0x20, 2, 0, 1}},
		{"PUBLISH of QoS 1 with properties", []byte{0x33, 12, 0, 1, 'a', 0, 7, 5, 0x03, 0, 2, 'x', 'y', 'p'}, []byte{0x33, 6, 0, 1, 'a', 0, 7, 'p'}},
		{"PUBLISH of QoS 0 without a payload", []byte{0x30, 4, 0, 1, 'a', 0}, []byte{0x30, 3, 0, 1, 'a'}},
		{"PUBACK with a reason", []byte{0x40, 4, 0, 7, 0x87, 0}, []byte{0x40, 2, 0, 7}},
		{"SUBACK", []byte{0x90, 5, 0, 7, 0, 1, 0x87}, []byte{0x90, 4, 0, 7, 1, 0x87}},
		{"UNSUBACK", []byte{0xB0, 4, 0, 7, 0, 0x11}, []byte{0xB0, 2, 0, 7}},
		{"PINGRESP", []byte{0xD0, 0}, []byte{0xD0, 0}},
	} {
		v := new(translator)
		in := newPacketReader(bytes.NewReader(c.in), 1000, nil, nil)
		in.translator = v
		if got, err := io.ReadAll(in); err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%s: % x, %v, want % x", c.name, got, err, c.want)
		}
		switch c.name {
		case "CONNACK with limits":
			if want := (capabilities{maxPacket: 4096, receiveMaximum: 20}); v.capabilities != want {
				t.Errorf("%+v, want %+v", v.capabilities, want)
			}
		case "PUBACK with a reason":
			if r, refused := v.takeRefusal(7); !refused || r.code != 0x87 {
				t.Errorf("%v %v", r, refused)
			}
		}
	}
	in := newPacketReader(bytes.NewReader([]byte{0xE0, 7, 0x95, 5, 0x1F, 0, 2, 'n', 'o'}), 1000, nil, nil)
	in.translator = new(translator)
	var ended *DisconnectError
	if _, err := io.ReadAll(in); !errors.As(err, &ended) || !ended.CausedByMessage() || ended.Error() != `the broker ended the connection: packet too large (0x95): "no"` {
		t.Errorf("%v", err)
	}
}

// What paho writes reaches the broker in the form of 5.0.
func TestPacketsOf311AsThoseOf5(t *testing.T) {
	v := &translator{persistent: true, bridge: true, localBridge: true, receiveMaximum: 100}
	for _, c := range []struct {
		name     string
		in, want []byte
	}{
		{"CONNECT", []byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 0, 0, 5, 0, 1, 'x'}, []byte{0x10, 22, 0, 4, 'M', 'Q', 'T', 'T', 0x85, 0, 0, 5, 8, 0x11, 255, 255, 255, 255, 0x21, 0, 100, 0, 1, 'x'}},
		{"PUBLISH of QoS 1", []byte{0x32, 6, 0, 1, 'a', 0, 7, 'p'}, []byte{0x32, 7, 0, 1, 'a', 0, 7, 0, 'p'}},
		{"PUBLISH of QoS 0", []byte{0x30, 4, 0, 1, 'a', 'p'}, []byte{0x30, 5, 0, 1, 'a', 0, 'p'}},
		{"SUBSCRIBE", []byte{0x82, 10, 0, 7, 0, 1, 'a', 1, 0, 1, 'b', 0}, []byte{0x82, 11, 0, 7, 0, 0, 1, 'a', 0x0D, 0, 1, 'b', 0x0C}},
		{"UNSUBSCRIBE", []byte{0xA2, 5, 0, 7, 0, 1, 'a'}, []byte{0xA2, 6, 0, 7, 0, 0, 1, 'a'}},
		{"PUBACK", []byte{0x40, 2, 0, 7}, []byte{0x40, 2, 0, 7}},
		{"DISCONNECT", []byte{0xE0, 0}, []byte{0xE0, 0}},
	} {
		if got, err := v.toV5(c.in); err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%s: % x, %v, want % x", c.name, got, err, c.want)
		}
	}
	// The length of the packet grows by a byte where it must.
	long := append([]byte{0x30, 127, 0, 1, 'a'}, make([]byte, 124)...)
	if got, err := v.toV5(long); err != nil || !bytes.Equal(got[:7], []byte{0x30, 128, 1, 0, 1, 'a', 0}) || len(got) != 131 {
		t.Errorf("% x, %v", got[:8], err)
	}
}

func FuzzPacketsOf5(f *testing.F) {
	f.Add([]byte{0x20, 11, 1, 0, 8, 0x21, 0, 20, 0x27, 0, 0, 0x10, 0})
	f.Add([]byte{0x33, 12, 0, 1, 'a', 0, 7, 5, 0x03, 0, 2, 'x', 'y', 'p'})
	f.Add([]byte{0x40, 4, 0, 7, 0x87, 0})
	f.Add([]byte{0xE0, 7, 0x95, 5, 0x1F, 0, 2, 'n', 'o'})
	f.Add([]byte{0x90, 5, 0, 7, 0, 1, 0x87})
	f.Fuzz(func(t *testing.T, line []byte) {
		in := newPacketReader(bytes.NewReader(line), 1000, func([]byte) error { return nil }, func(string, int) {})
		in.translator = new(translator)
		got, _ := io.ReadAll(in)
		if len(got) > len(line)+1 {
			t.Errorf("%d bytes became %d", len(line), len(got))
		}
	})
}
