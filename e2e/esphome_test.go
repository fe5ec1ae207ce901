package e2e

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// esphome is a microcontroller as ESPHome makes one, on the wire: MQTT 3.1.1,
// a client identifier of its name and address, a persistent session, keepalive
// 15 s with a ping each 0.7 of it, the one will, SUBSCRIBE of one filter each
// (those of discovery at QoS 2, of commands at 0), its device's facts at QoS 2,
// another try 5 s after the last one (esphome/components/mqtt). It answers
// PUBREC by PUBREL, and never hurries. Beside its own topics it says what
// docs/microdomain.md has it say.
type esphome struct {
	t        testing.TB
	home     *Home
	host     *Host
	name     string
	service  string
	port     int
	asked    *feed[string] // topics of what was delivered to it
	sessions *feed[bool]   // whether the broker had its session, at each connection
	pings    *feed[string]

	mu   sync.Mutex
	conn net.Conn // nil without current
	off  chan struct{}
	over chan struct{}
}

const (
	espKeepalive = 15 * time.Second
	espRetry     = 5 * time.Second
)

// ESPHome adds a microcontroller to the home, without current.
func (h *Home) ESPHome(name, service string, port int) *esphome {
	e := &esphome{
		t: h.t, home: h, host: h.Host(name), name: name, service: service, port: port,
		asked: newFeed[string](), sessions: newFeed[bool](), pings: newFeed[string](),
	}
	h.t.Cleanup(func() {
		e.mu.Lock()
		on := e.off != nil
		e.mu.Unlock()
		if on {
			e.Unplug()
		}
	})
	return e
}

// Plug gives it current.
func (e *esphome) Plug() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.off, e.over = make(chan struct{}), make(chan struct{})
	go e.run(e.off, e.over)
}

// Unplug takes the current and with it the network: nothing says good-bye, the
// broker is not even told that the connection is closed.
func (e *esphome) Unplug() {
	e.host.LinkDown()
	e.mu.Lock()
	close(e.off)
	if e.conn != nil {
		e.conn.Close()
	}
	over := e.over
	e.off = nil
	e.mu.Unlock()
	<-over
}

// run is the loop of mqtt_client.cpp: connected, or another try in a while.
func (e *esphome) run(off, over chan struct{}) {
	defer close(over)
	for {
		began := time.Now()
		if l, err := e.connect(); err == nil {
			e.talk(l, off)
			l.conn.Close()
		}
		select {
		case <-off:
			return
		case <-time.After(time.Until(began.Add(espRetry))):
		}
	}
}

func (e *esphome) dial() (net.Conn, error) {
	m := e.home.external
	if m == nil {
		return e.host.Dial("tcp", e.home.Hub.Address()+":1883")
	}
	conn, err := e.host.Dial("tcp", m.host.Address()+":8883")
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(m.caFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return tls.Client(conn, &tls.Config{RootCAs: pool, ServerName: m.host.Address()}), nil
}

func (e *esphome) topic(leaf string) string { return "dominion/domain/" + e.name + "/" + leaf }

// connect sends CONNECT with user name flag, password flag, will retain, will
// QoS 1 and will, and without clean session: MQTT 3.1.1, 3.1.2.3.
func (e *esphome) connect() (*line, error) {
	conn, err := e.dial()
	if err != nil {
		return nil, err
	}
	flags, login := byte(0x20|0x08|0x04), []byte(nil)
	if m := e.home.external; m != nil {
		flags |= 0xC0
		login = append(text("domain"), text(m.password)...)
	}
	l := &line{conn: conn, in: bufio.NewReader(conn), version: 4}
	body := append(text("MQTT"), 4, flags, 0, byte(espKeepalive/time.Second))
	body = append(body, text(e.name+"-a4cf12ef3b70")...)
	body = append(append(body, text(e.topic("availability"))...), text("offline")...)
	l.send(0x10, append(body, login...))
	p, err := l.read(5 * time.Second)
	if err == nil && (p.kind != kindConnack || p.code != 0) {
		err = fmt.Errorf("CONNECT of %s is answered by %+v", e.name, p)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	e.mu.Lock()
	e.conn = conn
	e.mu.Unlock()
	e.sessions.add(p.flags == 1)
	return l, nil
}

// talk says all that a node says once it is connected, and answers until the
// connection or the current is gone.
func (e *esphome) talk(l *line, off chan struct{}) {
	id := uint16(0)
	next := func() uint16 { id++; return id }
	const retain, qos1, qos2 = 1, 2, 4
	subscribe := func(filter string, qos byte) {
		body := binary.BigEndian.AppendUint16(nil, next())
		l.send(0x82, append(append(body, text(filter)...), qos))
	}
	subscribe("esphome/discover", 2)
	subscribe("esphome/ping/"+e.name, 2)
	subscribe(e.name+"/switch/light/command", 0)
	facts := func() {
		l.publish(qos2|retain, next(), "esphome/discover/"+e.name, fmt.Sprintf(`{"ip":%q,"name":%q,"version":"2026.10.1","mac":"a4cf12ef3b70","platform":"ESP8266","board":"d1_mini","network":"wifi"}`, e.host.Address(), e.name))
	}
	facts()
	l.publish(qos1|retain, next(), e.topic("availability"), "online") // the birth
	l.publish(retain, 0, "homeassistant/switch/"+e.name+"/light/config", fmt.Sprintf(
		`{"name":"Light","stat_t":"%[1]s/switch/light/state","cmd_t":"%[1]s/switch/light/command","avty_t":"%[2]s","uniq_id":"ESPswitchlight","dev":{"ids":"a4cf12ef3b70","name":%[1]q,"sw":"esphome v2026.10.1","mdl":"d1_mini","mf":"Espressif","cns":[["mac","a4:cf:12:ef:3b:70"]]}}`, e.name, e.topic("availability")))
	l.publish(retain, 0, e.name+"/switch/light/state", "OFF")
	l.publish(retain, 0, e.name+"/debug", "[I][mqtt:310]: Connected")
	l.publish(qos1|retain, next(), e.topic("status"), fmt.Sprintf(
		`{"name":%q,"micro":true,"address":%q,"services":[{"service":%q,"state":"running","port":%d}]}`, e.name, e.host.Address(), e.service, e.port))

	packets, failed := make(chan packet), make(chan struct{})
	go func() {
		defer close(failed)
		for {
			p, err := l.read(2 * espKeepalive) // a broker that answers no ping is gone
			if err != nil {
				return
			}
			select {
			case packets <- p:
			case <-off:
				return
			}
		}
	}()
	ping := time.NewTicker(espKeepalive * 7 / 10)
	defer ping.Stop()
	var open []uint16 // delivered at QoS 2, not released yet
	for {
		select {
		case <-off:
			return
		case <-failed:
			return
		case <-ping.C:
			l.send(0xC0, nil)
		case p := <-packets:
			switch p.kind {
			case kindPingresp:
				e.pings.add("")
			case kindPubrec:
				l.answer(kindPubrel, p.id)
			case kindPubrel:
				open = slices.DeleteFunc(open, func(id uint16) bool { return id == p.id })
				l.answer(kindPubcomp, p.id)
			case kindPublish:
				again := p.qos() == 2 && slices.Contains(open, p.id)
				switch p.qos() {
				case 1:
					l.answer(kindPuback, p.id)
				case 2:
					l.answer(kindPubrec, p.id)
					open = append(open, p.id)
				}
				if again {
					continue
				}
				e.asked.add(p.topic)
				if p.topic == "esphome/discover" {
					facts()
				}
			}
		}
	}
}
