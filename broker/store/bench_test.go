package store

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"
)

// BenchmarkQueue is a QoS 1 message for one subscriber: queued, sent, taken
// off; as many at a time as publishers have in flight.
func BenchmarkQueue(b *testing.B) {
	for _, inflight := range []int{1, 100, 2000} {
		b.Run(fmt.Sprint(inflight), func(b *testing.B) {
			s, _, err := Open(b.TempDir(), Options{Sync: 100 * time.Millisecond})
			if err != nil {
				b.Fatal(err)
			}
			s.Append([]Record{Session{Client: "client"}}, nil)
			free := make(chan struct{}, inflight)
			payload := make([]byte, 64)
			before := s.Stats()
			b.ReportAllocs()
			b.ResetTimer()
			for i := range uint64(b.N) {
				free <- struct{}{}
				m := &Message{Topic: "home/kitchen/light", Payload: payload, QoS: 1}
				s.Append([]Record{Enqueue{Client: "client", Seq: i, Message: m, QoS: 1}}, func(err error) {
					if err != nil {
						b.Error(err)
					}
					s.Append([]Record{Dequeue{"client", i}}, nil)
					<-free
				})
			}
			if err := s.Close(context.Background()); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			after := s.Stats()
			b.ReportMetric(float64(after.Writes-before.Writes)/float64(b.N), "writes/op")
			b.ReportMetric(float64(after.Syncs-before.Syncs)/b.Elapsed().Seconds(), "syncs/s")
			b.ReportMetric(float64(after.Bytes-before.Bytes)/float64(b.N), "written/op")
		})
	}
}

// BenchmarkRetain changes one of 100,000 retained messages.
func BenchmarkRetain(b *testing.B) {
	dir := b.TempDir()
	fillHome(b, dir)
	s, _, err := Open(dir, Options{Sync: 100 * time.Millisecond})
	if err != nil {
		b.Fatal(err)
	}
	topics := make([]string, 100_000)
	for i := range topics {
		topics[i] = homeTopic(i)
	}
	before, n := s.Stats(), 0
	b.ReportAllocs()
	b.ResetTimer()
	var ended sync.WaitGroup
	for i := range b.N {
		m := &Message{Topic: topics[i*7919%len(topics)], Payload: make([]byte, 100)}
		n += len(m.Topic) + len(m.Payload)
		ended.Add(1)
		s.Append([]Record{Retain{m.Topic, m}}, func(error) { ended.Done() })
		if i%8 == 7 {
			ended.Wait()
		}
	}
	ended.Wait()
	b.StopTimer()
	after := s.Stats()
	b.ReportMetric(float64(after.Bytes-before.Bytes)/float64(n), "amplification")
	b.ReportMetric(float64(after.Size)/float64(after.Live), "size/live")
	_ = s.Close(context.Background())
}

func homeTopic(i int) string { return fmt.Sprintf("homeassistant/sensor/device_%06d/state", i) }

// fillHome writes 100,000 retained messages and 10,000 sessions.
func fillHome(b *testing.B, dir string) {
	s, _, err := Open(dir, Options{Sync: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 100_000 {
		s.Append([]Record{Retain{homeTopic(i), &Message{Topic: homeTopic(i), Payload: make([]byte, 100)}}}, nil)
	}
	for i := range 10_000 {
		c := fmt.Sprint("client-", i)
		s.Append([]Record{
			Session{Client: c, Version: 5, Expiry: NeverExpires},
			Subscribe{Client: c, Filter: "home/+/" + c + "/#", QoS: 1},
			Will{Client: c, Message: &Message{Topic: "gone/" + c, Payload: []byte("offline")}},
		}, nil)
	}
	if err := s.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkOpen is a cold start with the state of home.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	fillHome(b, dir)
	var state State
	var s *Store
	for b.Loop() {
		var err error
		if s, state, err = Open(dir, Options{Sync: time.Hour}); err != nil {
			b.Fatal(err)
		}
		if len(state.Retained) != 100_000 || len(state.Sessions) != 10_000 {
			b.Fatal("not everything came back")
		}
		b.StopTimer()
		_ = s.Close(context.Background())
		b.StartTimer()
	}
	var with, without runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&with)
	b.ReportMetric(float64(s.Stats().Size)/1e6, "MB-on-disk")
	runtime.KeepAlive(state)
	state = State{}
	s.index = nil
	runtime.GC()
	runtime.ReadMemStats(&without)
	b.ReportMetric(float64(with.HeapAlloc-without.HeapAlloc)/1e6, "MB-of-heap")
}
