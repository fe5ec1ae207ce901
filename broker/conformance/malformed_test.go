package conformance

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// wholePackets are well made packets of every kind, those of a server too.
func wholePackets(version byte, r *rand.Rand) [][]byte {
	c := &client{version: version}
	p := &probe{version: version}
	id := uint16(1 + r.IntN(9))
	many := []property{number(propFormat, 1), number(propMessageExpiry, 9), text(propContentType, "t"), text(propResponseTopic, "r"), text(propCorrelation, "c"), user("a", "b"), user("a", "c"), number(propTopicAlias, 1)}
	options := []option{
		will("w/x", "bye", byte(r.IntN(3))<<3, number(propWillDelay, 1), user("w", "w")), account("ann", "s3cret"), keepAlive(r.IntN(3)),
	}
	if version == 5 {
		options = append(options, with(number(propSessionExpiry, 1), number(propReceiveMaximum, 2), number(propMaximumPacket, 1000), number(propTopicAliasMaximum, 3), number(propRequestProblem, 0), user("a", "b")))
	}
	all := [][]byte{
		p.connectPacket("x"), p.connectPacket("xy", options...), p.connectPacket("", options...),
		c.publishPacket(message{topic: "f/a", payload: "x", properties: many}),
		c.publishPacket(message{topic: "f/a", payload: "x", qos: 1, id: id, retain: true, properties: many}),
		c.publishPacket(message{topic: "f/b", payload: "long enough to be cut", qos: 2, id: id}),
		c.subscribePacket(id, nil, wish{"f/#", 2}, wish{"+/a", 1}, wish{"$share/g/f/+", 0}),
		c.unsubscribePacket(id, "f/#", "f/+"),
		raw(PINGREQ<<4, 0), raw(DISCONNECT<<4, 0), raw(PINGRESP<<4, 0),
		frame(CONNACK<<4, raw(0, 0), encode(version)), frame(SUBACK<<4, short(int(id)), encode(version), raw(0, 1)), frame(UNSUBACK<<4, short(int(id)), encode(version), raw(0)),
	}
	for kind := PUBACK; kind <= PUBCOMP; kind++ {
		all = append(all, ack(kind, id))
		if version == 5 {
			all = append(all, frame(ack(kind, id)[0], short(int(id)), raw(0x80), encode(5, text(propReasonString, "why"), user("a", "b"))))
		}
	}
	if version == 5 {
		all = append(all, c.subscribePacket(id, []property{number(propSubscriptionID, 300), user("a", "b")}, wish{"f/#", 2 | asPublished}),
			frame(DISCONNECT<<4, raw(4), encode(5, number(propSessionExpiry, 5), text(propReasonString, "why"))),
			frame(AUTH<<4, raw(0x18), encode(5, text(propAuthMethod, "m"), text(propAuthData, "d"))))
	}
	return all
}

// corrupt makes a packet into one that is most likely malformed.
func corrupt(r *rand.Rand, whole []byte) []byte {
	first, body := whole[0], append([]byte{}, whole[2:]...) // none is longer than 127 bytes
	if whole[1]&0x80 != 0 {
		body = body[1:]
	}
	at := func() int { return r.IntN(len(body) + 1) }
	for range 1 + r.IntN(2) {
		switch i := at(); r.IntN(9) {
		case 0:
			body = body[:i]
		case 1:
			body = append(body[:i:i], append([]byte{byte(r.Uint32())}, body[i:]...)...)
		case 2:
			if i < len(body) {
				body[i] ^= 1 << r.IntN(8)
			}
		case 3:
			if i < len(body) {
				body[i] = []byte{0, 1, 0x7f, 0x80, 0xff, '#', '+'}[r.IntN(7)]
			}
		case 4:
			if i < len(body) {
				body = append(body[:i:i], body[i+1:]...)
			}
		case 5:
			first ^= 1 << r.IntN(4) // flags
		case 6:
			first = byte(r.IntN(16))<<4 | first&15 // another kind
		case 7:
			body = append(body, body[i:]...)
		case 8:
			for j := i; j < len(body) && j < i+4; j++ {
				body[j] = byte(r.Uint32())
			}
		}
	}
	out := sized(first, body)
	if r.IntN(8) == 0 { // a remaining length that is not true
		out[1] = byte(r.Uint32())
	}
	return out
}

// inflict sends bytes by a connection of their own, after a CONNECT or instead
// of one, ends what it has to say, and reads all that the server says to it.
func inflict(to *target, version byte, connected bool, sent []byte) error {
	conn, err := net.DialTimeout("tcp", to.address, patience)
	if err != nil {
		return fmt.Errorf("cannot connect any more: %w", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * patience))
	if connected {
		p := &probe{version: version}
		if _, err := conn.Write(p.connectPacket("")); err != nil {
			return err
		}
		if got, err := parse(conn, version); err != nil || got.kind != CONNACK {
			return fmt.Errorf("a good CONNECT is answered %v, %w", got, err)
		}
	}
	_, _ = conn.Write(sent)
	_ = conn.(*net.TCPConn).CloseWrite()
	for {
		var got packet
		if connected {
			got, err = parse(conn, version)
		} else { // the version may have been spoilt
			_, err = conn.Read(make([]byte, 100))
		}
		var network net.Error
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("the connection does not end, last came %v", got)
		case errors.Is(err, io.EOF), errors.As(err, &network), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		default:
			return err
		}
	}
}

// bystanders are two clients that must not notice what others do.
type bystanders struct {
	from, to *client
	n        int
}

func newBystanders(p *probe) *bystanders {
	p.version = 5
	b := &bystanders{from: p.connectAs("bystander-from-" + p.name), to: p.connectAs("bystander-to-" + p.name)}
	b.to.subscribe("bystanders/"+p.name, 2)
	return b
}

// talk sends a message from one to the other with each QoS.
func (b *bystanders) talk() {
	for qos := byte(0); qos < 3; qos++ {
		b.n++
		b.from.publish("bystanders/"+b.from.probe.name, fmt.Sprint(b.n), qos)
		b.to.gets(fmt.Sprint(b.n))
	}
}

// TestMalformed ends connections in thousands of ways; nobody else notices.
func TestMalformed(t *testing.T) {
	const rounds, each = 100, 50
	for name, start := range servers() {
		t.Run(name, func(t *testing.T) {
			to := start(t)
			failed := try(t, to, 5, "", func(p *probe) {
				b := newBystanders(p)
				for round := range uint64(rounds) {
					var all sync.WaitGroup
					faults := make(chan string, each)
					for i := range uint64(each) {
						all.Go(func() {
							r := rand.New(rand.NewPCG(round, i))
							version := byte(4 + r.IntN(2))
							whole := wholePackets(version, r)
							sent := corrupt(r, whole[r.IntN(len(whole))])
							connected := sent[0]>>4 != CONNECT || r.IntN(4) == 0
							if err := inflict(to, version, connected, sent); err != nil {
								faults <- fmt.Sprintf("seed %d, %d, version %d, connected %v: %v after\n%s", round, i, version, connected, err, hex.Dump(sent))
							}
						})
					}
					all.Wait()
					close(faults)
					for f := range faults {
						t.Error(f)
					}
					b.talk()
					p.connect().quiet() // and newcomers are welcome
				}
			})
			if failed != "" {
				t.Errorf("others noticed: %s", failed)
			}
		})
	}
}

// FuzzMalformed does the same to our engine with what the fuzzer makes up.
func FuzzMalformed(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, version := range []byte{4, 5} {
		for _, whole := range wholePackets(version, r) {
			f.Add(version == 5, whole[0]>>4 != CONNECT, whole)
			f.Add(version == 5, whole[0]>>4 != CONNECT, corrupt(r, whole))
		}
	}
	to := embedded(f)
	f.Fuzz(func(t *testing.T, v5, connected bool, sent []byte) {
		version := byte(4)
		if v5 {
			version = 5
		}
		if err := inflict(to, version, connected, sent); err != nil {
			t.Fatal(err)
		}
		if failed := try(t, to, 5, "", func(p *probe) { newBystanders(p).talk() }); failed != "" {
			t.Fatal(failed)
		}
	})
}
