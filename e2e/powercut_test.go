package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// synced is longer than the store lets what was acknowledged wait for the disk.
const synced = 300 * time.Millisecond

// A power cut takes the last bytes of the store, or writes nonsense in their
// place: only what was acknowledged since the last sync may be missing, what is
// before it is kept, and the hub says so.
func TestStoreWithoutItsLastBytes(t *testing.T) {
	home := onEmbedded(t)
	home.Configure("")
	hub, _, _ := home.Up()
	address := home.Hub.Address() + ":1883"
	for _, version := range []byte{4, 5} {
		l, err := home.observer.connect(address, version, keeper(version), false)
		home.must(err)
		home.must(l.subscribe("torture/#", 2))
		l.leave()
	}
	for round := 1; round <= 6 && !t.Failed(); round++ {
		publish := func(when string, until func(*torture)) *torture {
			x := &torture{t: t, from: home.observer, address: address, quit: make(chan struct{}), enough: make(chan struct{})}
			for _, qos := range []byte{1, 2} {
				x.publishers = append(x.publishers, &publisher{
					torture: x, name: fmt.Sprintf("%s-%d-%d", when, round, qos), version: 3 + qos, qos: qos,
					sent: make(map[string]int), acknowledged: make(map[string]int), room: make(chan struct{}, 1),
				})
			}
			var running sync.WaitGroup
			for _, p := range x.publishers {
				running.Go(p.run)
			}
			until(x)
			close(x.quit)
			running.Wait()
			return x
		}
		early := publish("early", func(x *torture) {
			eventually(t, "messages go through", func() bool { return x.acknowledged() > 100 })
			close(x.enough)
			eventually(t, "all are acknowledged", x.settled)
		})
		time.Sleep(synced) // what it is about is this time
		name, size := lastSegment(t, home)
		late := publish("late", func(x *torture) {
			eventually(t, "messages go through", func() bool { return x.acknowledged() > 30 })
			hub.Kill()
			x.gate.Lock() // what was acknowledged has been read
			defer x.gate.Unlock()
		})
		file, now := lastSegment(t, home)
		if file != name || now <= size+8 {
			t.Fatalf("round %d: the end of the store was %d bytes of %s and is %d of %s", round, size, name, now, file)
		}
		damage, certain := "", true
		switch at := size + rand.Int64N(now-size); round % 3 {
		case 0: // a batch is longer than this
			at = now - 1 - rand.Int64N(8)
			damage = fmt.Sprintf("%d of %d bytes cut off", now-at, now-size)
			home.must(os.Truncate(file, at))
		case 1: // at the border of a batch nobody can tell
			damage, certain = fmt.Sprintf("%d of %d bytes cut off", now-at, now-size), false
			home.must(os.Truncate(file, at))
		case 2:
			damage = fmt.Sprintf("a bit changed %d of %d bytes before the end", now-at, now-size)
			flip(t, file, at)
		}
		hub = home.StartHub()
		fence := fmt.Sprintf("torture/fence-%d", round)
		eventually(t, "the hub is back", func() bool { return home.tryPublish(fence, "x") == nil })
		if certain {
			hub.AwaitLog("WARN", "cut off")
		}
		early.checkRetained(round)
		arrived := make(map[string]int)
		for _, version := range []byte{4, 5} {
			all, err := home.observer.fetch(address, version, keeper(version), fence)
			home.must(err)
			last := make(map[string]int)
			for _, m := range all {
				if n := number(m.payload); m.topic != fence && n != last[m.topic]+1 {
					t.Errorf("round %d, %s: %s gets %d of %s after %d", round, damage, keeper(version), n, m.topic, last[m.topic])
				}
				last[m.topic] = number(m.payload)
			}
			for _, p := range early.publishers {
				for topic, n := range p.acknowledged {
					if last[topic] != n {
						t.Errorf("round %d, %s: %s gets %d messages of %s, %d were on the disk", round, damage, keeper(version), last[topic], topic, n)
					}
				}
			}
			for _, p := range late.publishers {
				for topic, n := range p.sent {
					if last[topic] > n {
						t.Errorf("round %d, %s: %s gets %d of %s, %d were sent", round, damage, keeper(version), last[topic], topic, n)
					}
				}
			}
			if version == 5 && !maps.Equal(last, arrived) {
				t.Errorf("round %d, %s: one subscriber gets %v, another %v", round, damage, arrived, last)
			}
			arrived = last
		}
		kept := 0
		for _, p := range late.publishers {
			for topic := range p.sent {
				kept += arrived[topic]
			}
		}
		t.Logf("%s: %d of the last %d messages acknowledged are there", damage, kept, late.acknowledged())
	}
}

func keeper(version byte) string { return fmt.Sprintf("keeper-%d", version) }

// lastSegment is the file at the end of the hub's store, and its size.
func lastSegment(t *testing.T, home *Home) (string, int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(home.Hub.Dir, "data", "broker", "*.log"))
	home.must(err)
	if len(files) == 0 {
		t.Fatal("the hub has no store")
	}
	last := files[len(files)-1] // sorted by name
	info, err := os.Stat(last)
	home.must(err)
	return last, info.Size()
}

func flip(t *testing.T, file string, at int64) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 16
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// quotaExceeded is the reason code of what there is no room for.
const quotaExceeded = 0x97

// A full disk: what cannot be kept is refused, what needs no disk goes on, and
// with room again all is as before.
func TestFullDiskOfTheBroker(t *testing.T) {
	home := onEmbedded(t)
	data := filepath.Join(home.Hub.Dir, "data")
	home.Hub.disk(data, "8m")
	home.Configure("")
	hub, _, o := home.Up()
	address := home.Hub.Address() + ":1883"
	connect := func(version byte, id string, clean bool) *line {
		t.Helper()
		l, err := home.observer.connect(address, version, id, clean)
		home.must(err)
		return l
	}
	l := connect(5, keeper(5), false)
	home.must(l.subscribe("torture/#", 2))
	l.leave()
	l = connect(5, "writes", true)
	defer l.leave()
	// publish sends a message of QoS 1 or 2 and returns the reason code
	id := uint16(0)
	publish := func(qos byte, topic, payload string) byte {
		t.Helper()
		id++
		l.publish(qos<<1|1, id, topic, payload)
		p, err := l.read(patience)
		if err == nil && p.kind == kindPubrec && p.code < 0x80 {
			l.answer(kindPubrel, id)
			p, err = l.read(patience)
		}
		if err != nil || p.id != id || p.kind == kindPubrel || p.kind == kindPublish {
			t.Fatalf("%s is answered by %+v, %v", topic, p, err)
		}
		return p.code
	}
	if code := publish(1, "torture/kept", "first"); code != 0 {
		t.Fatalf("reason code %#x with an empty disk", code)
	}

	t.Log("the disk fills up")
	empty := home.Hub.fill(data)
	large := string(make([]byte, 10_000))
	taken := []string{"torture/kept"}
	for code := byte(0); code == 0; {
		topic := fmt.Sprintf("torture/taken/%d", len(taken))
		if code = publish(1+byte(len(taken)%2), topic, large); code == 0 {
			taken = append(taken, topic)
		} else if code != quotaExceeded {
			t.Fatalf("the reason code is %#x on a full disk, want %#x", code, quotaExceeded)
		}
		if len(taken) > 800 {
			t.Fatal("it takes more than the disk holds")
		}
	}
	for _, qos := range []byte{1, 2} {
		if code := publish(qos, "torture/kept", large); code != quotaExceeded {
			t.Errorf("the reason code with QoS %d is %#x on a full disk, want %#x", qos, code, quotaExceeded)
		}
	}
	hub.AwaitLog("disk is full")
	for _, qos := range []byte{1, 2} { // 3.1.1 has no reason codes
		old := connect(4, "old", true)
		old.publish(qos<<1, 1, "torture/refused", large)
		if p, err := old.read(patience); err == nil {
			t.Errorf("MQTT 3.1.1: QoS %d is answered by %+v on a full disk, want the end of the connection", qos, p)
		} else if os.IsTimeout(err) {
			t.Errorf("MQTT 3.1.1: the connection goes on after a message of QoS %d that cannot be kept", qos)
		}
		old.conn.Close()
	}

	t.Log("what needs no disk goes on")
	mark := o.Now()
	l.publish(0, 0, "live", "still here")
	o.AwaitTopic(mark, "live", "still here")
	if m := home.Observe("torture/kept").Latest()["torture/kept"]; m.Payload != "first" || !m.Retain {
		t.Errorf("retained is %.40v after a refusal, want what was before", m)
	}

	t.Log("there is room again")
	empty()
	eventually(t, "messages are taken again", func() bool { return publish(1, "torture/room", "x") == 0 })
	taken = append(taken, "torture/room")
	hub.AwaitLog("accepts everything again")
	if hub.Ended() {
		t.Fatal("the hub ended")
	}
	hub.Signal(syscall.SIGKILL)
	<-hub.done
	home.StartHub()
	eventually(t, "the hub is back", func() bool { return home.tryPublish("torture/fence", "x") == nil })
	all, err := home.observer.fetch(address, 5, keeper(5), "torture/fence")
	home.must(err)
	var got []string
	for _, m := range all {
		got = append(got, m.topic)
	}
	if want := append(taken, "torture/fence"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("arrived:\n%v\nacknowledged:\n%v", got, want)
	}
	t.Logf("%d messages of 10 kB were taken before the disk was full", len(taken)-2)
}
