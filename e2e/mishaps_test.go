package e2e

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
	busy sync.Mutex // held while a mishap lasts: one at a time

	mu      sync.Mutex
	process *Process
	down    bool // somebody took its power or stopped it

	growing sync.Mutex
	grown   []growth // of the broker's log
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

// keepUp starts again what ended by itself, as an init system does.
func (s *soak) keepUp(quit chan struct{}) {
	for !over(quit) {
		for _, u := range s.units {
			u.mu.Lock()
			if !u.down && u.process.Ended() {
				s.t.Logf("%s had ended and is started again: %s", u.name, u.process.tail(3))
				u.process = u.run()
			}
			u.mu.Unlock()
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
}

// grows notes how the broker's log grows.
func (u *unit) grows(quit chan struct{}) {
	for !over(quit) {
		now := time.Now() // before: what is acknowledged by then is in it
		files, _ := filepath.Glob(filepath.Join(u.data, "broker", "*.log"))
		if n := len(files); n > 0 {
			if info, err := os.Stat(files[n-1]); err == nil {
				u.growing.Lock()
				u.grown = append(u.grown, growth{now, files[n-1], info.Size()})
				if len(u.grown) > 1000 {
					u.grown = slices.Clone(u.grown[500:])
				}
				u.growing.Unlock()
			}
		}
		time.Sleep(10 * time.Millisecond) // between two looks
	}
}

// tear cuts off the end of the broker's log, which had the current until cut, as
// far as it may not have been on the disk. What was acknowledged since the moment
// that it returns may be lost.
func (h *hand) tear(u *unit, cut time.Time) (since time.Time) {
	u.growing.Lock()
	defer u.growing.Unlock()
	if len(u.grown) == 0 {
		return cut
	}
	last := u.grown[len(u.grown)-1].file
	safe := growth{size: -1}
	for _, g := range u.grown {
		if g.file == last && cut.Sub(g.at) > synced {
			safe = g
		}
	}
	info, err := os.Stat(last)
	if err != nil || safe.size < 0 || info.Size() <= safe.size {
		return cut
	}
	h.must(os.Truncate(last, safe.size+h.random.Int64N(info.Size()-safe.size+1)))
	return safe.at
}

// powerCut takes the current away, and of the disk what was not on it yet: the
// end of the broker's log that is younger than synced, and records that nobody
// waited for.
func (h *hand) powerCut(u *unit) {
	s := h.soak
	u.mu.Lock()
	defer u.mu.Unlock()
	u.down = true
	u.LinkDown()
	u.KillAll()
	<-u.process.done
	cut := time.Now()
	if u == s.units[0] {
		s.steady.cutOff(h.tear(u, cut))
	}
	records, _ := filepath.Glob(filepath.Join(u.data, "instances", "*"))
	for _, file := range records {
		info, err := os.Stat(file)
		if err != nil || cut.Sub(info.ModTime()) > 30*time.Second {
			continue // the kernel has written it by itself
		}
		switch h.random.IntN(4) {
		case 0:
			s.must(os.Truncate(file, h.random.Int64N(info.Size()+1)))
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

// hand lets one mishap follow the other. There are two, so that what happens
// meets what happened.
type hand struct {
	*soak
	random *rand.Rand
}

func (s *soak) hand(seed, number uint64) *hand {
	return &hand{s, rand.New(rand.NewPCG(seed, number))}
}

// run goes on until the time is over.
func (h *hand) run(until time.Time) {
	for time.Now().Before(until) && !h.t.Failed() {
		h.mishap()
		h.pause(3000) // no two homes are alike
	}
}

// pause is as long as something lasts.
func (h *hand) pause(most int) {
	time.Sleep(time.Duration(h.random.IntN(most)) * time.Millisecond)
}

func (h *hand) report(format string, args ...any) {
	kind, _, _ := strings.Cut(format, ":")
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done[kind]++
	h.t.Logf("%s "+format, append([]any{time.Now().Format("15:04:05.000")}, args...)...)
}

// mishap lets one thing happen, for a while, to what no other mishap has.
func (h *hand) mishap() {
	what := h.random.IntN(22)
	if what == 14 {
		h.powerCutOfAll()
		return
	}
	hub, n := h.units[0], h.random.IntN(len(h.domains))
	u, d := h.units[1+n], h.domains[n]
	if what < 8 && what != 2 || what == 11 || what == 12 || what >= 17 && what != 20 {
		if !u.busy.TryLock() {
			return
		}
		defer u.busy.Unlock()
	}
	if what == 2 || what == 8 || what == 9 || what == 10 || what == 13 || what == 20 {
		if !hub.busy.TryLock() {
			return
		}
		defer hub.busy.Unlock()
	}
	switch what {
	case 0, 1:
		h.report("cable out: %s", d.Name)
		d.LinkDown()
		h.pause(9000)
		d.LinkUp()
	case 2:
		h.report("the hub's cable out: for a while")
		h.Home.Hub.LinkDown()
		h.pause(9000)
		h.Home.Hub.LinkUp()
	case 3:
		h.report("nothing gets to the hub: from %s", d.Name)
		h.mute(d.Host, h.Home.Hub)
		h.pause(12000)
		h.unmute(d.Host, h.Home.Hub)
	case 4:
		h.report("nothing gets from the hub: to %s", d.Name)
		h.mute(h.Home.Hub, d.Host)
		h.pause(12000)
		h.unmute(h.Home.Hub, d.Host)
	case 5, 6:
		h.report("agent killed: %s", u.name)
		for range 1 + h.random.IntN(4) {
			u.end(true)
			h.pause(300)
			u.start()
			h.pause(300)
		}
	case 7:
		h.report("agent stopped: %s", u.name)
		u.end(false)
		h.pause(3000)
		u.start()
	case 8, 9:
		h.report("hub killed: again and again")
		for range 1 + h.random.IntN(4) {
			hub.end(true)
			h.pause(500)
			hub.start()
			h.pause(500)
		}
	case 10:
		h.report("hub stopped: and started")
		hub.end(false)
		h.pause(3000)
		hub.start()
	case 11, 12:
		h.report("power cut: %s", u.name)
		h.powerCut(u)
		h.pause(6000)
		u.start()
	case 13:
		h.report("power cut of the hub: and back")
		h.powerCut(hub)
		h.pause(4000)
		hub.start()
	case 15, 16:
		h.killService()
	case 17:
		which := u
		if h.random.IntN(3) == 0 && hub.busy.TryLock() {
			defer hub.busy.Unlock()
			which = hub
		}
		h.report("disk full: %s", which.name)
		empty := which.fill(which.data)
		h.pause(5000)
		if h.random.IntN(2) == 0 {
			which.end(true)
			which.start()
			h.pause(3000)
		}
		empty()
	case 18:
		service := soaked[h.random.IntN(len(soaked))]
		word := []string{"OFF", "ON", "RESTART", "ON"}[h.random.IntN(4)]
		drain := []string{"ON", "OFF"}[h.random.IntN(2)]
		h.report("a user: %s %s, drain of %s %s", service, word, d.Name, drain)
		_ = h.tryPublish("dominion/service/"+service+"/set", word) // nobody may be there to hear
		_ = h.tryPublish("dominion/domain/"+d.Name+"/drain/set", drain)
	case 19:
		h.report("an illness: web on %s", d.Name)
		h.sick(d, true)
		h.pause(4000)
		h.sick(d, false)
	case 21:
		h.report("guards killed: on %s", d.Name)
		for _, pid := range guardsOf(d.Host) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself
		}
	case 20:
		h.report("another configuration: pair is painted")
		h.repaint(hub)
	}
}

// powerCutOfAll is a power cut of everything, where nothing else happens just now.
func (h *hand) powerCutOfAll() {
	for i, u := range h.units {
		if !u.busy.TryLock() {
			for _, held := range h.units[:i] {
				held.busy.Unlock()
			}
			return
		}
	}
	defer func() {
		for _, u := range h.units {
			u.busy.Unlock()
		}
	}()
	h.report("power cut of the house: everything")
	for _, u := range h.units {
		h.powerCut(u)
	}
	h.pause(3000)
	for _, i := range h.random.Perm(len(h.units)) {
		h.units[i].start()
		h.pause(1000)
	}
}

func (h *hand) killService() {
	all := h.Journal.Running(h.t)
	if len(all) == 0 {
		return
	}
	victim := all[h.random.IntN(len(all))]
	_, text, _ := strings.Cut(victim, " ")
	pid, err := strconv.Atoi(text)
	h.must(err)
	h.report("service killed: %s", victim)
	_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself
}

// repaint gives a service another environment, and has the hub read it.
func (s *soak) repaint(hub *unit) {
	s.paint++
	s.configure()
	hub.mu.Lock()
	defer hub.mu.Unlock()
	if !hub.process.Ended() {
		hub.process.Signal(syscall.SIGHUP)
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
