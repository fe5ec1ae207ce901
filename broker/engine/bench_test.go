package engine_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/store/storetest"
	"github.com/jmbarzee/dominion/topics"
)

// BenchmarkFanOut publishes to subscribers that take all: allocations must not
// grow with their number.
func BenchmarkFanOut(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			e, addr := serve(b, engine.Options{})
			for i := range n {
				conn, err := net.Dial("tcp", addr)
				if err != nil {
					b.Fatal(err)
				}
				defer conn.Close()
				c := connect(b, conn, fmt.Sprint("c", i))
				c.subscribeAndWait(0, "a/+")
				go func() {
					for buffer := make([]byte, 64<<10); ; {
						if _, err := conn.Read(buffer); err != nil {
							return
						}
					}
				}()
			}
			m := topics.Message{Topic: "a/b", Payload: make([]byte, 64)}
			b.ReportAllocs()
			for b.Loop() {
				e.Publish(m)
			}
			delivered := float64(b.N)*float64(n) - float64(e.Stats().Dropped)
			b.ReportMetric(delivered/b.Elapsed().Seconds(), "deliveries/s")
		})
	}
}

// BenchmarkPublish is one publisher over TCP, acknowledged, without and with a
// store in memory.
func BenchmarkPublish(b *testing.B) {
	for _, durable := range []bool{false, true} {
		for qos := range byte(3) {
			b.Run(fmt.Sprintf("stored=%v/qos%d", durable, qos), func(b *testing.B) {
				o := engine.Options{}
				if durable {
					o.Store = &storetest.Memory{}
				}
				_, addr := serve(b, o)
				dial := func(id string, s ...setting) *client {
					conn, err := net.Dial("tcp", addr)
					if err != nil {
						b.Fatal(err)
					}
					return connect(b, conn, id, s...)
				}
				sub, pub := dial("sub", persistent), dial("pub", persistent)
				defer sub.conn.Close()
				defer pub.conn.Close()
				sub.subscribeAndWait(qos, "a")
				b.ReportAllocs()
				for b.Loop() {
					id := pub.publish(qos, "a", "0123456789")
					switch first, body, _ := sub.frame(1 << 40); {
					case first>>1&3 == 1:
						sub.ack(4, uint16(body[3])<<8|uint16(body[4]))
					case first>>1&3 == 2:
						sub.ack(5, uint16(body[3])<<8|uint16(body[4]))
						_, body, _ = sub.frame(1 << 40)
						sub.ack(7, uint16(body[0])<<8|uint16(body[1]))
					}
					if qos > 0 {
						pub.nextAsText()
					}
					if qos > 1 {
						pub.ack(6, id)
						pub.nextAsText()
					}
				}
			})
		}
	}
}

// BenchmarkReplay sends 10,000 retained messages to a new subscriber.
func BenchmarkReplay(b *testing.B) {
	e, addr := serve(b, engine.Options{})
	const n = 10_000
	for i := range n {
		e.Publish(topics.Message{Topic: fmt.Sprintf("r/%d", i), Payload: make([]byte, 64), Retain: true})
	}
	for b.Loop() {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		c := connect(b, conn, "c")
		c.subscribeAndWait(0, "r/#")
		for range n {
			if _, _, err := c.frame(1 << 40); err != nil {
				b.Fatal(err)
			}
		}
		conn.Close()
	}
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "messages/s")
}

// BenchmarkLastingSessions makes sessions that are kept on the disk, one after
// the other: CONNECT, SUBSCRIBE, and away.
func BenchmarkLastingSessions(b *testing.B) {
	s, state, err := store.Open(b.TempDir(), store.Options{Sync: 100 * time.Millisecond})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close(context.Background()) })
	_, addr := serve(b, engine.Options{Store: s, State: state})
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		c := connect(b, conn, fmt.Sprint("lasting", i), persistent)
		c.subscribeAndWait(1, fmt.Sprint("lasting/", i))
		conn.Close()
		i++
	}
}
