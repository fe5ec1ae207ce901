package mailbox

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func ready[T any](b *Box[T]) bool {
	select {
	case <-b.Ready():
		return true
	default:
		return false
	}
}

func TestOrder(t *testing.T) {
	b := New[int](10)
	if ready(b) {
		t.Error("an empty box is ready")
	}
	for n := range 5 {
		b.Put(n)
	}
	if !ready(b) {
		t.Error("a box with events is not ready")
	}
	if ready(b) {
		t.Error("it is ready once for each event, not once for all")
	}
	if got, dropped := b.Take(); !slices.Equal(got, []int{0, 1, 2, 3, 4}) || dropped != 0 {
		t.Errorf("%v, %d dropped", got, dropped)
	}
	if got, dropped := b.Take(); len(got) != 0 || dropped != 0 {
		t.Errorf("taken twice: %v, %d", got, dropped)
	}
	b.Put(5)
	if got, _ := b.Take(); !ready(b) || !slices.Equal(got, []int{5}) {
		t.Errorf("after a take: %v", got)
	}
}

func TestWhatWasTakenStays(t *testing.T) {
	b := New[int](4)
	b.Put(1)
	b.Put(2)
	taken, _ := b.Take()
	b.Put(3)
	b.Put(4)
	if !slices.Equal(taken, []int{1, 2}) {
		t.Errorf("a later Put wrote into what was taken: %v", taken)
	}
}

func TestFullBoxDropsAndCounts(t *testing.T) {
	b := New[int](3)
	for n := range 8 {
		b.Put(n) // it must not wait
	}
	if got, dropped := b.Take(); !slices.Equal(got, []int{0, 1, 2}) || dropped != 5 {
		t.Errorf("%v, %d dropped", got, dropped)
	}
	b.Put(8)
	if got, dropped := b.Take(); !slices.Equal(got, []int{8}) || dropped != 0 {
		t.Errorf("the count starts again with each Take: %v, %d dropped", got, dropped)
	}
}

// TestManySenders: nothing is lost, doubled or turned round, whoever sends
// while the owner takes, and the owner is woken for the last one too.
func TestManySenders(t *testing.T) {
	const senders, each = 8, 2000
	type event struct{ sender, n int }
	b := New[event](senders * each)
	var sending sync.WaitGroup
	for s := range senders {
		sending.Go(func() {
			for n := range each {
				b.Put(event{s, n})
			}
		})
	}
	next := make([]int, senders)
	for got := 0; got < senders*each; {
		<-b.Ready() // hangs, and so fails, if a wake-up is lost
		events, dropped := b.Take()
		for _, e := range events {
			if e.n != next[e.sender] {
				t.Fatalf("sender %d: got %d, want %d", e.sender, e.n, next[e.sender])
			}
			next[e.sender]++
		}
		if got += len(events); dropped != 0 {
			t.Fatalf("%d dropped", dropped)
		}
	}
	sending.Wait()
}

// TestSendersCount: what is taken and what was dropped is what was sent.
func TestSendersCount(t *testing.T) {
	const senders, each = 4, 5000
	b := New[int](64)
	var sending sync.WaitGroup
	for range senders {
		sending.Go(func() {
			for n := range each {
				b.Put(n)
			}
		})
	}
	sent := make(chan struct{})
	go func() { sending.Wait(); close(sent) }()
	total := 0
	take := func() {
		events, dropped := b.Take()
		if len(events) > 64 {
			t.Errorf("%d events in a box of 64", len(events))
		}
		total += len(events) + dropped
	}
	for done := false; !done; {
		select {
		case <-b.Ready():
			take()
		case <-sent:
			done = true
		}
	}
	take()
	if total != senders*each {
		t.Errorf("%d of %d accounted for", total, senders*each)
	}
}

// TestLoopSleepsUntilThereIsSomething runs an owner's loop in virtual time.
func TestLoopSleepsUntilThereIsSomething(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New[string](8)
		var seen []string
		stop := make(chan struct{})
		go func() {
			for {
				select {
				case <-b.Ready():
					events, _ := b.Take()
					seen = append(seen, events...)
				case <-stop:
					return
				}
			}
		}()
		for _, e := range []string{"a", "b", "c"} {
			time.Sleep(time.Hour)
			b.Put(e)
			synctest.Wait()
			if seen[len(seen)-1] != e {
				t.Errorf("after %s the loop had seen %q", e, seen)
			}
		}
		close(stop)
	})
}

// A box of bytes is full by them, also with few events.
func TestSized(t *testing.T) {
	b := NewSized(100, 10, func(s string) int { return len(s) })
	for _, s := range []string{"12345", "1234", "12", "1"} {
		b.Put(s)
	}
	if got, dropped := b.Take(); !slices.Equal(got, []string{"12345", "1234", "1"}) || dropped != 1 {
		t.Errorf("%q, %d dropped", got, dropped)
	}
	b.Put("1234567890") // what was taken makes room
	if got, dropped := b.Take(); len(got) != 1 || dropped != 0 {
		t.Errorf("%q, %d dropped", got, dropped)
	}
}

// What must not be lost is added to a full box too.
func TestPutAlways(t *testing.T) {
	b := NewSized(2, 100, func(int) int { return 60 })
	b.Put(1)
	b.Put(2) // too large
	b.PutAlways(3)
	b.PutAlways(4)
	if got, dropped := b.Take(); !slices.Equal(got, []int{1, 3, 4}) || dropped != 1 || !ready(b) {
		t.Errorf("%v, %d dropped", got, dropped)
	}
	b.Put(5)
	if got, dropped := b.Take(); !slices.Equal(got, []int{5}) || dropped != 0 {
		t.Errorf("after a take: %v, %d dropped", got, dropped)
	}
}
