package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/bridge"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/topics"
)

// side is a broker with all that was published to it.
type side struct {
	*broker.Broker
	mu  sync.Mutex
	all []string
}

func start(t *testing.T, dir string) *side {
	t.Helper()
	return startWith(t, broker.Config{DataDir: dir})
}

func startWith(t *testing.T, c broker.Config) *side {
	t.Helper()
	b, err := broker.New(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := &side{Broker: b}
	if err := b.Subscribe("#", func(m topics.Message) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all = append(s.all, fmt.Sprintf("%s %s %d", m.Topic, m.Payload, m.QoS))
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *side) stop(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// saw returns what was published since the last call.
func (s *side) saw() []string {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.all
	s.all = nil
	return all
}

func (s *side) expect(t *testing.T, want ...string) {
	t.Helper()
	if got := s.saw(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func (s *side) say(topic, payload string, retain bool) {
	s.Publish(topics.Message{Topic: topic, Payload: []byte(payload), QoS: 1, Retain: retain})
}

// home is two brokers and a bridge that runs at the first.
type home struct {
	here, there *side
	down        atomic.Bool // the other one cannot be reached
	up          atomic.Bool
	cut         atomic.Pointer[net.Conn]
	stalled     atomic.Bool // the other one takes nothing
	dropped     atomic.Int64
	bridge      *bridge.Bridge
	dials       atomic.Int64
	user        string                  // of the other broker, as whom the bridge connects there
	localUser   string                  // of ours
	between     func(net.Conn) net.Conn // the broker's end of a connection to the other one
}

// slow is a connection that stands still while it is told to.
type slow struct {
	net.Conn
	h *home
}

func (s slow) Write(b []byte) (int, error) {
	for s.h.stalled.Load() {
		time.Sleep(100 * time.Millisecond)
	}
	return s.Conn.Write(b)
}

func (h *home) run(t *testing.T, rules ...bridge.Rule) (stop func()) {
	t.Helper()
	b := bridge.New(bridge.Config{
		Name: "attic", Prefix: "dominion", Rules: rules, Log: slog.New(slog.DiscardHandler),
		Remote: client.Options{Dial: func(ctx context.Context) (net.Conn, error) {
			if h.down.Load() {
				return nil, errors.New("no route to host")
			}
			ours, theirs := net.Pipe()
			h.dials.Add(1)
			if h.between != nil {
				theirs = h.between(theirs)
			}
			h.there.ServeAs(theirs, h.user)
			h.cut.Store(&ours)
			return slow{ours, h}, nil
		}},
		Local: func(context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			h.here.ServeAs(theirs, h.localUser)
			return ours, nil
		},
		Dropped: func(topic, why string) { // as hub does
			h.dropped.Add(1)
			h.here.CountDropped(bridge.LocalID("attic"), topic, why)
		},
		State: func(up bool, _ string) { h.up.Store(up) },
	})
	h.bridge = b
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); b.Run(ctx) }()
	time.Sleep(3 * time.Second) // of the bubble's clock
	return func() { cancel(); <-ended }
}

func bubble(t *testing.T, test func(t *testing.T, h *home)) {
	synctest.Test(t, func(t *testing.T) {
		h := &home{here: start(t, t.TempDir()), there: start(t, t.TempDir())}
		test(t, h)
		h.here.stop(t)
		h.there.stop(t)
	})
}

func TestDirectionsAndPrefixes(t *testing.T) {
	bubble(t, func(t *testing.T, h *home) {
		h.there.say("zigbee2mqtt/lamp", "on", true)
		h.here.say("out/kept", "old", true)
		stop := h.run(t,
			bridge.Rule{Filter: "zigbee2mqtt/#", In: true, QoS: 1, LocalPrefix: "attic/"},
			bridge.Rule{Filter: "#", Out: true, QoS: 0, LocalPrefix: "out/", RemotePrefix: "from/cottage/"},
		)
		if !h.up.Load() {
			t.Error("it does not say that it carries")
		}
		// What was retained comes, too, and stays retained.
		h.here.expect(t, "out/kept old 1", "attic/zigbee2mqtt/lamp on 1")
		h.there.expect(t, "zigbee2mqtt/lamp on 1", "from/cottage/kept old 0")
		h.there.say("zigbee2mqtt/lamp", "off", false)
		h.here.say("out/a/b", "1", false)
		h.here.say("other", "2", false)
		h.there.say("from/cottage/x", "3", false) // is not ours to hear
		h.here.expect(t, "out/a/b 1 1", "other 2 1", "attic/zigbee2mqtt/lamp off 1")
		h.there.expect(t, "zigbee2mqtt/lamp off 1", "from/cottage/x 3 1", "from/cottage/a/b 1 0")
		stop()
	})
}

// What goes both ways goes once.
func TestNoLoop(t *testing.T) {
	bubble(t, func(t *testing.T, h *home) {
		stop := h.run(t, bridge.Rule{Filter: "shared/#", In: true, Out: true, QoS: 1})
		h.here.say("shared/a", "1", true)
		h.there.say("shared/b", "2", true)
		h.here.expect(t, "shared/a 1 1", "shared/b 2 1")
		h.there.expect(t, "shared/b 2 1", "shared/a 1 1")
		time.Sleep(time.Minute)
		h.here.expect(t)
		h.there.expect(t)
		stop()
	})
}

// Nothing is lost through an outage, a restart of the bridge, and one of our
// broker, and the order is kept.
func TestOutage(t *testing.T) {
	bubble(t, func(t *testing.T, h *home) {
		rules := []bridge.Rule{{Filter: "shared/#", In: true, Out: true, QoS: 1}}
		h.down.Store(true)
		stop := h.run(t, rules...)
		if h.up.Load() {
			t.Error("it says that it carries")
		}
		h.here.say("shared/a", "1", false) // before it ever reached the other one
		h.down.Store(false)
		time.Sleep(3 * time.Second)
		h.there.expect(t, "shared/a 1 1")

		h.down.Store(true)
		(*h.cut.Load()).Close()
		synctest.Wait()
		for i := range 50 {
			h.here.say("shared/a", fmt.Sprint(i), false)
			h.there.say("shared/b", fmt.Sprint(i), false)
		}
		h.here.saw()
		h.there.saw()
		stop()
		stop = h.run(t, rules...)
		h.down.Store(false)
		time.Sleep(5 * time.Second)
		h.here.expect(t, numbered("shared/b", 50)...)
		h.there.expect(t, numbered("shared/a", 50)...)
		stop()
	})
}

// numbered returns what a side saw of n messages of QoS 1 that are numbered from 0.
func numbered(topic string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("%s %d 1", topic, i))
	}
	return all
}

// A wildcard lets nobody speak for our dominion or our broker.
func TestOurTopicsAreOurs(t *testing.T) {
	bubble(t, func(t *testing.T, h *home) {
		stop := h.run(t,
			bridge.Rule{Filter: "#", In: true, QoS: 1},
			bridge.Rule{Filter: "hub/status", In: true, QoS: 1, LocalPrefix: "attic/", RemotePrefix: "dominion/"},
		)
		h.there.say("dominion/service/web/set", "OFF", false)
		h.there.say("lamp", "on", false)
		h.here.expect(t, "lamp on 1")
		stop()
		stop = h.run(t, bridge.Rule{Filter: "dominion/service/+/set", In: true, QoS: 1})
		h.there.say("dominion/service/web/set", "OFF", false)
		if got := h.here.saw(); len(got) == 0 || got[len(got)-1] != "dominion/service/web/set OFF 1" {
			t.Errorf("what the owner names does not come: %q", got)
		}
		stop()
	})
}

// What nobody keeps and does not get through is counted for the bridge, with
// its topic and why.
func TestWhatIsLeftOutIsCounted(t *testing.T) {
	bubble(t, func(t *testing.T, h *home) {
		h.down.Store(true)
		stop := h.run(t, bridge.Rule{Filter: "shared/#", In: true, Out: true, QoS: 1})
		missed := func() uint64 { synctest.Wait(); return h.here.DroppedFor(bridge.LocalID("attic")) }
		for i := range 5 {
			h.here.Publish(topics.Message{Topic: "shared/a", Payload: []byte(fmt.Sprint(i))})
		}
		h.here.Publish(topics.Message{Topic: "other", Payload: []byte("x")})
		h.here.say("shared/b", "kept", false)
		if n := missed(); n != 5 {
			t.Errorf("%d are counted of an outage, want 5", n)
		}
		h.down.Store(false)
		time.Sleep(3 * time.Second)
		h.there.expect(t, "shared/b kept 1")
		// the other side takes nothing any more
		h.stalled.Store(true)
		for range 10_000 {
			h.here.Publish(topics.Message{Topic: "shared/a", Payload: make([]byte, 1000)})
			synctest.Wait()
		}
		if n := missed(); n < 1000 || uint64(h.dropped.Load()) != n-5 {
			t.Errorf("%d are counted, the bridge told of %d", n, h.dropped.Load())
		}
		h.stalled.Store(false)
		stop()
	})
}
