package engine_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/store/storetest"
	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

// meteringStore is a store that counts what it would write: records, and each message
// once; and two pages for each sync, of which there is one in 100 ms at most.
type meteringStore struct {
	storetest.Memory
	mu      sync.Mutex
	bytes   int
	written map[*store.Message]bool
	synced  time.Time
}

const (
	syncedEach = 100 * time.Millisecond
	syncedCost = 8 << 10
)

func (s *meteringStore) Append(records []store.Record, done func(error)) {
	s.mu.Lock()
	if s.written == nil {
		s.written = make(map[*store.Message]bool)
	}
	for _, r := range records {
		s.bytes += s.size(r)
	}
	if now := time.Now(); len(records) > 0 && now.Sub(s.synced) >= syncedEach {
		s.synced = now
		s.bytes += syncedCost
	}
	if len(s.written) > 100_000 {
		clear(s.written)
	}
	s.mu.Unlock()
	s.Memory.Append(records, done)
}

func (s *meteringStore) size(r store.Record) int {
	const fields = 20
	body := func(m *store.Message) int {
		if m == nil || s.written[m] {
			return 0
		}
		s.written[m] = true
		return len(m.Topic) + len(m.Payload) + len(m.Publisher) + fields
	}
	switch r := r.(type) {
	case store.Retain:
		return fields + len(r.Topic) + body(r.Message)
	case store.Session:
		return fields + len(r.Client) + len(r.User) + len(r.Listener)
	case store.SessionGone:
		return fields + len(r.Client)
	case store.Subscribe:
		return fields + len(r.Client) + len(r.Filter)
	case store.Unsubscribe:
		return fields + len(r.Client) + len(r.Filter)
	case store.Enqueue:
		return fields + len(r.Client) + body(r.Message)
	case store.Will:
		return fields + len(r.Client) + body(r.Message)
	case store.Dequeue:
		return fields + len(r.Client)
	case store.Sent:
		return fields + len(r.Client)
	case store.Received:
		return fields + len(r.Client)
	case store.Released:
		return fields + len(r.Client)
	}
	panic(fmt.Sprintf("%T is not measured", r))
}

// take returns what was written since it was called last.
func (s *meteringStore) take() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.bytes
	s.bytes = 0
	return n
}

const written = 100_000_000

func isAdmin(c engine.Client) bool { return c.User == "admin" }

// TestADayOfTheWorstClients measures what one user's clients make the broker
// write in a day of virtual time, for each way in which a client can.
func TestADayOfTheWorstClients(t *testing.T) {
	const pause = 4 * time.Second // from one time that a client does something to the next
	for name, each := range map[string]func(t *testing.T, e *engine.Engine) (each func(n int)){
		"retained values": func(t *testing.T, e *engine.Engine) func(int) {
			c := connect(t, pipe(t, e), "c", v5, user("lamp"))
			return func(n int) {
				for i := range 5 {
					c.publish(0, fmt.Sprint("lamp/", i), strings.Repeat("x", 1000)+fmt.Sprint(n), true)
				}
			}
		},
		"a value that flaps": func(t *testing.T, e *engine.Engine) func(int) {
			c := connect(t, pipe(t, e), "c", v5, user("lamp"))
			return func(n int) { c.publish(0, "lamp/health", fmt.Sprint(n%2), true) }
		},
		"values that come and go": func(t *testing.T, e *engine.Engine) func(int) {
			c := connect(t, pipe(t, e), "c", v5, user("lamp"))
			return func(n int) {
				c.publish(0, fmt.Sprint("lamp/", n), "x", true)
				c.publish(0, fmt.Sprint("lamp/", n), "", true)
			}
		},
		"values of the program's own": func(t *testing.T, e *engine.Engine) func(int) {
			return func(n int) {
				e.Publish(topics.Message{Topic: "service/web/status", Payload: []byte(fmt.Sprint(n, strings.Repeat("x", 1000))), QoS: 1, Retain: true})
			}
		},
		"the status of a domain whose agent has no limit": func(t *testing.T, e *engine.Engine) func(int) {
			c := startReader(connect(t, pipe(t, e), "c", user("admin")))
			return func(n int) { c.try(1, "status/kitchen", fmt.Sprint("STATUS=", n), true) }
		},
		"retained values of QoS 1": func(t *testing.T, e *engine.Engine) func(int) {
			c := startReader(connect(t, pipe(t, e), "c", user("lamp")))
			return func(n int) { c.try(1, "lamp/1", fmt.Sprint(n), true) }
		},
		"queued messages": func(t *testing.T, e *engine.Engine) func(int) {
			sub := connect(t, pipe(t, e), "sub", persistent, user("admin"))
			sub.subscribeAndWait(1, "q/#")
			startReader(sub)
			c := startReader(connect(t, pipe(t, e), "c", user("lamp")))
			return func(n int) { c.try(1, "q/1", strings.Repeat("x", 5000), false) }
		},
		"messages of others that it has queued": func(t *testing.T, e *engine.Engine) func(int) {
			sub := connect(t, pipe(t, e), "sub", persistent, user("reader"))
			sub.subscribeAndWait(1, "q/#")
			startReader(sub)
			c := startReader(connect(t, pipe(t, e), "c", user("admin")))
			return func(n int) { c.try(1, "q/1", strings.Repeat("x", 5000), false) }
		},
		"connecting with a will": func(t *testing.T, e *engine.Engine) func(int) {
			return func(n int) {
				conn := pipe(t, e)
				startReader(handshake(t, conn, "c", user("lamp"), will("w", strings.Repeat("x", 5000), 1, true, 0)))
				time.Sleep(pause / 2)
				_ = conn.Close()
			}
		},
		"ever new sessions": func(t *testing.T, e *engine.Engine) func(int) {
			return func(n int) {
				conn := pipe(t, e)
				startReader(handshake(t, conn, fmt.Sprint("c", n%2000), persistent, user("reader")))
				time.Sleep(pause / 2)
				_ = conn.Close()
			}
		},
		"subscribing": func(t *testing.T, e *engine.Engine) func(int) {
			c := startReader(connect(t, pipe(t, e), "c", persistent, user("reader")))
			return func(n int) { c.trySubscribe(fmt.Sprint("a/", n%1000)) }
		},
		"replays": func(t *testing.T, e *engine.Engine) func(int) {
			for i := range 50 {
				e.Publish(topics.Message{Topic: fmt.Sprint("v/", i), Payload: []byte("x"), QoS: 1, Retain: true})
			}
			c := startReader(connect(t, pipe(t, e), "c", persistent, user("reader")))
			return func(n int) { c.trySubscribe("v/#") }
		},
		"messages of QoS 2": func(t *testing.T, e *engine.Engine) func(int) {
			c := startReader(connect(t, pipe(t, e), "c", persistent, user("lamp")))
			return func(n int) { c.try(2, "q/1", "x", false) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			measure := func(limit int, span time.Duration) (bytes int) {
				kept := &meteringStore{}
				inBubble(t, engine.Options{
					Store: kept, Unlimited: isAdmin,
					ChargeProgram: func(topic string) bool { return strings.HasPrefix(topic, "status/") },
					UserLimits:    engine.UserLimits{Clients: 1000, WrittenBytes: limit},
				}, func(t *testing.T, e *engine.Engine) {
					do := each(t, e)
					kept.take()
					for n, began := 0, time.Now(); time.Since(began) < span; n++ {
						do(n)
						time.Sleep(pause)
					}
					synctest.Wait()
					bytes = kept.take()
				})
				return bytes
			}
			free := measure(0, time.Hour) * 24
			limited := measure(written, 24*time.Hour)
			t.Logf("a day: %.1f MB, without the limit %.1f MB", float64(limited)/1e6, float64(free)/1e6)
			if free <= written {
				t.Errorf("%d bytes would be written in a day without a limit: this measures nothing", free)
			}
			if limited > written {
				t.Errorf("%d bytes were written in a day, more than %d", limited, written)
			}
		})
	}
}

// startReader is a client that reads and acknowledges what comes, and is not
// surprised by any of it.
func startReader(c *client) *backgroundReader {
	f := &backgroundReader{client: c}
	_ = c.conn.SetDeadline(time.Time{})
	go f.read()
	return f
}

type backgroundReader struct {
	*client
	writing sync.Mutex
}

func (f *backgroundReader) read() {
	for b := []byte(nil); ; {
		p := make([]byte, 4096)
		n, err := f.conn.Read(p)
		if err != nil {
			return
		}
		for b = append(b, p[:n]...); ; {
			first, start, end, more, err := wire.Frame(b)
			if err != nil || more || end > len(b) {
				break
			}
			f.answer(first, b[start:end])
			b = b[end:]
		}
	}
}

func (f *backgroundReader) answer(first byte, body []byte) {
	switch kind := first >> 4; kind {
	case wire.PublishType:
		if first>>1&3 == 1 {
			var p wire.Publish
			if p.Decode(first, body, f.version) == nil {
				f.acknowledge(wire.AppendAck(nil, wire.Puback, wire.Ack{PacketID: p.PacketID}, f.version))
			}
		}
	case wire.Pubrec:
		if a, err := wire.DecodeAck(kind, body, f.version); err == nil {
			f.acknowledge(wire.AppendAck(nil, wire.Pubrel, wire.Ack{PacketID: a.PacketID}, f.version))
		}
	}
}

func (f *backgroundReader) acknowledge(b []byte) {
	f.writing.Lock()
	defer f.writing.Unlock()
	_, _ = f.conn.Write(b)
}

// write writes beside the caller, and nothing while the server does not read.
func (f *backgroundReader) write(b []byte) {
	if !f.writing.TryLock() {
		return
	}
	go func() {
		defer f.writing.Unlock()
		_, _ = f.conn.Write(b)
	}()
}

func (f *backgroundReader) try(qos byte, topic, payload string, retain bool) {
	o := wire.Outgoing{Flags: qos << 1, Topic: topic, Payload: len(payload)}
	if retain {
		o.Flags |= wire.FlagRetain
	}
	f.id++
	o.PacketID = max(f.id, 1)
	f.write(append(o.Append(nil, f.version), payload...))
}

func (f *backgroundReader) trySubscribe(filter string) {
	f.id++
	pk := packets.Packet{ProtocolVersion: f.version, PacketID: max(f.id, 1), Filters: packets.Subscriptions{{Filter: filter, Qos: 1}}, FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}}
	var b bytes.Buffer
	if pk.SubscribeEncode(&b) == nil {
		f.write(b.Bytes())
	}
}
