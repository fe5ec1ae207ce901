package broker

import (
	"strconv"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// sysInterval is the time between looks at what is told below $SYS, as
// mosquitto has it.
const sysInterval = 10 * time.Second

// tellOfItself keeps $SYS true: figures of the broker by the names that
// mosquitto gave them. A figure that did not change is not told again.
func (b *Broker) tellOfItself() {
	began, told := time.Now(), make(map[string]string)
	tick := time.NewTicker(sysInterval)
	defer tick.Stop()
	for {
		s := b.engine.Stats()
		for topic, value := range map[string]uint64{
			"uptime":                    uint64(time.Since(began).Seconds()),
			"clients/connected":         uint64(s.Connections),
			"clients/total":             uint64(s.Sessions),
			"messages/received":         s.Published,
			"publish/messages/dropped":  s.Dropped,
			"retained messages/count":   uint64(s.Retained),
			"store/messages/bytes":      uint64(s.RetainedBytes),
			"connections/refused/count": s.TurnedAway,
		} {
			text := strconv.FormatUint(value, 10)
			if told[topic] != text {
				told[topic] = text
				b.engine.Publish(topics.Message{Topic: "$SYS/broker/" + topic, Payload: []byte(text), Retain: true})
			}
		}
		select {
		case <-b.quit:
			return
		case <-tick.C:
		}
	}
}
