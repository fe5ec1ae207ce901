package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// unit is a program that an init system keeps running, with the disk that it
// writes to.
type unit struct {
	*Host
	name string
	data string
	run  func() *Process

	mu      sync.Mutex
	process *Process
	down    bool // somebody took its power or stopped it
	grown   []growth
}

// growth is how long the end of the broker's log was at a moment.
type growth struct {
	at   time.Time
	file string
	size int64
}

func newUnit(h *Host, name, data string, run func() *Process) *unit {
	return &unit{Host: h, name: name, data: data, run: run}
}

func (u *unit) start() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.process, u.down = u.run(), false
}

func (u *unit) pid() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.process.PID()
}

// end ends the program by kill -9, or as it is told to.
func (u *unit) end(kill bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.down = true
	if kill || u.process.Ended() {
		u.process.Kill()
	} else {
		u.process.Stop()
	}
}

// keepUp starts again what ended by itself, as an init system does, and notes
// how the broker's log grows.
func (s *soak) keepUp(quit chan struct{}) {
	for !over(quit) {
		for _, u := range s.units {
			u.mu.Lock()
			if !u.down && u.process.Ended() {
				s.t.Logf("%s had ended and is started again: %s", u.name, u.process.tail(3))
				u.process = u.run()
			}
			files, _ := filepath.Glob(filepath.Join(u.data, "broker", "*.log"))
			if n := len(files); n > 0 {
				if info, err := os.Stat(files[n-1]); err == nil {
					u.grown = append(u.grown, growth{time.Now(), files[n-1], info.Size()})
				}
			}
			if len(u.grown) > 1000 {
				u.grown = u.grown[500:]
			}
			u.mu.Unlock()
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
}

// powerCut takes the current away, and of the disk what was not on it yet: the
// end of the broker's log that is younger than synced, and records that nobody
// waited for.
func (s *soak) powerCut(u *unit) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.down = true
	u.LinkDown()
	u.KillAll()
	<-u.process.done
	cut := time.Now()
	if u.Host == s.Hub && s.steady != nil {
		s.steady.doubt(cut)
	}
	if n := len(u.grown); n > 0 {
		last := u.grown[n-1].file
		safe := int64(-1)
		for _, g := range u.grown {
			if g.file == last && cut.Sub(g.at) > synced {
				safe = g.size
			}
		}
		if info, err := os.Stat(last); err == nil && safe >= 0 && info.Size() > safe {
			s.must(os.Truncate(last, safe+s.random.Int64N(info.Size()-safe+1)))
		}
	}
	records, _ := filepath.Glob(filepath.Join(u.data, "instances", "*"))
	for _, file := range records {
		info, err := os.Stat(file)
		if err != nil || cut.Sub(info.ModTime()) > 30*time.Second {
			continue // the kernel has written it by itself
		}
		switch s.random.IntN(4) {
		case 0:
			s.must(os.Truncate(file, s.random.Int64N(info.Size()+1)))
		case 1:
			s.must(os.WriteFile(file, make([]byte, info.Size()), 0o600))
		case 2:
			s.must(os.Remove(file))
		}
	}
	u.LinkUp()
}

// mute lets nothing get from one host to another: frames go to a machine that
// is not there. The other way is open.
func (s *soak) mute(from, to *Host) {
	s.must(command("ip", "-n", from.netns, "neigh", "replace", to.Address(), "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "permanent"))
}

func (s *soak) unmute(from, to *Host) {
	_ = command("ip", "-n", from.netns, "neigh", "del", to.Address(), "dev", "eth0") // it may be heard already
}

// mishap lets one thing happen, for a while.
func (s *soak) mishap() {
	d := s.domains[s.random.IntN(len(s.domains))]
	u := s.units[1+s.random.IntN(len(s.domains))]
	hub := s.units[0]
	pause := func(most int) { time.Sleep(time.Duration(s.random.IntN(most)) * time.Millisecond) } // as long as it lasts
	told := func(format string, args ...any) {
		kind, _, _ := strings.Cut(format, ":")
		s.done[kind]++
		s.t.Logf("%s "+format, append([]any{time.Now().Format("15:04:05.000")}, args...)...)
	}
	switch s.random.IntN(20) {
	case 0, 1:
		told("cable out: %s", d.Name)
		d.LinkDown()
		pause(9000)
		d.LinkUp()
	case 2:
		told("the hub's cable out: for a while")
		s.Hub.LinkDown()
		pause(9000)
		s.Hub.LinkUp()
	case 3:
		told("nothing gets to the hub: from %s", d.Name)
		s.mute(d.Host, s.Hub)
		pause(12000)
		s.unmute(d.Host, s.Hub)
	case 4:
		told("nothing gets from the hub: to %s", d.Name)
		s.mute(s.Hub, d.Host)
		pause(12000)
		s.unmute(s.Hub, d.Host)
	case 5, 6:
		told("agent killed: %s", u.name)
		for range 1 + s.random.IntN(4) {
			u.end(true)
			pause(300)
			u.start()
			pause(300)
		}
	case 7:
		told("agent stopped: %s", u.name)
		u.end(false)
		pause(3000)
		u.start()
	case 8, 9:
		told("hub killed: again and again")
		for range 1 + s.random.IntN(4) {
			hub.end(true)
			pause(500)
			hub.start()
			pause(500)
		}
	case 10:
		told("hub stopped: and started")
		hub.end(false)
		pause(3000)
		hub.start()
	case 11, 12:
		told("power cut: %s", u.name)
		s.powerCut(u)
		pause(6000)
		u.start()
	case 13:
		told("power cut of the hub: and back")
		s.powerCut(hub)
		pause(4000)
		hub.start()
	case 14:
		told("power cut of the house: everything")
		for _, u := range s.units {
			s.powerCut(u)
		}
		pause(3000)
		for _, i := range s.random.Perm(len(s.units)) {
			s.units[i].start()
			pause(1000)
		}
	case 15, 16:
		all := s.Journal.Running(s.t)
		if len(all) == 0 {
			return
		}
		victim := all[s.random.IntN(len(all))]
		_, pid, _ := strings.Cut(victim, " ")
		var n int
		_, err := fmt.Sscan(pid, &n)
		s.must(err)
		told("service killed: %s", victim)
		_ = syscall.Kill(n, syscall.SIGKILL) // it may have ended by itself
	case 17:
		which := s.units[s.random.IntN(len(s.units))]
		told("disk full: %s", which.name)
		empty := which.fill(which.data)
		pause(5000)
		if s.random.IntN(2) == 0 {
			which.end(true)
			which.start()
			pause(3000)
		}
		empty()
	case 18:
		what := soaked[s.random.IntN(len(soaked))]
		word := []string{"OFF", "ON", "RESTART", "ON"}[s.random.IntN(4)]
		drain := []string{"ON", "OFF"}[s.random.IntN(2)]
		told("a user: %s %s, drain of %s %s", what, word, d.Name, drain)
		_ = s.tryPublish("dominion/service/"+what+"/set", word) // nobody may be there to hear
		_ = s.tryPublish("dominion/domain/"+d.Name+"/drain/set", drain)
	case 19:
		told("an illness: web on %s", d.Name)
		s.sick(d, true)
		pause(4000)
		s.sick(d, false)
	}
}

// sick makes the web of a domain unhealthy, or well again.
func (s *soak) sick(d *Domain, on bool) {
	file := filepath.Join(d.DataDir(), "data", "web", "sick")
	if on {
		_ = os.WriteFile(file, nil, 0o644) // it may never have run here
	} else {
		_ = os.Remove(file)
	}
}

// mend ends whatever is left of the mishaps.
func (s *soak) mend() {
	for _, u := range s.units {
		u.LinkUp()
		u.mu.Lock()
		down := u.down
		u.mu.Unlock()
		if down {
			u.start()
		}
	}
}

// steady publishes all the time, and knows what was acknowledged when: what is
// retained, and what waits for a client that is away.
type steady struct {
	s  *soak
	id uint16

	mu           sync.Mutex
	acknowledged map[string][]note // by topic, in order
	sent         map[string]int
	doubts       []time.Time // power cuts of the hub
}

type note struct {
	number int
	at     time.Time
}

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
	return &steady{s: s, acknowledged: make(map[string][]note), sent: make(map[string]int)}
}

// doubt: what was acknowledged a moment before may be lost.
func (p *steady) doubt(at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doubts = append(p.doubts, at)
}

func (p *steady) run(quit chan struct{}) {
	for !over(quit) {
		l, err := p.s.observer.connect(p.s.Home.Hub.Address()+":1883", 5, fmt.Sprintf("soak-%d", rand.Uint32()), true)
		if err != nil {
			time.Sleep(100 * time.Millisecond) // until it is back
			continue
		}
		for n := 0; !over(quit); n++ {
			topic := []string{steadyKept, steadyQueue}[n%2]
			if p.publish(l, topic) != nil {
				break
			}
			time.Sleep(150 * time.Millisecond) // the pace
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
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.acknowledged[topic] = append(p.acknowledged[topic], note{n, time.Now()})
	return nil
}

// finish is called when the hub is well: the last number is acknowledged.
func (p *steady) finish() {
	p.s.t.Helper()
	mark := time.Now()
	eventually(p.s.t, 20*time.Second, "messages are acknowledged", func() bool {
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
func (p *steady) certain(topic string) []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []int
	for _, n := range p.acknowledged[topic] {
		lost := false
		for _, cut := range p.doubts {
			lost = lost || n.at.Before(cut) && cut.Sub(n.at) < 2*synced
		}
		if !lost {
			all = append(all, n.number)
		}
	}
	return all
}

// check looks for what was acknowledged.
func (p *steady) check() {
	t := p.s.t
	t.Helper()
	kept := p.certain(steadyKept)
	if m := p.s.Observe(steadyKept).Latest()[steadyKept]; len(kept) == 0 || number(m.Payload) < kept[len(kept)-1] {
		t.Errorf("%q is retained, the last of %d acknowledged is %d", m.Payload, len(kept), kept[max(0, len(kept)-1)])
	}
	const fence = "fence"
	p.s.Publish(steadyQueue, fence)
	l, err := p.s.observer.connect(p.s.Home.Hub.Address()+":1883", 5, awayClient, false)
	p.s.must(err)
	defer l.leave()
	if !l.present {
		t.Errorf("the session of %s is gone", awayClient)
		return
	}
	queued := p.certain(steadyQueue)
	arrived, last := make(map[int]bool), 0
	for {
		m, err := l.read(10 * time.Second)
		if err != nil {
			t.Errorf("after %d messages for a client that was away: %v", len(arrived), err)
			return
		}
		if m.kind != kindPublish {
			continue
		}
		l.answer(kindPuback, m.id)
		if m.payload == fence {
			break
		}
		n := number(m.payload)
		arrived[n] = true
		// One that was not acknowledged may come late, by a connection that was
		// given up while the cable was out.
		if _, certain := slices.BinarySearch(queued, n); certain {
			if n <= last {
				t.Errorf("%d arrives after %d", n, last)
			}
			last = n
		}
	}
	missing := 0
	for _, n := range queued {
		if !arrived[n] {
			missing++
			t.Errorf("%d was acknowledged and is missing", n)
		}
	}
	t.Logf("%d messages acknowledged for a client that was away, %d arrived, %d missing; %d retained ones acknowledged", len(queued), len(arrived), missing, len(kept))
}
