package e2e

import (
	"bufio"
	"fmt"
	"io"
	"maps"
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

// from returns the items since position i, and what reports that there are more.
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

// await returns the first item since position i that matches. What is there at
// the end of the time is looked at, too, however late it is by then.
func (f *feed[T]) await(within time.Duration, i int, match func(T) bool) (v T, ok bool) {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	for over := false; ; {
		items, more := f.from(i)
		for _, v := range items {
			if match(v) {
				return v, true
			}
		}
		if over {
			return v, false
		}
		i += len(items)
		select {
		case <-more:
		case <-deadline.C:
			over = true
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

// patience is how long is waited for what must come. It is no promise: machines
// are crowded at times. What is promised within a time is waited for as long,
// and its own time compared: that of the process, the event, the heartbeat.
const patience = 2 * time.Minute

// eventually waits until something outside of MQTT is so: a process, a file.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	eventuallyWithin(t, patience, what, so)
}

func eventuallyWithin(t testing.TB, within time.Duration, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); ; {
		late := time.Now().After(deadline) // before the last look
		if so() {
			return
		}
		if late {
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
		if !strings.HasSuffix(line, "\n") {
			break // it is being written
		}
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
func (j Journal) Await(t testing.TB, n int, what, service string) Entry {
	t.Helper()
	var found []Entry
	eventually(t, fmt.Sprintf("%s writes %q in the journal, %d times", service, what, n), func() bool {
		found = j.Of(t, what, service)
		return len(found) >= n
	})
	return found[n-1]
}

// Running returns what lives of the test services, as "service@domain pid".
func (j Journal) Running(t testing.TB) []string {
	t.Helper()
	all := make(map[string]bool)
	for _, e := range j.Entries(t) {
		if e.What == "start" && e.lives() {
			all[fmt.Sprintf("%s@%s %d", e.Service, e.Domain, e.PID)] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// lives reports whether the process of an entry lives. There are some ten thousand
// pids, and a run of all tests needs more: another process may have it by now.
func (e Entry) lives() bool {
	if !alive(e.PID) {
		return false
	}
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", e.PID))
	environment := "\x00" + string(b)
	return strings.Contains(environment, "\x00SERVICE_NAME="+e.Service+"\x00") && strings.Contains(environment, "\x00DOMAIN_NAME="+e.Domain+"\x00")
}

// where takes the pids from what Running returns.
func where(running []string) []string {
	names := make([]string, len(running))
	for i, r := range running {
		names[i], _, _ = strings.Cut(r, " ")
	}
	return names
}

// AwaitRunning waits until exactly these services live, as "service@domain",
// sorted, and returns them with their pids.
func (j Journal) AwaitRunning(t testing.TB, want ...string) []string {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		late := time.Now().After(deadline)
		running := j.Running(t)
		if slices.Equal(where(running), want) {
			return running
		}
		if late {
			t.Fatalf("there live %q, and not within %v %q", running, patience, want)
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
