package e2e

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

// relay is a machine between domains and their broker: it ends their connections with a
// certificate of its own and passes each MQTT packet on. It reads, changes and holds back the
// messages of adoptions.
type relay struct {
	*Host
	// upstream is the broker's address.
	upstream string
	// server is its own certificate, and secure how it connects to the broker; nil: without TLS.
	server, secure *tls.Config
	// messages are all messages that it was given, as they came.
	messages *feed[relayed]

	mu sync.Mutex
	// alter may change a message of an adoption. It returns false to hold it and all that
	// follows back until the connection ends. nil: all is passed on.
	alter func(*relayed) bool
	conns []net.Conn
}

// relayed is a PUBLISH that a relay was given. If it is of an adoption, one of toHub and
// toDomain is there.
type relayed struct {
	// fromDomain is set if a domain sent it.
	fromDomain bool
	topic      string
	payload    []byte
	toHub      *adoption.ToHub
	toDomain   *adoption.ToDomain
}

// kind returns which message of an adoption it is; "": none.
func (r relayed) kind() string {
	if m := r.toHub; m != nil {
		switch {
		case m.Question != nil:
			return "question"
		case m.Proof != nil:
			return "proof"
		}
		return "confirmation"
	}
	if m := r.toDomain; m != nil {
		switch {
		case m.Answer != nil:
			return "answer"
		case m.Completion != nil:
			return "completion"
		}
		return "refusal"
	}
	return ""
}

// newRelay adds a machine that relays from the port of its own address to a broker. server is
// nil for connections without TLS.
func (h *Home) newRelay(name, upstream string, server *tls.Config) *relay {
	h.t.Helper()
	r := &relay{Host: h.Host(name), upstream: upstream, server: server, messages: newFeed[relayed]()}
	port := "1883"
	if server != nil {
		port, r.secure = "8883", &tls.Config{InsecureSkipVerify: true}
	}
	var l net.Listener
	h.must(r.in(func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(r.Address(), port))
		return err
	}))
	h.t.Cleanup(func() { l.Close(); r.cut() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go r.serve(c)
		}
	}()
	return r
}

// set replaces what changes messages.
func (r *relay) set(alter func(*relayed) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alter = alter
}

// cut ends all connections.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		c.Close()
	}
	r.conns = nil
}

// serve relays one connection.
func (r *relay) serve(c net.Conn) {
	defer c.Close()
	up, err := r.Dial("tcp", r.upstream)
	if err != nil {
		return
	}
	defer up.Close()
	if r.server != nil {
		c, up = tls.Server(c, r.server), tls.Client(up, r.secure)
	}
	r.mu.Lock()
	r.conns = append(r.conns, c, up)
	r.mu.Unlock()
	var version atomic.Uint32
	done := make(chan struct{}, 2)
	end := func() { c.Close(); up.Close(); done <- struct{}{} }
	go func() { defer end(); r.pump(c, up, true, &version) }()
	go func() { defer end(); r.pump(up, c, false, &version) }()
	<-done
	<-done
}

// pump passes packets on until there are no more. version is that of the connection's CONNECT.
func (r *relay) pump(from io.Reader, to io.Writer, fromDomain bool, version *atomic.Uint32) {
	in := bufio.NewReader(from)
	for {
		kind, body, err := readPacket(in)
		if err != nil {
			return
		}
		switch kind >> 4 {
		case 1: // CONNECT: the name of the protocol, its version
			version.Store(uint32(body[2+binary.BigEndian.Uint16(body)]))
		case 3:
			passOn := true
			if body, passOn = r.publish(body, kind>>1&3 > 0, version.Load() == 5, fromDomain); !passOn {
				_, _ = io.Copy(io.Discard, in) // until the connection ends
				return
			}
		}
		packet := binary.AppendUvarint([]byte{kind}, uint64(len(body)))
		if _, err := to.Write(append(packet, body...)); err != nil {
			return
		}
	}
}

// publish returns a PUBLISH as it is passed on.
func (r *relay) publish(body []byte, hasID, hasProperties, fromDomain bool) (changed []byte, passOn bool) {
	at := 2 + int(binary.BigEndian.Uint16(body))
	m := relayed{fromDomain: fromDomain, topic: string(body[2:at])}
	if hasID {
		at += 2
	}
	if hasProperties {
		size, n := binary.Uvarint(body[at:])
		at += n + int(size)
	}
	m.payload = slices.Clone(body[at:])
	if fromDomain && adoption.IsAdoption(m.payload) {
		if v, err := adoption.DecodeToHub(m.topic, m.payload); err == nil {
			m.toHub = &v
		}
	} else if v, err := adoption.DecodeToDomain(m.topic, m.payload); !fromDomain && err == nil {
		m.toDomain = &v
	}
	r.mu.Lock()
	alter := r.alter
	r.mu.Unlock()
	r.messages.add(m)
	if alter == nil || m.kind() == "" {
		return body, true
	}
	if !alter(&m) {
		return nil, false
	}
	var payload []byte
	if m.toHub != nil {
		payload = topics.Encode(*m.toHub)
	} else {
		payload = topics.Encode(*m.toDomain)
	}
	return append(slices.Clone(body[:at]), payload...), true
}

// await waits for a message of an adoption, given since a number of messages.
func (r *relay) await(since int, kind string) relayed {
	r.t.Helper()
	m, ok := r.messages.await(patience, since, func(m relayed) bool { return m.kind() == kind })
	if !ok {
		r.t.Fatalf("%s: no %s came within %v", r.Name, kind, patience)
	}
	return m
}

// count returns how many messages of a kind came since a number of messages.
func (r *relay) count(since int, kind string) (n int) {
	all, _ := r.messages.from(since)
	for _, m := range all {
		if m.kind() == kind {
			n++
		}
	}
	return n
}

// hubLine is the line of domain.toml by which a domain asks at the relay.
func (r *relay) hubLine() string {
	if r.server != nil {
		return fmt.Sprintf("hub = \"mqtts://%s:8883\"\n", r.Address())
	}
	return fmt.Sprintf("hub = \"mqtt://%s:1883\"\n", r.Address())
}
