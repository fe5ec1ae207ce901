package client

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/jmbarzee/dominion/broker/wire"
)

// inBothVersions runs a test with a peer of MQTT 3.1.1, whose codec is paho's, and one
// of 5.0.
func inBothVersions(t *testing.T, test func(t *testing.T, version byte)) {
	t.Helper()
	for _, version := range []byte{wire.V311, wire.V5} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, version) })
		})
	}
}

// peer is a broker whose behaviour each test sets.
type peer struct {
	version    byte // 5: MQTT 5.0; otherwise 3.1.1
	connack    byte // the code of CONNACK
	suback     byte
	refuses    byte   // SUBACK code for each subscription of QoS 1; 0: as suback
	puback     byte   // the code of PUBACK in MQTT 5.0
	silent     bool   // after CONNACK it answers nothing
	notReading bool   // after CONNACK it reads nothing
	forgets    bool   // it acknowledges no PUBLISH
	reason     string // the reason string of each answer, in MQTT 5.0
	pushes     []byte // sent after a SUBACK
	leaves     byte   // the code of a DISCONNECT that answers a PUBLISH, in MQTT 5.0
	props      []byte // the properties of CONNACK, in MQTT 5.0
	mu         sync.Mutex
	received   []string
	last       []byte // the body of the last packet, in MQTT 5.0
}

func (p *peer) dial(context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	if p.version == wire.V5 {
		go p.serve5(theirs)
	} else {
		go p.serve311(theirs)
	}
	return ours, nil
}

// count returns how many packets of a kind the peer received.
func (p *peer) count(kind string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.received {
		if k == kind {
			n++
		}
	}
	return n
}

// note records a packet.
func (p *peer) note(kind string, body []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.received, p.last = append(p.received, kind), body
}

func (p *peer) serve311(c net.Conn) {
	defer c.Close()
	for {
		pk, err := packets.ReadPacket(c)
		if err != nil {
			return
		}
		p.note(strings.Fields(pk.String())[0], nil)
		var answer packets.ControlPacket
		switch pk := pk.(type) {
		case *packets.ConnectPacket:
			ack := packets.NewControlPacket(packets.Connack).(*packets.ConnackPacket)
			ack.ReturnCode = p.connack
			if ack.Write(c) != nil || p.connack != 0 {
				return
			}
			if p.notReading {
				time.Sleep(time.Hour)
				return
			}
			continue
		case *packets.PublishPacket:
			if pk.Qos == 1 && !p.forgets {
				ack := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
				ack.MessageID = pk.MessageID
				answer = ack
			}
		case *packets.SubscribePacket:
			ack := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
			ack.MessageID, ack.ReturnCodes = pk.MessageID, []byte{p.suback}
			if pk.Qoss[0] == 1 && p.refuses != 0 {
				ack.ReturnCodes[0] = p.refuses
			}
			answer = ack
		case *packets.PingreqPacket:
			answer = packets.NewControlPacket(packets.Pingresp)
		case *packets.DisconnectPacket:
			return
		}
		if answer != nil && !p.silent && answer.Write(c) != nil {
			return
		}
		if _, ok := pk.(*packets.SubscribePacket); ok && p.pushes != nil {
			go func() { _, _ = c.Write(p.pushes) }() // while we read the acknowledgements
		}
	}
}

func connect(t *testing.T, p *peer) *Conn {
	t.Helper()
	c, err := Connect(t.Context(), Options{Dial: p.dial, ClientID: "c", Version: max(p.version, wire.V311)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// serve5 speaks MQTT 5.0.
func (p *peer) serve5(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	var properties []byte
	if p.reason != "" {
		properties = append(binary.BigEndian.AppendUint16([]byte{0x1F}, uint16(len(p.reason))), p.reason...)
	}
	properties = append([]byte{byte(len(properties))}, properties...)
	send := func(first byte, parts ...[]byte) bool {
		var body []byte
		for _, b := range parts {
			body = append(body, b...)
		}
		_, err := c.Write(append([]byte{first, byte(len(body))}, body...))
		return err == nil
	}
	for {
		first, _, size, err := readHeader(r)
		if err != nil {
			return
		}
		body, err := readBody(r, size)
		if err != nil {
			return
		}
		kind := first >> 4
		name := map[byte]string{wire.Connect: "CONNECT:", wire.PublishType: "PUBLISH:", wire.Subscribe: "SUBSCRIBE:", wire.Puback: "PUBACK:", wire.Unsubscribe: "UNSUBSCRIBE:", wire.Pingreq: "PINGREQ:", wire.Disconnect: "DISCONNECT:"}[kind]
		p.note(name, body)
		if p.silent && kind != wire.Connect {
			continue
		}
		ok := true
		switch kind {
		case wire.Connect:
			all := properties
			if p.props != nil {
				all = append([]byte{byte(len(p.props))}, p.props...)
			}
			ok = send(wire.Connack<<4, []byte{0, p.connack}, all) && p.connack == 0
			if p.notReading {
				time.Sleep(time.Hour)
				return
			}
		case wire.PublishType:
			if p.leaves != 0 {
				send(wire.Disconnect<<4, []byte{p.leaves}, properties)
				return
			}
			if first>>1&3 == 1 && !p.forgets {
				topic := int(binary.BigEndian.Uint16(body))
				ok = send(wire.Puback<<4, body[2+topic:4+topic], []byte{p.puback}, properties)
			}
		case wire.Subscribe:
			code := p.suback
			if body[len(body)-1]&3 == 1 && p.refuses != 0 {
				code = p.refuses
			}
			ok = send(wire.Suback<<4, body[:2], properties, []byte{code})
			if p.pushes != nil {
				go func() { _, _ = c.Write(p.pushes) }() // while we read the acknowledgements
			}
		case wire.Unsubscribe:
			ok = send(wire.Unsuback<<4, body[:2], properties, []byte{0})
		case wire.Pingreq:
			ok = send(wire.Pingresp << 4)
		case wire.Disconnect:
			return
		}
		if !ok {
			return
		}
	}
}
