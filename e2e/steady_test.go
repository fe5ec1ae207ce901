package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// steady publishes all the time, and knows what was acknowledged when: what is
// retained, and what waits for a client that is away, and comes now and then.
type steady struct {
	s  *soak
	id uint16

	mu           sync.Mutex
	line         *line             // of now; nil: there is none, or its broker lost its power
	acknowledged map[string][]note // by topic, in order
	sent         map[string]int
	arrived      map[int]bool   // at the client that comes now and then
	order        []int          // of what arrived, when it did for the first time
	doubts       [][2]time.Time // from, until: what was acknowledged then may be lost by a power cut
}

type note struct {
	number int
	at     time.Time
}

var errCutOff = errors.New("the broker lost its power")

const (
	steadyKept  = "soak/kept"
	steadyQueue = "soak/queue"
	awayClient  = "soak-away"
)

func (s *soak) newSteady() *steady {
	l, err := s.observer.connect(s.Home.Hub.Address()+":1883", 5, awayClient, false)
	s.must(err)
	s.must(l.subscribe(steadyQueue, 1))
	l.leave()
	time.Sleep(3 * synced) // that it is on the disk is not what this is about
	return &steady{s: s, acknowledged: make(map[string][]note), sent: make(map[string]int), arrived: make(map[int]bool)}
}

// cutOff is called when the broker is dead and its cable still out: what it
// acknowledged since a moment may be lost, and it acknowledges nothing more. A
// machine without power does not; but here its kernel lives on and would send,
// when the cable is back, what the dead program had written to it while the
// cable was out: acknowledgements of what tear took away.
func (p *steady) cutOff(since time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doubts = append(p.doubts, [2]time.Time{since, time.Now()})
	if p.line != nil {
		p.line.conn.Close()
		p.line = nil
	}
}

func (p *steady) run(quit chan struct{}) {
	for !over(quit) {
		l, err := p.s.observer.connect(p.s.Home.Hub.Address()+":1883", 5, fmt.Sprintf("soak-%d", rand.Uint32()), true)
		if err != nil {
			time.Sleep(100 * time.Millisecond) // until it is back
			continue
		}
		p.mu.Lock()
		p.line = l
		p.mu.Unlock()
		for n := 0; !over(quit); n++ {
			topic := []string{steadyKept, steadyQueue}[n%2]
			if p.publish(l, topic) != nil {
				break
			}
			time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond) // the pace
		}
		l.conn.Close()
	}
}

// publish sends the next number of a topic and waits for its acknowledgement.
func (p *steady) publish(l *line, topic string) error {
	p.mu.Lock()
	p.id++
	p.id = max(p.id, 1)
	id := p.id
	p.sent[topic]++
	n := p.sent[topic]
	p.mu.Unlock()
	flags := byte(2)
	if topic == steadyKept {
		flags |= 1
	}
	l.publish(flags, id, topic, fmt.Sprint(n))
	a, err := l.read(5 * time.Second)
	switch {
	case err != nil:
		return err
	case a.kind != kindPuback || a.id != id:
		return fmt.Errorf("answered by %+v", a)
	case a.code >= 0x80: // a full disk
		return nil
	case a.code != 0:
		p.s.t.Errorf("%d of %s is acknowledged with reason code %#x at %s: nobody is to get it", n, topic, a.code, time.Now().Format("15:04:05.000"))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.line != l { // it was read too late to tell what it is worth
		p.s.t.Logf("%s %d of %s was acknowledged, and then the broker had lost its power", time.Now().Format("15:04:05.000"), n, topic)
		return errCutOff
	}
	p.acknowledged[topic] = append(p.acknowledged[topic], note{n, time.Now()})
	return nil
}

// finish is called when the hub is well: the last number is acknowledged.
func (p *steady) finish() {
	p.s.t.Helper()
	mark := time.Now()
	eventually(p.s.t, "messages are acknowledged", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, topic := range []string{steadyKept, steadyQueue} {
			all := p.acknowledged[topic]
			if len(all) == 0 || all[len(all)-1].at.Before(mark) {
				return false
			}
		}
		return true
	})
}

// certain are the numbers of a topic that no power cut can have taken.
func (p *steady) certain(topic string) (all []int, at map[int]time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at = make(map[int]time.Time)
	for _, n := range p.acknowledged[topic] {
		lost := false
		for _, cut := range p.doubts {
			lost = lost || !n.at.Before(cut[0]) && !n.at.After(cut[1])
		}
		if !lost {
			all = append(all, n.number)
			at[n.number] = n.at
		}
	}
	return all, at
}

// check looks for what was acknowledged.
func (p *steady) check() {
	t := p.s.t
	t.Helper()
	kept, _ := p.certain(steadyKept)
	if m := p.s.Observe(steadyKept).Latest()[steadyKept]; len(kept) == 0 || number(m.Payload) < kept[len(kept)-1] {
		t.Errorf("%q is retained, the last of %d acknowledged is %d", m.Payload, len(kept), kept[max(0, len(kept)-1)])
	}
	const fence = "fence"
	p.s.Publish(steadyQueue, fence)
	if err := p.visit(2*time.Minute, fence); err != nil {
		t.Errorf("after %d messages for a client that was away: %v", len(p.arrived), err)
		return
	}
	queued, at := p.certain(steadyQueue)
	// One that was not acknowledged may come late, by a connection that was given
	// up while the cable was out.
	last := 0
	for _, n := range p.order {
		if _, certain := slices.BinarySearch(queued, n); !certain {
			continue
		}
		if n <= last {
			t.Errorf("%d arrives after %d", n, last)
		}
		last = n
	}
	missing := 0
	for _, n := range queued {
		if !p.arrived[n] {
			missing++
			t.Errorf("%d was acknowledged at %s and is missing", n, at[n].Format("15:04:05.000"))
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t.Logf("%d messages acknowledged for a client that was away, %d of them surely on the disk, %d arrived, %d missing; %d retained ones on the disk",
		len(p.acknowledged[steadyQueue]), len(queued), len(p.arrived), missing, len(kept))
}

// visits has the client come now and then.
func (p *steady) visits(quit chan struct{}) {
	for {
		select {
		case <-quit:
			return
		case <-time.After(time.Duration(rand.IntN(20_000)) * time.Millisecond):
			_ = p.visit(3*time.Second, "") // the hub may be away, or go meanwhile
		}
	}
}

// visit connects the client and takes what waits for it, up to a payload, for so
// long at most.
func (p *steady) visit(most time.Duration, until string) error {
	l, err := p.s.observer.connect(p.s.Home.Hub.Address()+":1883", 5, awayClient, false)
	if err != nil {
		return err
	}
	defer l.leave()
	if !l.present {
		p.s.t.Errorf("the session of %s is gone", awayClient)
	}
	for end := time.Now().Add(most); time.Now().Before(end); {
		m, err := l.read(min(most, patience))
		if err != nil {
			return err
		}
		if m.kind != kindPublish {
			continue
		}
		n := number(m.payload)
		p.mu.Lock()
		if !p.arrived[n] && n > 0 {
			p.arrived[n] = true
			p.order = append(p.order, n)
		}
		p.mu.Unlock()
		l.answer(kindPuback, m.id)
		if m.payload == until {
			return nil
		}
	}
	return errors.New("there is no end of it")
}
