package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The broker is killed again and again while messages go through it. Nothing
// that it acknowledged is missing afterwards, nothing comes out of order, and
// nothing of QoS 2 twice.
//
//	DOMINION_E2E_KILLS=n  how often; 8 otherwise
func TestBrokerKilledUnderLoad(t *testing.T) {
	home := onEmbedded(t)
	kills := 8
	if text := os.Getenv("DOMINION_E2E_KILLS"); text != "" {
		var err error
		kills, err = strconv.Atoi(text)
		home.must(err)
	}
	home.Configure("")
	hub, _, _ := home.Up()
	x := &torture{t: t, from: home.observer, address: home.Hub.Address() + ":1883", quit: make(chan struct{}), enough: make(chan struct{})}
	for _, version := range []byte{4, 5} {
		for _, qos := range []byte{1, 2} {
			x.subscribers = append(x.subscribers, x.subscriber(fmt.Sprintf("sub-%d-%d", version, qos), version, qos))
			x.publishers = append(x.publishers, &publisher{
				torture: x, name: fmt.Sprintf("pub-%d-%d", version, qos), version: version, qos: qos,
				sent: make(map[string]int), acknowledged: make(map[string]int), room: make(chan struct{}, 1),
			})
		}
	}
	var running sync.WaitGroup
	for _, s := range x.subscribers {
		running.Go(s.run)
	}
	for _, p := range x.publishers {
		running.Go(p.run)
	}
	t.Cleanup(running.Wait)
	stop := sync.OnceFunc(func() { close(x.quit) })
	t.Cleanup(stop)

	inFlight, early := 0, 0
	for round := 1; round <= kills && !t.Failed(); round++ {
		before := x.acknowledged()
		if rand.IntN(5) > 0 { // otherwise while they are still coming back
			eventually(t, "messages go through", func() bool { return x.acknowledged() > before+200 })
		}
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond) // the moment is anyone's
		hub.Kill()
		x.gate.Lock() // every connection has ended, and none begins
		for rand.IntN(4) == 0 {
			hub = home.StartHub()
			time.Sleep(time.Duration(rand.IntN(40)) * time.Millisecond)
			hub.Kill()
			early++
		}
		for _, p := range x.publishers {
			inFlight += len(p.window)
		}
		hub = home.StartHub()
		x.checkRetained(round)
		x.round.Store(int64(round))
		x.gate.Unlock()
	}
	close(x.enough)
	eventually(t, "everything is acknowledged and has arrived", func() bool {
		return t.Failed() || x.settled()
	})
	stop()
	running.Wait()
	repeats, arrived := 0, 0
	for _, s := range x.subscribers {
		repeats, arrived = repeats+s.repeats, arrived+s.arrived
	}
	t.Logf("%d kills and %d more before it listened; %d messages acknowledged, %d arrived, %d of QoS 1 again; on average %d in flight at a kill; %d connections",
		kills, early, x.acknowledged(), arrived, repeats, inFlight/max(kills, 1), x.connections.Load())
	if inFlight == 0 && kills > 2 {
		t.Error("nothing was in flight at any kill: this tries nothing")
	}
}

// checkRetained looks at what is retained after a kill. The gate is closed.
func (x *torture) checkRetained(round int) {
	x.t.Helper()
	var l *line
	eventually(x.t, "the broker takes connections again", func() (up bool) {
		var err error
		l, err = x.from.connect(x.address, 4, "looks", true)
		return err == nil
	})
	defer l.leave()
	if err := l.subscribe("torture/+/kept", 1); err != nil {
		x.t.Fatal(err)
	}
	want := make(map[string]*publisher)
	for _, p := range x.publishers {
		if topic := p.topic("kept"); p.acknowledged[topic] > 0 {
			want[topic] = p
		}
	}
	for len(want) > 0 {
		m, err := l.read(patience)
		if err != nil {
			for topic, p := range want {
				x.t.Errorf("kill %d: nothing is retained on %s, %d was acknowledged (%v)", round, topic, p.acknowledged[topic], err)
			}
			return
		}
		if m.kind != kindPublish {
			continue
		}
		l.answer(kindPuback, m.id)
		if p := want[m.topic]; p != nil {
			if n := number(m.payload); n < p.acknowledged[m.topic] || n > p.sent[m.topic] || !m.retain() {
				x.t.Errorf("kill %d: %d is retained on %s, %d was acknowledged and %d sent", round, n, m.topic, p.acknowledged[m.topic], p.sent[m.topic])
			}
			delete(want, m.topic)
		}
	}
}

// settled reports whether publishers wait for nothing and subscribers have all.
func (x *torture) settled() bool {
	for _, p := range x.publishers {
		p.mu.Lock()
		open, sent := len(p.window), maps.Clone(p.sent)
		p.mu.Unlock()
		if open > 0 {
			return false
		}
		for _, s := range x.subscribers {
			s.mu.Lock()
			for topic, n := range sent {
				if s.last[topic] != n {
					s.mu.Unlock()
					return false
				}
			}
			s.mu.Unlock()
		}
	}
	return true
}

func (x *torture) acknowledged() (n int) {
	for _, p := range x.publishers {
		p.mu.Lock()
		for _, one := range p.acknowledged {
			n += one
		}
		p.mu.Unlock()
	}
	return n
}

// number is what a payload begins with; 0 stands for anything else.
func number(payload string) int {
	digits, _, _ := strings.Cut(payload, " ")
	n, _ := strconv.Atoi(digits)
	return n
}
