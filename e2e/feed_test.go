package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// feed is a list that grows and can be waited on.
type feed[T any] struct {
	mu    sync.Mutex
	items []T
	more  chan struct{} // closed when the list has grown
}

func newFeed[T any]() *feed[T] { return &feed[T]{more: make(chan struct{})} }

func (f *feed[T]) add(v T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.items = append(f.items, v)
	close(f.more)
	f.more = make(chan struct{})
}

// from returns the items since position i, and what tells that there are more.
func (f *feed[T]) from(i int) ([]T, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.items[i:len(f.items):len(f.items)], f.more
}

func (f *feed[T]) len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.items)
}

// await returns the first item since position i that matches.
func (f *feed[T]) await(within time.Duration, i int, match func(T) bool) (v T, ok bool) {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	for {
		items, more := f.from(i)
		for _, v := range items {
			if match(v) {
				return v, true
			}
		}
		i += len(items)
		select {
		case <-more:
		case <-deadline.C:
			return v, false
		}
	}
}

// readLines feeds the lines of r until it ends.
func readLines(r io.Reader, each func(string)) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		each(lines.Text())
	}
}

// eventually waits until something outside of MQTT is so: a process, a file.
func eventually(t testing.TB, within time.Duration, what string, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !so() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
		time.Sleep(10 * time.Millisecond) // between two looks, not instead of one
	}
}

// Entry is a line that a test service wrote about itself.
type Entry struct {
	At                    time.Time
	What, Service, Domain string
	PID                   int
}

// Journal is what the test services of a home wrote: the truth about which
// process ran when, beside what the programs say about it.
type Journal struct{ file string }

// Entries returns what was written so far, in the order of writing.
func (j Journal) Entries(t testing.TB) []Entry {
	t.Helper()
	b, err := os.ReadFile(j.file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var all []Entry
	for line := range strings.Lines(string(b)) {
		var e Entry
		var nanoseconds int64
		if _, err := fmt.Sscan(line, &nanoseconds, &e.What, &e.Service, &e.Domain, &e.PID); err != nil {
			t.Fatalf("journal: %q: %v", line, err)
		}
		e.At = time.Unix(0, nanoseconds)
		all = append(all, e)
	}
	return all
}

// Of returns the entries of one kind and service, in the order of writing.
func (j Journal) Of(t testing.TB, what, service string) []Entry {
	t.Helper()
	var some []Entry
	for _, e := range j.Entries(t) {
		if e.What == what && e.Service == service {
			some = append(some, e)
		}
	}
	return some
}

// Await waits for the n-th entry (from 1) of one kind and service.
func (j Journal) Await(t testing.TB, within time.Duration, n int, what, service string) Entry {
	t.Helper()
	var found []Entry
	eventually(t, within, fmt.Sprintf("%s writes %q in the journal, %d times", service, what, n), func() bool {
		found = j.Of(t, what, service)
		return len(found) >= n
	})
	return found[n-1]
}

// Running returns what lives of the test services, as "service@domain pid".
func (j Journal) Running(t testing.TB) []string {
	t.Helper()
	var all []string
	for _, e := range j.Entries(t) {
		if e.What == "start" && alive(e.PID) {
			all = append(all, fmt.Sprintf("%s@%s %d", e.Service, e.Domain, e.PID))
		}
	}
	slices.Sort(all)
	return all
}

// AwaitRunning waits until exactly these services live, as "service@domain",
// sorted, and returns them with their pids.
func (j Journal) AwaitRunning(t testing.TB, within time.Duration, want ...string) []string {
	t.Helper()
	var running []string
	deadline := time.Now().Add(within)
	for {
		running = j.Running(t)
		names := make([]string, len(running))
		for i, r := range running {
			names[i], _, _ = strings.Cut(r, " ")
		}
		if slices.Equal(names, want) {
			return running
		}
		if time.Now().After(deadline) {
			t.Fatalf("there live %q, and not within %v %q", running, within, want)
		}
		time.Sleep(10 * time.Millisecond) // between two looks
	}
}

// Undisturbed fails the test unless the very same processes live as before
// and none was started in between.
func (j Journal) Undisturbed(t testing.TB, when string, before []string, starts int) {
	t.Helper()
	if now := j.Running(t); !slices.Equal(now, before) {
		t.Errorf("%s: there live %q, before there lived %q", when, now, before)
	}
	if n := j.Starts(t); n != starts {
		t.Errorf("%s: %d processes were started", when, n-starts)
	}
}

// Starts counts the processes that were started so far.
func (j Journal) Starts(t testing.TB) int {
	t.Helper()
	n := 0
	for _, e := range j.Entries(t) {
		if e.What == "start" {
			n++
		}
	}
	return n
}
