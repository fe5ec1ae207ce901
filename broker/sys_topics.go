package broker

import (
	"fmt"
	"math"
	"runtime/metrics"
	"strconv"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// sysInterval is the time between updates below $SYS, as in mosquitto.
const sysInterval = 10 * time.Second

// sysTopics is the prefix of the figures.
const sysTopics = "$SYS/broker/"

// publishSys publishes the figures of the broker, under the names that mosquitto has
// for them. A figure is published only while a connected client is subscribed to it:
// at once, and then every sysInterval if it has changed. Its retained message is
// cleared afterwards, so that no client gets an old figure.
func (b *Broker) publishSys() {
	published := make(map[string]string)
	var l loadAverages // of an engine that has done nothing yet, though it may have by now
	tick := time.NewTicker(sysInterval)
	defer tick.Stop()
	for {
		select {
		case <-b.quit:
			return
		case <-b.sysRequested:
		case <-tick.C:
			l.add(b.engine.Totals(), sysInterval)
			b.writeOwners(false)
			if n := b.logLimit.endPeriod(time.Now()); n > 0 {
				b.log.Warn("more refusals and drops were not logged: many addresses or names at once", "times", n)
			}
		}
		b.publishFigures(published, &l)
	}
}

// publishFigures publishes the figures that have changed, and clears those without
// subscribers.
func (b *Broker) publishFigures(published map[string]string, l *loadAverages) {
	now := map[string]string{}
	for name, figure := range b.figures(l) {
		if b.engine.HasOnlineSubscriber(sysTopics + name) {
			now[name] = figure
		}
	}
	for name, figure := range now {
		if published[name] != figure {
			published[name] = figure
			b.publishFigure(name, figure)
		}
	}
	for name := range published {
		if _, subscribed := now[name]; !subscribed {
			delete(published, name)
			b.publishFigure(name, "")
		}
	}
}

// publishFigure publishes a figure; "" clears it.
func (b *Broker) publishFigure(name, figure string) {
	b.engine.Publish(topics.Message{Topic: sysTopics + name, Payload: []byte(figure), Retain: true})
}

// figures returns the figures of mosquitto 2.0 (mosquitto(8), "BROKER STATUS"), and
// our own: connections beyond the limits, and memory.
func (b *Broker) figures(l *loadAverages) map[string]string {
	s := b.engine.Stats()
	all := map[string]string{
		"version": "dominion " + b.config.Version,
		"uptime":  fmt.Sprintf("%d seconds", int(time.Since(b.startedAt).Seconds())),
	}
	memory := heapBytes()
	for name, n := range map[string]uint64{
		"clients/total":              uint64(s.Sessions),
		"clients/maximum":            uint64(s.MaxSessions),
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
		"heap/maximum":               b.heapMaximum(memory),
		"connections/refused/count":  s.ConnectionsRefused,
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

// heapBytes returns the approximate size of the program's objects.
func heapBytes() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// heapMaximum returns the maximum of the values it was called with.
func (b *Broker) heapMaximum(now uint64) uint64 {
	for {
		maximum := b.maxHeap.Load()
		if now <= maximum {
			return maximum
		}
		if b.maxHeap.CompareAndSwap(maximum, now) {
			return now
		}
	}
}

// loadNames are the figures of which there are load averages, in the order of
// loadAverages.add.
var loadNames = [...]string{
	"messages/received", "messages/sent", "publish/received", "publish/sent", "publish/dropped",
	"bytes/received", "bytes/sent", "sockets", "connections",
}

// loadAverages are moving averages by the minute, over one, five and fifteen minutes.
type loadAverages struct {
	last    [len(loadNames)]uint64
	average [len(loadNames)][3]float64
}

// add adds what was counted within a duration.
func (l *loadAverages) add(s Stats, in time.Duration) {
	for i, n := range [...]uint64{
		s.In.Packets, s.Out.Packets, s.In.Publishes, s.Out.Publishes, s.Dropped,
		s.In.Bytes, s.Out.Bytes, s.Connects + s.ConnectionsRefused, s.Connects,
	} {
		rate := float64(n-l.last[i]) / in.Minutes()
		for j, span := range [...]float64{1, 5, 15} {
			fade := math.Exp(-in.Minutes() / span)
			l.average[i][j] = fade*l.average[i][j] + (1-fade)*rate
		}
		l.last[i] = n
	}
}
