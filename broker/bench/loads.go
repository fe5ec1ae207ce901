package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"
)

// figure is one measured value.
type figure struct {
	name, unit string
	// lower is set if lower is better.
	lower bool
	run   func(t target, r *running) (float64, error)
	// fresh is set if it needs a broker without previous load, whose effects would be
	// measured with it.
	fresh bool
}

const payloadSize = 64

var payload = bytes.Repeat([]byte("x"), payloadSize)

// figures returns all figures. seconds is the duration of a latency measurement, scale
// the share of the full load.
func figures(seconds float64, scale float64) []figure {
	n := func(x int) int { return max(int(float64(x)*scale), 1) }
	return []figure{
		{"QoS 0, 1 to 1", "deliveries/s", false, spread(1, 1, n(600_000), 0), false},
		{"QoS 0, 20 to 1", "deliveries/s", false, spread(20, 1, n(600_000), 0), false},
		{"QoS 0, 4 to 10", "deliveries/s", false, spread(4, 10, n(120_000), 0), false},
		{"QoS 0, 1 to 1000", "deliveries/s", false, spread(1, 1000, n(1_000), 0), false},
		{"QoS 0, 1 to 1, by TLS", "deliveries/s", false, byTLS(n(300_000)), false},
		{"QoS 1, 20 to 1", "messages/s", false, spread(20, 1, n(150_000), 1), false},
		{"QoS 2, 20 to 1", "messages/s", false, spread(20, 1, n(60_000), 2), false},
		{"CPU a message, QoS 0, 1 to 1", "µs", true, cost(n(300_000)), false},
		{"p50 at 2,000/s", "µs", true, latency(seconds, 0.50), false},
		{"p99 at 2,000/s", "µs", true, latency(seconds, 0.99), false},
		{"p99.9 at 2,000/s", "µs", true, latency(seconds, 0.999), false},
		{"connects", "1/s", false, connects(n(3_000)), false},
		{"memory of an idle connection", "bytes", true, idle(n(5_000)), true},
		{"the same by TLS", "bytes", true, idleTLS(n(1_000)), true},
		{"retained published", "1/s", false, retain(n(100_000)), false},
		{"retained replayed", "1/s", false, replay(n(100_000)), false},
		{"sessions made that last", "1/s", false, sessions(n(10_000)), false},
		{"cold start with these", "ms", true, coldStart, false},
		{"CPU at rest with these", "%", true, rest(2 * seconds), false},
	}
}

// window bounds how far a publisher of QoS 0 may be ahead of the slowest subscriber: a
// broker may drop QoS 0 for a client that does not keep up, and a dropped message is
// not a delivery.
const window = 2_000

// spread measures the delivery of total messages from publishers to subscribers.
func spread(publishers, subscribers, total int, qos byte) func(target, *running) (float64, error) {
	return func(_ target, r *running) (float64, error) {
		each := total / publishers
		var ready, done sync.WaitGroup
		errs := make(chan error, publishers+subscribers)
		progress := make([]chan int, 0, subscribers)
		for i := range subscribers {
			s, err := r.dial(fmt.Sprintf("sub%d", i), true)
			if err != nil {
				return 0, err
			}
			defer s.Close()
			if err := s.subscribe("bench/#", qos); err != nil {
				return 0, err
			}
			p := make(chan int, 1)
			progress = append(progress, p)
			done.Go(func() { errs <- receive(s, each*publishers, p) })
		}
		credit := newCredit(progress, publishers)
		start := make(chan struct{})
		for i := range publishers {
			p, err := r.dial(fmt.Sprintf("pub%d", i), true)
			if err != nil {
				return 0, err
			}
			defer p.Close()
			ready.Add(1)
			done.Go(func() {
				ready.Done()
				<-start
				errs <- send(p, fmt.Sprintf("bench/%d", i), each, qos, credit)
			})
		}
		ready.Wait()
		began := time.Now()
		close(start)
		done.Wait()
		took := time.Since(began)
		close(errs)
		for err := range errs {
			if err != nil {
				return 0, err
			}
		}
		return float64(each*publishers*subscribers) / took.Seconds(), nil
	}
}

// byTLS measures one publisher and one subscriber by TLS.
func byTLS(total int) func(target, *running) (float64, error) {
	return func(_ target, r *running) (float64, error) {
		s, err := r.dialTLS("sub")
		if err != nil {
			return 0, err
		}
		defer s.Close()
		if err := s.subscribe("bench/#", 0); err != nil {
			return 0, err
		}
		p, err := r.dialTLS("pub")
		if err != nil {
			return 0, err
		}
		defer p.Close()
		progress := make(chan int, 1)
		credit := newCredit([]chan int{progress}, 1)
		var done sync.WaitGroup
		errs := make(chan error, 2)
		began := time.Now()
		done.Go(func() { errs <- receive(s, total, progress) })
		done.Go(func() { errs <- send(p, "bench/0", total, 0, credit) })
		done.Wait()
		took := time.Since(began)
		close(errs)
		for err := range errs {
			if err != nil {
				return 0, err
			}
		}
		return float64(total) / took.Seconds(), nil
	}
}

// receive reads n messages, acknowledges them and reports its progress.
func receive(s *raw, n int, progress chan<- int) error {
	defer close(progress)
	acks := make([]byte, 0, 4096)
	for got := 0; got < n; {
		if s.in.Buffered() == 0 {
			if len(acks) > 0 {
				if _, err := s.Write(acks); err != nil {
					return err
				}
				acks = acks[:0]
			}
			select {
			case progress <- got:
			default:
			}
			_ = s.SetReadDeadline(time.Now().Add(20 * time.Second))
		}
		kind, body, err := s.peek()
		if err != nil {
			return fmt.Errorf("%d of %d arrived: %w", got, n, err)
		}
		switch {
		case kind&0xf0 == publish:
			got++
			if qos := kind >> 1 & 3; qos > 0 {
				at := 2 + int(binary.BigEndian.Uint16(body))
				acks = append(acks, map[byte]byte{1: puback, 2: pubrec}[qos], 2, body[at], body[at+1])
			}
		case kind == pubrel:
			acks = append(acks, pubcomp, 2, body[0], body[1])
		}
		if _, err := s.in.Discard(len(body)); err != nil {
			return err
		}
	}
	_, err := s.Write(acks)
	return err
}

// peek returns the next packet without copying it; the caller discards its body.
func (r *raw) peek() (kind byte, body []byte, err error) {
	kind, n, err := r.header()
	if err != nil {
		return 0, nil, err
	}
	body, err = r.in.Peek(n)
	return kind, body, err
}

// credit limits publishers to a window ahead of the slowest subscriber.
type credit struct {
	mu      sync.Mutex
	moved   *sync.Cond
	sent    int
	arrived []int
}

// newCredit returns a credit that is updated by the progress of the subscribers.
func newCredit(progress []chan int, publishers int) *credit {
	c := &credit{arrived: make([]int, len(progress))}
	c.moved = sync.NewCond(&c.mu)
	for i, p := range progress {
		go func() {
			for n := range p {
				c.mu.Lock()
				c.arrived[i] = n
				c.mu.Unlock()
				c.moved.Broadcast()
			}
			c.mu.Lock()
			c.arrived[i] = 1 << 60
			c.mu.Unlock()
			c.moved.Broadcast()
		}()
	}
	return c
}

// take waits until n more messages may be sent.
func (c *credit) take(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.sent+n > slices.Min(c.arrived)+window {
		c.moved.Wait()
	}
	c.sent += n
}

// send publishes n messages in batches, and waits for their acknowledgements if qos is
// not 0.
func send(p *raw, topic string, n int, qos byte, c *credit) error {
	const batch = 50
	acked := make(chan struct{}, 1<<16)
	if qos > 0 {
		go func() {
			for {
				kind, first, err := p.skip()
				if err != nil {
					close(acked)
					return
				}
				if kind == pubrec {
					_, _ = p.Write([]byte{pubrel, 2, first[0], first[1]})
					continue
				}
				acked <- struct{}{}
			}
		}()
	}
	buffer := make([]byte, 0, batch*(payloadSize+32))
	unacked := 0
	for sent := 0; sent < n; {
		m := min(batch, n-sent)
		c.take(m)
		buffer = buffer[:0]
		for range m {
			sent++
			buffer = append(buffer, message(topic, payload, qos, false, uint16(sent%65000+1))...)
		}
		if _, err := p.Write(buffer); err != nil {
			return err
		}
		if qos > 0 {
			for unacked += m; unacked > 4*batch; unacked-- {
				if _, ok := <-acked; !ok {
					return fmt.Errorf("the publisher was disconnected")
				}
			}
		}
	}
	if qos > 0 {
		for ; unacked > 0; unacked-- {
			if _, ok := <-acked; !ok {
				return fmt.Errorf("the publisher was disconnected")
			}
		}
	}
	return nil
}

// cost measures the broker's processor time for one message.
func cost(n int) func(target, *running) (float64, error) {
	return func(t target, r *running) (float64, error) {
		before := r.cpu()
		if _, err := spread(1, 1, n, 0)(t, r); err != nil {
			return 0, err
		}
		return float64((r.cpu() - before).Microseconds()) / float64(n), nil
	}
}

// latency measures the time from publisher to subscriber at 2,000 messages a second.
func latency(seconds, quantile float64) func(target, *running) (float64, error) {
	return func(_ target, r *running) (float64, error) {
		const every = 500 * time.Microsecond
		n := int(seconds * 2000)
		s, err := r.dial("latency-sub", true)
		if err != nil {
			return 0, err
		}
		defer s.Close()
		if err := s.subscribe("latency", 0); err != nil {
			return 0, err
		}
		p, err := r.dial("latency-pub", true)
		if err != nil {
			return 0, err
		}
		defer p.Close()
		began := time.Now()
		took := make([]time.Duration, 0, n)
		finished := make(chan error, 1)
		go func() {
			for range n {
				_ = s.SetReadDeadline(time.Now().Add(20 * time.Second))
				_, body, err := s.next()
				if err != nil {
					finished <- err
					return
				}
				at := time.Duration(binary.BigEndian.Uint64(body[len(body)-payloadSize:]))
				took = append(took, time.Since(began)-at)
			}
			finished <- nil
		}()
		body := bytes.Clone(payload)
		for i := range n {
			// A timer is late by more than what is measured: sleep for most of
			// the time, then spin.
			due := time.Duration(i) * every
			if left := due - time.Since(began); left > 200*time.Microsecond {
				time.Sleep(left - 200*time.Microsecond)
			}
			for time.Since(began) < due {
				runtime.Gosched()
			}
			binary.BigEndian.PutUint64(body, uint64(time.Since(began)))
			if _, err := p.Write(message("latency", body, 0, false, 0)); err != nil {
				return 0, err
			}
		}
		if err := <-finished; err != nil {
			return 0, err
		}
		slices.Sort(took)
		return float64(took[min(int(float64(n)*quantile), n-1)].Nanoseconds()) / 1000, nil
	}
}

// connects measures connections that are made one after another on each of 8
// goroutines.
func connects(n int) func(target, *running) (float64, error) {
	return func(_ target, r *running) (float64, error) {
		const lines = 8
		errs := make(chan error, lines)
		began := time.Now()
		for i := range lines {
			go func() {
				for j := range n / lines {
					c, err := r.dial(fmt.Sprintf("c%d-%d", i, j), true)
					if err != nil {
						errs <- err
						return
					}
					c.Close()
				}
				errs <- nil
			}()
		}
		for range lines {
			if err := <-errs; err != nil {
				return 0, err
			}
		}
		return float64(n) / time.Since(began).Seconds(), nil
	}
}

// idle measures the memory of a connection with one subscription and no traffic.
func idle(n int) func(target, *running) (float64, error) {
	return idleBy(n, func(r *running, id string) (*raw, error) { return r.dial(id, true) })
}

// idleTLS is idle by TLS.
func idleTLS(n int) func(target, *running) (float64, error) {
	return idleBy(n, func(r *running, id string) (*raw, error) { return r.dialTLS(id) })
}

// sessions measures making persistent sessions, each with a subscription.
func sessions(n int) func(target, *running) (float64, error) {
	return func(_ target, r *running) (float64, error) {
		began := time.Now()
		for i := range n {
			c, err := r.dial(fmt.Sprintf("lasting%d", i), false)
			if err != nil {
				return 0, err
			}
			if err := c.subscribe(fmt.Sprintf("lasting/%d", i), 1); err != nil {
				return 0, err
			}
			c.Close()
			if time.Since(began) > time.Minute {
				return 0, fmt.Errorf("only %d sessions in a minute", i+1)
			}
		}
		return float64(n) / time.Since(began).Seconds(), nil
	}
}

// idleBy measures the growth of the broker's resident memory by n idle connections.
func idleBy(n int, dial func(r *running, id string) (*raw, error)) func(target, *running) (float64, error) {
	return func(_ target, r *running) (float64, error) {
		time.Sleep(500 * time.Millisecond) // the broker has finished starting
		before := r.resident()
		for i := range n {
			c, err := dial(r, fmt.Sprintf("idle%d", i))
			if err != nil {
				return 0, err
			}
			defer c.Close()
			if err := c.subscribe(fmt.Sprintf("idle/%d", i), 0); err != nil {
				return 0, err
			}
		}
		time.Sleep(500 * time.Millisecond)
		after := r.resident()
		if before <= 0 || after <= before {
			return 0, fmt.Errorf("cannot be measured: the resident memory was %d bytes before %d connections and %d with them", before, n, after)
		}
		return float64(after-before) / float64(n), nil
	}
}

// retain publishes n retained topics at QoS 1.
func retain(n int) func(target, *running) (float64, error) {
	return func(_ target, r *running) (float64, error) {
		p, err := r.dial("retain", true)
		if err != nil {
			return 0, err
		}
		defer p.Close()
		began := time.Now()
		failed := make(chan error, 1)
		slots := make(chan struct{}, 200)
		go func() {
			for range n {
				if _, _, err := p.skip(); err != nil {
					failed <- err
					return
				}
				<-slots
			}
			failed <- nil
		}()
		for i := range n {
			select {
			case slots <- struct{}{}:
			case err := <-failed:
				return 0, err
			}
			if _, err := p.Write(message(fmt.Sprintf("retained/%d/%d", i/100, i%100), payload, 1, true, uint16(i%65000+1))); err != nil {
				return 0, err
			}
		}
		if err := <-failed; err != nil {
			return 0, err
		}
		return float64(n) / time.Since(began).Seconds(), nil
	}
}

// replay reads what retain published; a missing message is an error.
func replay(n int) func(target, *running) (float64, error) {
	return func(_ target, r *running) (float64, error) {
		s, err := r.dial("replay", true)
		if err != nil {
			return 0, err
		}
		defer s.Close()
		began := time.Now()
		body := append([]byte{0, 1}, text("retained/#")...)
		if _, err := s.Write(packet(subscribe, append(body, 1))); err != nil {
			return 0, err
		}
		if err := s.drain(n, 20*time.Second); err != nil {
			return 0, err
		}
		return float64(n) / time.Since(began).Seconds(), nil
	}
}

// coldStart measures the time from the start of the program to the first session, with
// the data of the previous loads on disk.
func coldStart(t target, r *running) (float64, error) {
	r.stop()
	began := time.Now()
	if err := r.launch(t); err != nil {
		return 0, err
	}
	return float64(time.Since(began).Microseconds()) / 1000, nil
}

// rest measures the share of a core that the broker uses without traffic.
func rest(seconds float64) func(target, *running) (float64, error) {
	return func(_ target, r *running) (float64, error) {
		before := r.cpu()
		time.Sleep(time.Duration(seconds * float64(time.Second)))
		return 100 * (r.cpu() - before).Seconds() / seconds, nil
	}
}
