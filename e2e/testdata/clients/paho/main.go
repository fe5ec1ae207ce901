// Command paho lets paho of Go speak to the broker: HOST:PORT, MQTT 3.1.1.
//
// It prints each thing that went well and ends with 1 at the first that does
// not.
package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

const (
	prefix   = "clients/go"
	patience = time.Minute
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: paho HOST:PORT")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "paho:", err)
		os.Exit(1)
	}
}

// peer is one client; conn is what it speaks over.
type peer struct {
	mqtt.Client
	conn     net.Conn
	present  bool
	messages chan mqtt.Message
}

func connect(address, name string, keep bool, will string) (*peer, error) {
	p := &peer{messages: make(chan mqtt.Message, 100)}
	o := mqtt.NewClientOptions().AddBroker("tcp://" + address).SetClientID(prefix + name).SetCleanSession(!keep).
		SetAutoReconnect(false).SetProtocolVersion(4).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { p.messages <- m }).
		SetCustomOpenConnectionFn(func(u *url.URL, _ mqtt.ClientOptions) (c net.Conn, err error) {
			p.conn, err = net.DialTimeout("tcp", u.Host, patience)
			return p.conn, err
		})
	if will != "" {
		o.SetWill(will, "gone", 1, false)
	}
	p.Client = mqtt.NewClient(o)
	token := p.Client.Connect().(*mqtt.ConnectToken)
	if err := done(token); err != nil {
		return nil, err
	}
	p.present = token.SessionPresent()
	return p, nil
}

func done(t mqtt.Token) error {
	if !t.WaitTimeout(patience) {
		return errors.New("no acknowledgement")
	}
	return t.Error()
}

func (p *peer) expect(topic, payload string, qos byte, retain bool) error {
	select {
	case m := <-p.messages:
		if m.Topic() != topic || string(m.Payload()) != payload || m.Qos() != qos || m.Retained() != retain {
			return fmt.Errorf("got %s %q QoS %d retained %v, want %s %q QoS %d retained %v",
				m.Topic(), m.Payload(), m.Qos(), m.Retained(), topic, payload, qos, retain)
		}
		return nil
	case <-time.After(patience):
		return fmt.Errorf("%s %q does not come", topic, payload)
	}
}

func run(address string) error {
	a, err := connect(address, "a", false, "")
	if err != nil {
		return err
	}
	b, err := connect(address, "b", false, "")
	if err != nil {
		return err
	}
	for name, way := range map[string][2]*peer{"a": {a, b}, "b": {b, a}} {
		topic := prefix + "/qos/" + name
		if err := done(way[1].Subscribe(topic, 2, nil)); err != nil {
			return err
		}
		for qos := byte(0); qos <= 2; qos++ {
			text := fmt.Sprint("with ", qos)
			if err := errors.Join(done(way[0].Publish(topic, qos, false, text)), way[1].expect(topic, text, qos, false)); err != nil {
				return err
			}
		}
	}
	fmt.Println("qos")

	for qos := byte(0); qos <= 2; qos++ {
		topic := fmt.Sprint(prefix, "/retained/", qos)
		// QoS 0 has no acknowledgement of its own: another message has
		if err := errors.Join(done(a.Publish(topic, qos, true, "kept")), done(a.Publish(prefix+"/fence", 1, false, "")),
			done(b.Subscribe(topic, 2, nil)), b.expect(topic, "kept", qos, true),
			done(a.Publish(topic, qos, true, "")), b.expect(topic, "", qos, false)); err != nil {
			return err
		}
	}
	fmt.Println("retained")

	if err := done(b.Subscribe(prefix+"/will", 1, nil)); err != nil {
		return err
	}
	dies, err := connect(address, "dies", false, prefix+"/will")
	if err != nil {
		return err
	}
	dies.conn.Close()
	if err := b.expect(prefix+"/will", "gone", 1, false); err != nil {
		return err
	}
	fmt.Println("will")

	if err := session(address, a); err != nil {
		return err
	}
	fmt.Println("session")
	a.Disconnect(100)
	b.Disconnect(100)
	return nil
}

func session(address string, a *peer) error {
	const topic = prefix + "/queue"
	away, err := connect(address, "away", true, "")
	if err != nil {
		return err
	}
	if err := done(away.Subscribe(topic, 2, nil)); err != nil || away.present {
		return fmt.Errorf("a new session: there already: %v, %v", away.present, err)
	}
	away.Disconnect(100)
	for n := range 50 {
		if err := done(a.Publish(topic, byte(1+n/25), false, fmt.Sprint(n))); err != nil {
			return err
		}
	}
	if away, err = connect(address, "away", true, ""); err != nil {
		return err
	}
	defer away.Disconnect(100)
	if !away.present {
		return errors.New("the session is gone")
	}
	for n := range 50 {
		if err := away.expect(topic, fmt.Sprint(n), byte(1+n/25), false); err != nil {
			return err
		}
	}
	return nil
}
