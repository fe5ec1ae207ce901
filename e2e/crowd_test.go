package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// crowd is any number of followers in this process, light enough to share two
// cores with the hub that they load, and one who watches.
type crowd struct {
	t         testing.TB
	address   string // of the broker
	tree      topics.Tree
	began     time.Time
	followers []*follower
	deeds     *feed[deed]
	hub       *feed[sighting] // what hub/status says

	orders, ignored   atomic.Int64 // start commands that were new, and those that were old
	refused, answers  atomic.Int64 // joins that were refused; answers to joins, one's own and others'
	heard             atomic.Int64 // messages that followers got
	discovery, events atomic.Int64 // messages at homeassistant/#, at hub/event
	discoveryBytes    atomic.Int64
	published         atomic.Int64 // $SYS: messages of clients the broker took
	status            atomic.Pointer[decodedStatus]
	epoch             uint64 // the watcher's own
	running           sync.WaitGroup
}

// deed is what a follower did when it was ordered to.
type deed struct {
	At                    time.Time
	What, Service, Domain string
}

// sighting is a hub/status, and when it came.
type sighting struct {
	At time.Time
	topics.Hub
}

type decodedStatus struct {
	payload string
	epoch   uint64
}

// epochOf reads a hub/status once for all followers: they are machines of their
// own, and it is the hub that is measured.
func (c *crowd) epochOf(payload string) uint64 {
	if s := c.status.Load(); s != nil && s.payload == payload {
		return s.epoch
	}
	h, err := topics.Decode[topics.Hub]("hub/status", []byte(payload))
	if err != nil {
		return 0
	}
	c.status.Store(&decodedStatus{payload, h.Epoch})
	return h.Epoch
}

// A room is ten domains. Each domain runs ten services: four that all domains
// run, and of its room four that all of it run, one that all of it run and that
// needs another, and about one of those of which there are fewer.
const roomSize = 10

// crowdConfig is the services of so many domains: four, and ten for each room.
func crowdConfig(domains int) string {
	var b strings.Builder
	for i := range 4 {
		b.WriteString(service(fmt.Sprintf("all-%d", i), `priority = "required"`))
	}
	for room := range domains / roomSize {
		name := func(n int) string { return fmt.Sprintf("room-%d-%d", room, n) }
		trait := fmt.Sprintf("traits = [%q]", fmt.Sprintf("room-%d", room))
		for n := range 4 {
			b.WriteString(service(name(n), `priority = "required"`, trait, `environment = { COLOUR = "blue" }`))
		}
		b.WriteString(service(name(4), `priority = "required"`, trait, fmt.Sprintf(`dependencies = [%q, %q]`, name(0), name(7))))
		b.WriteString(service(name(5), `priority = "required"`, trait, `replicas = 4`))
		b.WriteString(service(name(6), `priority = "required"`, trait, `replicas = 3`, fmt.Sprintf(`dependencies = [%q]`, name(8))))
		for n := 7; n < 10; n++ {
			b.WriteString(service(name(n), `priority = "dependency"`, trait))
		}
	}
	return b.String()
}

// wantedOf is how many instances such a configuration wants: the last service
// of a room is needed by nobody.
func wantedOf(domains int) int { return 4*domains + domains/roomSize*(5*roomSize+4+3+2) }

func newCrowd(t testing.TB, address string, domains int) *crowd {
	c := &crowd{
		t: t, address: address, tree: topics.NewTree(""), began: time.Now(),
		deeds: newFeed[deed](), hub: newFeed[sighting](),
	}
	for n := range domains {
		f := &follower{
			crowd: c, name: fmt.Sprintf("domain-%04d", n), id: fmt.Sprintf("%08x-0000-4000-8000-000000000000", n*2654435761%(1<<32)),
			session: fmt.Sprintf("session-%d", n), source: fmt.Sprintf("127.1.%d.%d", n/250, n%250+1),
			traits: []string{"compute", fmt.Sprintf("room-%d", n/roomSize)}, runs: make(map[string]topics.Instance),
		}
		for i := range 4 {
			f.catalog = append(f.catalog, topics.CatalogRow{Service: fmt.Sprintf("all-%d", i), Version: "1.0.0"})
		}
		for i := range 10 {
			f.catalog = append(f.catalog, topics.CatalogRow{Service: fmt.Sprintf("room-%d-%d", n/roomSize, i), Version: "1.0.0"})
		}
		c.followers = append(c.followers, f)
	}
	return c
}

// watch begins to look at the hub; it says when it has subscribed for the
// first time.
func (c *crowd) watch(ctx context.Context) {
	c.running.Go(func() {
		for ctx.Err() == nil {
			c.look(ctx)
			time.Sleep(5 * time.Millisecond) // between two tries
		}
	})
}

func (c *crowd) look(ctx context.Context) {
	conn, err := net.Dial("tcp", c.address)
	if err != nil {
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	l := &line{conn: conn, in: bufio.NewReaderSize(conn, 64<<10), version: 4}
	l.send(0x10, append(append(text("MQTT"), 4, 2, 0, 0), text("watcher")...))
	if _, err := l.read(answerTime); err != nil {
		return
	}
	for i, filter := range []string{"dominion/hub/#", "homeassistant/#", "$SYS/broker/publish/messages/received"} {
		l.send(0x82, append(append([]byte{0, byte(i + 1)}, text(filter)...), 0))
	}
	for {
		p, err := l.read(time.Hour)
		if err != nil {
			return
		}
		switch {
		case p.kind != kindPublish:
		case p.topic == c.tree.Hub(topics.HubStatus):
			// what is retained is of the run before, until this one has spoken
			if h, err := topics.Decode[topics.Hub](p.topic, []byte(p.payload)); err == nil && (!p.retain() || h.Epoch > c.epoch) {
				c.epoch = h.Epoch
				c.hub.add(sighting{time.Now(), h})
			}
		case p.topic == c.tree.Hub(topics.HubEvent):
			c.events.Add(1)
		case strings.HasPrefix(p.topic, "homeassistant/") && !p.retain():
			c.discovery.Add(1)
			c.discoveryBytes.Add(int64(len(p.payload)))
		case strings.HasPrefix(p.topic, "$SYS/"):
			var n int64
			if _, err := fmt.Sscan(p.payload, &n); err == nil {
				c.published.Store(n)
			}
		}
	}
}

// come has all followers join, at once.
func (c *crowd) come(ctx context.Context) {
	for _, f := range c.followers {
		c.running.Go(func() { f.run(ctx) })
	}
	c.running.Go(func() { c.beatAll(ctx) })
	context.AfterFunc(ctx, func() {
		for _, f := range c.followers {
			f.mu.Lock()
			if f.line != nil {
				f.line.conn.Close()
			}
			f.mu.Unlock()
		}
	})
}

// beatsSlots divide the second in which every follower beats once.
const beatsSlots = 100

// beatAll is the clock of all followers: a timer of each would cost as much as
// what it is for.
func (c *crowd) beatAll(ctx context.Context) {
	slots := make([][]*follower, beatsSlots)
	for i, f := range c.followers {
		slots[i%beatsSlots] = append(slots[i%beatsSlots], f)
	}
	tick := time.NewTicker(time.Second / beatsSlots)
	defer tick.Stop()
	next := time.Now()
	for n := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for now := time.Now(); next.Before(now); next, n = next.Add(time.Second/beatsSlots), n+1 {
			for _, f := range slots[n%beatsSlots] {
				f.mu.Lock()
				if f.line != nil {
					if f.beat(); f.seq%30 == 0 {
						f.measure()
					}
				}
				f.mu.Unlock()
			}
		}
	}
}

// settled waits until the hub says that it is ready and sees everybody, and all
// that is wanted runs. It returns when it said so first.
func (c *crowd) settled(within time.Duration, mark int) sighting {
	c.t.Helper()
	return c.sees(within, mark, "the hub is settled", func(h topics.Hub) bool {
		return h.Ready && h.Domains.Online == len(c.followers) && h.Services.Running == wantedOf(len(c.followers)) && h.Services.Wanted == h.Services.Running
	})
}

func (c *crowd) sees(within time.Duration, mark int, what string, so func(topics.Hub) bool) sighting {
	c.t.Helper()
	s, ok := c.hub.await(within, mark, func(s sighting) bool { return so(s.Hub) })
	if !ok {
		last := "nothing"
		if all, _ := c.hub.from(0); len(all) > 0 {
			last = fmt.Sprintf("%+v", all[len(all)-1].Hub)
		}
		c.t.Fatalf("not within %v: %s; it says %s", within, what, last)
	}
	return s
}

// ownCPU is what this process has used of the processor.
func ownCPU(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
