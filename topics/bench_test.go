package topics

import "testing"

func BenchmarkParse(b *testing.B) {
	tree := NewTree("")
	for _, topic := range []string{"dominion/domain/kitchen/heartbeat", "dominion/request/status", "zigbee2mqtt/lamp/state"} {
		b.Run(topic, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				tree.Parse(topic)
			}
		})
	}
}
