package broker

import (
	"fmt"
	"math"
	"runtime/metrics"
	"strconv"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// sysInterval is the time between looks at what is told below $SYS, as
// mosquitto has it.
const sysInterval = 10 * time.Second

// sysTopics begins the topics of it.
const sysTopics = "$SYS/broker/"

// tellOfItself tells what the broker does, by the names that mosquitto gave the
// figures. A figure is told only while somebody who is connected hears it: at
// once, and then each 10 s if it changed. It is retained only so long: nobody is
// told an old one.
func (b *Broker) tellOfItself() {
	told := make(map[string]string)
	var l loads // of an engine that has done nothing yet, though it may have by now
	tick := time.NewTicker(sysInterval)
	defer tick.Stop()
	for {
		select {
		case <-b.quit:
			return
		case <-b.asked:
		case <-tick.C:
			l.note(b.engine.Totals(), sysInterval)
			b.writeOwners(false)
			if n := b.refusals.over(time.Now()); n > 0 {
				b.log.Warn("more was refused or dropped than is told here: many addresses or names at once", "times", n)
			}
		}
		b.tellWhoHears(told, &l)
	}
}

func (b *Broker) tellWhoHears(told map[string]string, l *loads) {
	now := map[string]string{}
	for name, figure := range b.figures(l) {
		if b.engine.HasOnlineSubscriber(sysTopics + name) {
			now[name] = figure
		}
	}
	for name, figure := range now {
		if told[name] != figure {
			told[name] = figure
			b.tellFigure(name, figure)
		}
	}
	for name := range told {
		if _, heard := now[name]; !heard {
			delete(told, name)
			b.tellFigure(name, "")
		}
	}
}

func (b *Broker) tellFigure(name, figure string) {
	b.engine.Publish(topics.Message{Topic: sysTopics + name, Payload: []byte(figure), Retain: true})
}

// figures are what mosquitto 2.0 tells (mosquitto(8), "BROKER STATUS"), and
// ours: how many connections were beyond the limits, and the account of memory.
func (b *Broker) figures(l *loads) map[string]string {
	s := b.engine.Stats()
	all := map[string]string{
		"version": "dominion " + b.config.Version,
		"uptime":  fmt.Sprintf("%d seconds", int(time.Since(b.began).Seconds())),
	}
	memory := heap()
	for name, n := range map[string]uint64{
		"clients/total":              uint64(s.Sessions),
		"clients/maximum":            uint64(s.Most),
		"clients/connected":          uint64(s.Sessions - s.Offline),
		"clients/active":             uint64(s.Sessions - s.Offline),
		"clients/disconnected":       uint64(s.Offline),
		"clients/inactive":           uint64(s.Offline),
		"clients/expired":            s.Expired,
		"messages/received":          s.In.Packets,
		"messages/sent":              s.Out.Packets,
		"messages/stored":            uint64(s.Retained + s.Queued),
		"publish/messages/received":  s.In.Publishes,
		"publish/messages/sent":      s.Out.Publishes,
		"publish/messages/dropped":   s.Dropped,
		"publish/bytes/received":     s.In.Payload,
		"publish/bytes/sent":         s.Out.Payload,
		"bytes/received":             s.In.Bytes,
		"bytes/sent":                 s.Out.Bytes,
		"subscriptions/count":        uint64(s.Subscriptions),
		"shared_subscriptions/count": uint64(s.Shared),
		"retained messages/count":    uint64(s.Retained),
		"store/messages/count":       uint64(s.Retained + s.Queued),
		"store/messages/bytes":       uint64(s.RetainedBytes + s.QueuedBytes),
		"memory/current":             uint64(s.Memory),
		"memory/limit":               uint64(s.MemoryLimit),
		"memory/refused/count":       s.MemoryRefused,
		"memory/ended/count":         s.MemoryEnded,
		"heap/current":               memory,
		"heap/maximum":               b.heapMost(memory),
		"connections/refused/count":  s.TurnedAway,
	} {
		all[name] = strconv.FormatUint(n, 10)
	}
	for i, name := range loadNames {
		for j, span := range []string{"1min", "5min", "15min"} {
			all["load/"+name+"/"+span] = strconv.FormatFloat(l.average[i][j], 'f', 2, 64)
		}
	}
	return all
}

// heap returns the bytes of the program's objects, about.
func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// heapMost is the most that was told.
func (b *Broker) heapMost(now uint64) uint64 {
	for {
		most := b.mostHeap.Load()
		if now <= most {
			return most
		}
		if b.mostHeap.CompareAndSwap(most, now) {
			return now
		}
	}
}

var loadNames = [...]string{
	"messages/received", "messages/sent", "publish/received", "publish/sent", "publish/dropped",
	"bytes/received", "bytes/sent", "sockets", "connections",
}

// loads are moving averages a minute, over one, five and fifteen.
type loads struct {
	last    [len(loadNames)]uint64
	average [len(loadNames)][3]float64
}

// note takes note of what was done in a time.
func (l *loads) note(s Stats, in time.Duration) {
	for i, n := range [...]uint64{
		s.In.Packets, s.Out.Packets, s.In.Publishes, s.Out.Publishes, s.Dropped,
		s.In.Bytes, s.Out.Bytes, s.Connects + s.TurnedAway, s.Connects,
	} {
		rate := float64(n-l.last[i]) / in.Minutes()
		for j, span := range [...]float64{1, 5, 15} {
			fade := math.Exp(-in.Minutes() / span)
			l.average[i][j] = fade*l.average[i][j] + (1-fade)*rate
		}
		l.last[i] = n
	}
}
