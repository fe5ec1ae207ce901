package engine_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/store/storetest"
	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

// heap returns the bytes of live objects.
func heap() int {
	var s runtime.MemStats
	for range 3 { // also what finalizers and pools let go of
		runtime.GC()
	}
	runtime.ReadMemStats(&s)
	return int(s.HeapAlloc + s.StackInuse)
}

// inOwnProcess runs a test in a process of its own, where nothing that other tests left
// behind is collected meanwhile. It reports whether this is that process.
func inOwnProcess(t *testing.T) bool {
	const variable = "DOMINION_TEST_ALONE"
	if os.Getenv(variable) != "" {
		return true
	}
	parts := strings.Split(t.Name(), "/")
	for i := range parts {
		parts[i] = "^" + regexp.QuoteMeta(parts[i]) + "$"
	}
	cmd := exec.Command(os.Args[0], "-test.run", strings.Join(parts, "/"), "-test.v")
	cmd.Env = append(os.Environ(), variable+"=1")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()+" ") {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// What the account says of each kind of thing is what it takes up, within a
// factor: never much less, for then the limit is none, and not many times more.
func TestMemoryIsMeasured(t *testing.T) {
	restored := func(n int, session func(i int) store.SessionState) func(*testing.T) *engine.Engine {
		return func(t *testing.T) *engine.Engine {
			var state store.State
			for i := range n {
				state.Sessions = append(state.Sessions, session(i))
			}
			e, err := engine.New(engine.Options{Store: &storetest.Memory{}, State: state})
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
	}
	one := func(i int) store.SessionState {
		return store.SessionState{Session: store.Session{Client: fmt.Sprintf("client-%06d", i), User: "ada", Expiry: 1000, Disconnected: time.Now()}}
	}
	subscribed := func(n int, filter func(i int) string) func(*testing.T) *engine.Engine {
		return restored(1, func(int) store.SessionState {
			s := one(0)
			for i := range n {
				s.Subscriptions = append(s.Subscriptions, store.Subscribe{Client: s.Client, Filter: filter(i)})
			}
			return s
		})
	}
	queued := func(sessions, n, size int, shared bool) func(*testing.T) *engine.Engine {
		return func(t *testing.T) *engine.Engine {
			all := make([]*store.Message, n)
			message := func(i int) *store.Message {
				return &store.Message{Topic: fmt.Sprintf("some/topic/%d", i), Payload: make([]byte, size), QoS: 1}
			}
			return restored(sessions, func(i int) store.SessionState {
				s := one(i)
				for j := range n {
					m := all[j]
					if m == nil || !shared {
						m = message(j)
						all[j] = m
					}
					s.Queue = append(s.Queue, store.QueuedMessage{Enqueue: store.Enqueue{Client: s.Client, Seq: uint64(j + 1), Message: m, QoS: 1}})
				}
				return s
			})(t)
		}
	}
	for name, c := range map[string]struct {
		make func(*testing.T) *engine.Engine
		most float64 // the account may say so many times more
	}{
		"sessions":           {restored(20_000, one), 2},
		"filters":            {subscribed(16_384, func(i int) string { return fmt.Sprintf("%d/a", i) }), 2.5},
		"deep filters":       {subscribed(16_384, func(i int) string { return fmt.Sprintf("%d/+/b/+/c/+/d/e", i) }), 2},
		"filters that share": {subscribed(16_384, func(i int) string { return fmt.Sprintf("home/attic/+/sensors/%d", i) }), 7},
		"small messages":     {queued(1, 50_000, 16, false), 2},
		"large messages":     {queued(1, 100, 200_000, false), 1.3},
		"shared messages":    {queued(50, 100, 20_000, true), 2},
		"small shared":       {queued(50, 2000, 100, true), 8},
		"retained": {func(t *testing.T) *engine.Engine {
			e, err := engine.New(engine.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for i := range 50_000 {
				e.Publish(topics.Message{Topic: fmt.Sprintf("some/topic/of/%d", i), Payload: []byte("21.5"), Retain: true})
			}
			return e
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			if !inOwnProcess(t) {
				return
			}
			before := heap()
			e := c.make(t)
			is, said := heap()-before, e.Stats().Memory
			t.Logf("%d bytes of memory, the account says %d: %.2f", is, said, float64(said)/float64(is))
			if f := float64(said) / float64(is); f < 0.75 || f > c.most {
				t.Errorf("%d bytes of memory, the account says %d: %.2f times", is, said, f)
			}
			closeEngine(t, e)
		})
	}
}

// A connection counts for about what it takes up, and what is queued for it too.
func TestConnectionsAreMeasured(t *testing.T) {
	if !inOwnProcess(t) {
		return
	}
	e, addr := serve(t, engine.Options{})
	before := heap()
	const n = 200
	for i := range n {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		connect(t, conn, fmt.Sprint("c", i), user("ada"))
	}
	is, said := heap()-before, e.Stats().Memory
	// our own ends of them are in it too
	t.Logf("%d bytes a connection, the account says %d", is/n, said/n)
	if f := float64(said) / float64(is); f < 0.4 || f > 3 {
		t.Errorf("%d bytes of memory, the account says %d", is, said)
	}
}

// Whatever clients do, nothing is left in the account when they are gone.
func TestMemoryReturnsToZero(t *testing.T) {
	for seed := range uint64(20) {
		inBubble(t, engine.Options{Limits: engine.Limits{Memory: 2 << 20, MaxQueuedMessages: 50}, Store: &storetest.Memory{}}, func(t *testing.T, e *engine.Engine) {
			random := rand.New(rand.NewPCG(seed, 0))
			var all []*client
			var ids []string
			for range 300 {
				switch n := random.IntN(12); {
				case n < 3 || len(all) == 0:
					id := fmt.Sprint("c", random.IntN(8))
					settings := []setting{user([]string{"ada", "bob", ""}[random.IntN(3)]), will("w", strings.Repeat("w", random.IntN(5000)), 1, false, 0)}
					if random.IntN(2) == 0 {
						settings = append(settings, persistent)
					}
					c := handshake(t, pipe(t, e), id, append(settings, []setting{v5, func(*packet) {}}[random.IntN(2)])...)
					all, ids = append(all, c), append(ids, id)
					go func() { // reads for a while
						for range 20 {
							if _, _, err := c.frame(time.Second); err != nil {
								return
							}
						}
					}()
				case n < 6:
					all[random.IntN(len(all))].trySubscribe(byte(random.IntN(3)), []string{"#", "a/+", "a/b", "$share/g/a/+", "w"}[random.IntN(5)])
				case n < 7:
					all[random.IntN(len(all))].try(wire.AppendAck(nil, wire.Pubrel, wire.Ack{PacketID: uint16(random.IntN(5))}, 4))
				case n < 10:
					c := all[random.IntN(len(all))]
					o := wire.Outgoing{Flags: byte(random.IntN(3))<<1 | byte(random.IntN(2)), PacketID: uint16(1 + random.IntN(5)), Topic: fmt.Sprint("a/", random.IntN(3))}
					payload := make([]byte, random.IntN(60_000))
					o.Payload = len(payload)
					c.try(append(o.Append(nil, c.version), payload...))
				case n < 11:
					e.Publish(topics.Message{Topic: "a/b", Payload: make([]byte, random.IntN(60_000)), QoS: byte(random.IntN(3)), Retain: true})
				default:
					c := all[random.IntN(len(all))]
					_ = c.conn.Close()
				}
				if random.IntN(10) == 0 {
					time.Sleep(time.Second)
				}
			}
			for _, c := range all {
				_ = c.conn.Close()
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			for _, id := range ids {
				e.Forget(id, "the test ends")
			}
			for i := range 3 {
				e.Publish(topics.Message{Topic: fmt.Sprint("a/", i), Retain: true})
			}
			e.Publish(topics.Message{Topic: "a/b", Retain: true})
			time.Sleep(time.Minute)
			synctest.Wait()
			if n := e.Stats().Memory; n != 0 || engine.SharedMemory(e) != 0 {
				t.Errorf("seed %d: %d bytes are left in the account, %d shared", seed, n, engine.SharedMemory(e))
			}
		})
	}
}

// trySubscribe and try send to a broker that may have ended the connection.
func (c *client) trySubscribe(qos byte, filter string) {
	var b bytes.Buffer
	pk := packet{ProtocolVersion: c.version, PacketID: 9}
	pk.FixedHeader.Type, pk.FixedHeader.Qos = wire.Subscribe, 1
	pk.Filters = append(pk.Filters, subscription(filter, qos))
	if err := pk.SubscribeEncode(&b); err != nil {
		c.t.Fatal(err)
	}
	c.try(b.Bytes())
}

func (c *client) try(b []byte) {
	_ = c.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = c.conn.Write(b)
}

// One user who takes what there is, in each way there is, is refused; ten
// modest ones beside it are served as if it were not there.
func TestGreedyUser(t *testing.T) {
	var mu sync.Mutex
	noticed := make(map[string]int)
	o := engine.Options{
		Limits: engine.Limits{Memory: 8 << 20},
		Notice: func(c engine.Client, topic, what string) {
			mu.Lock()
			defer mu.Unlock()
			if c.User != "greedy" {
				t.Errorf("noticed of %s (user %q) at %s: %s", c.ID, c.User, topic, what)
			}
			if !strings.Contains(what, "broker.limits.") {
				t.Errorf("%q names no key", what)
			}
			noticed[strings.SplitN(what, ":", 2)[0]]++
		},
	}
	inBubble(t, o, func(t *testing.T, e *engine.Engine) {
		for i := range 400 {
			c := handshake(t, pipe(t, e), fmt.Sprint("greedy-", i), user("greedy"), expiry(100_000))
			if c.nextAsText() != "CONNACK 0 present false" {
				continue
			}
			// filters
			for j := range 40 {
				c.trySubscribe(1, fmt.Sprintf("greedy/%d/%d/a/b/c/d/e", i, j))
			}
			c.trySubscribe(0, "flood/#")
			// retained
			for j := range 10 {
				c.publish(0, fmt.Sprintf("greedy/%d/%d", i, j), strings.Repeat("x", 1000), true)
			}
			if i%2 == 0 {
				_ = c.conn.Close()
			}
		}
		for i := range 300 { // what nobody of them reads
			e.Publish(topics.Message{Topic: fmt.Sprint("flood/", i), Payload: make([]byte, 10_000)})
		}
		for i := range 10 {
			name := fmt.Sprint("modest-", i)
			c := connect(t, pipe(t, e), name, user(name), v5)
			c.subscribeAndWait(1, name+"/#")
			for j := range 50 {
				c.subscribe(subscription(fmt.Sprintf("%s/%d", name, j), 0))
				c.expect("SUBACK 00")
			}
			c.publish(0, name+"/x", strings.Repeat("y", 20_000), true)
			c.expect(name + "/x " + strings.Repeat("y", 20_000))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		s := e.Stats()
		if s.Memory > 10<<20 || s.MemoryRefused == 0 {
			t.Errorf("%d bytes, %d refused", s.Memory, s.MemoryRefused)
		}
		for _, what := range []string{"a subscription is refused", "not retained", "a message to it is dropped"} {
			if noticed[what] == 0 {
				t.Errorf("%q was not noticed: %v", what, noticed)
			}
		}
	})
}

// A user who takes what there is before others come makes room for them:
// sessions of it end, the ones that have most first.
func TestGreedyUserMakesRoom(t *testing.T) {
	inBubble(t, engine.Options{Limits: engine.Limits{Memory: 4 << 20}, UserLimits: engine.UserLimits{Memory: 4 << 20}}, func(t *testing.T, e *engine.Engine) {
		for i := range 20 {
			c := connect(t, pipe(t, e), fmt.Sprint("greedy-", i), user("greedy"), expiry(100_000))
			for j := range 100 {
				c.trySubscribe(1, fmt.Sprintf("greedy/%d/%d/a/b/c/d/e", i, j))
			}
			_ = c.conn.Close()
		}
		small := connect(t, pipe(t, e), "greedy-small", user("greedy"), persistent)
		small.subscribeAndWait(1, "a")
		small.disconnect()
		c := connect(t, pipe(t, e), "modest", user("modest"), v5)
		for j := range 400 {
			c.subscribe(subscription(fmt.Sprintf("modest/%d/a/b/c/d", j), 0))
			c.expect("SUBACK 00")
		}
		time.Sleep(time.Second)
		s := e.Stats()
		if s.Memory > 4<<20 || s.MemoryEnded == 0 {
			t.Errorf("%d bytes, %d ended", s.Memory, s.MemoryEnded)
		}
		left := make(map[string]bool)
		for _, s := range e.Sessions() {
			left[s.ID] = true
		}
		if !left["greedy-small"] || !left["modest"] || len(left) < 5 {
			t.Errorf("left are %v", left)
		}
	})
}

// At a start with more than there is room for, the user who has most loses the
// sessions that have most, and their wills are sent; nobody else loses any.
func TestGreedyAtTheStart(t *testing.T) {
	inBubble(t, engine.Options{}, func(t *testing.T, _ *engine.Engine) {
		disk := &storetest.Memory{}
		make_ := func(id, user string, filters int) {
			records := []store.Record{store.Session{Client: id, User: user, HasUser: true, Version: 5, Expiry: 1000, Disconnected: time.Now()}}
			for i := range filters {
				records = append(records, store.Subscribe{Client: id, Filter: fmt.Sprintf("%s/%d/a/b/c/d", id, i)})
			}
			if id == "greedy-7" {
				records = append(records, store.Will{Client: id, Delay: 1, Message: &store.Message{Topic: "will", Payload: []byte("gone")}})
			}
			disk.Append(records, nil)
		}
		for i := range 30 {
			make_(fmt.Sprint("greedy-", i), "greedy", 100)
		}
		make_("greedy-small", "greedy", 1)
		for i := range 10 {
			make_(fmt.Sprint("modest-", i), fmt.Sprint("modest-", i), 10)
		}
		synctest.Wait()
		e, err := engine.New(engine.Options{Store: disk, State: disk.State(), Limits: engine.Limits{Memory: 3 << 20}})
		if err != nil {
			t.Fatal(err)
		}
		defer closeEngine(t, e)
		sub := connect(t, pipe(t, e), "sub", user("modest-0"))
		sub.subscribeAndWait(0, "will")
		if n := e.Stats().Memory; n > 3<<20 {
			t.Errorf("%d bytes", n)
		}
		synctest.Wait()
		modest, greedy := 0, 0
		small := false
		for _, s := range e.Sessions() {
			switch {
			case s.User == "greedy" && s.Subscriptions > 0:
				greedy++
				small = small || s.ID == "greedy-small"
			case s.ID != "sub" && s.Subscriptions == 10:
				modest++
			}
		}
		if modest != 10 || !small || greedy < 3 || greedy > 20 {
			t.Errorf("%d modest sessions, %d greedy ones, the small one %v", modest, greedy, small)
		}
		time.Sleep(25 * time.Second) // clients have 30 s to come back
		sub.expect("will gone")
		synctest.Wait()
		if n := len(disk.State().Sessions); n != modest+greedy {
			t.Errorf("%d sessions are stored", n)
		}
	})
}

// A connection and its session are allocated in the classes of 768 and 384 bytes,
// where the allocator has 8 bytes of its own in what is larger than 512. The next
// ones have 896 and 416, for each client.
func TestSizeClasses(t *testing.T) {
	if engine.SizeOfConn > 768-8 || engine.SizeOfSession > 384 {
		t.Errorf("a connection has %d bytes, a session %d", engine.SizeOfConn, engine.SizeOfSession)
	}
}
