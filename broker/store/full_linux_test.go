package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// smallDisk is a disk with room for size bytes.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("needs a disk of its own, which root can make: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// large is a message that fills a disk soon.
func large(topic string) *Message {
	return &Message{Topic: topic, Payload: []byte(strings.Repeat(topic, 5000/len(topic)))}
}

// fill retains until the disk is full, and queues one small message for each.
func fill(t *testing.T, s *Store, m Model) (n int) {
	t.Helper()
	if err := write(t, s, Session{Client: "c"}); err != nil {
		t.Fatal(err)
	}
	m.Apply(Session{Client: "c"})
	for ; ; n++ {
		topic := fmt.Sprint("fill/", n)
		message := large(topic)
		batch := []Record{Retain{topic, message}, Enqueue{Client: "c", Seq: uint64(n), Message: message}}
		err := write(t, s, batch...)
		if errors.Is(err, ErrFull) {
			return n
		}
		if err != nil || n > 100_000 {
			t.Fatal(n, err)
		}
		for _, r := range batch {
			m.Apply(r)
		}
	}
}

func TestFullDisk(t *testing.T) {
	dir := smallDisk(t, 12<<20)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _, l := open(t, filepath.Join(dir, "store"), Options{Sync: time.Millisecond, segment: 1 << 20})
	m := NewModel()
	n := fill(t, s, m)
	if n < 1000 {
		t.Errorf("full after %d messages", n)
	}
	// Refusing goes on, at once, and leaves nothing behind.
	for i := range 100 {
		topic := fmt.Sprint("refused/", i)
		if err := write(t, s, Retain{topic, large(topic)}, Enqueue{Client: "c", Seq: 1 << 40, Message: large(topic)}); !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
	}
	if got := strings.Count(l.String(), "is full"); got != 1 {
		t.Errorf("said %d times that it is full", got)
	}
	// Taking away works: on disk while what was put by lasts, then in memory.
	var kept, owed int
	for i := range 12000 {
		batch := []Record{Sent{"c", uint64(i % n), uint16(i + 1), Published}}
		if i > 11900 {
			batch = []Record{Dequeue{"c", uint64(i % n)}}
		}
		switch err := write(t, s, batch...); {
		case err == nil:
			kept++
		case errors.Is(err, ErrFull):
			owed++
		default:
			t.Fatal(err)
		}
		m.Apply(batch[0])
	}
	if kept < 1000 || owed < 100 {
		t.Errorf("%d kept, %d owed", kept, owed)
	}
	// Room comes back, nobody says so: what is owed is written by itself.
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); !strings.Contains(l.String(), "accepts everything again"); {
		if time.Now().After(deadline) {
			t.Fatal("it never wrote what it owed")
		}
		time.Sleep(10 * time.Millisecond)
	}
	last := Retain{"last", large("last")}
	if err := write(t, s, last); err != nil {
		t.Fatal(err)
	}
	m.Apply(last)
	closeStore(t, s)
	_, state, l := open(t, filepath.Join(dir, "store"), Options{})
	compareStates(t, state, m.State())
	if l.String() != "" {
		t.Error(l)
	}
}

// TestFullDiskThatIsKilled reads what is there while it is full.
func TestFullDiskThatIsKilled(t *testing.T) {
	dir := smallDisk(t, 6<<20)
	s, _, _ := open(t, dir, Options{Sync: time.Millisecond, segment: 1 << 20})
	m := NewModel()
	fill(t, s, m)
	copied := t.TempDir()
	if err := os.CopyFS(filepath.Join(copied, "store"), os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	_, state, l := open(t, filepath.Join(copied, "store"), Options{})
	compareStates(t, state, m.State())
	if l.String() != "" {
		t.Error(l)
	}
}

// TestFullDiskMakesItsOwnRoom fills a disk with messages and clears them: that
// is all the room there is.
func TestFullDiskMakesItsOwnRoom(t *testing.T) {
	dir := smallDisk(t, 12<<20)
	s, _, l := open(t, dir, Options{Sync: time.Millisecond, segment: 1 << 20})
	m := NewModel()
	n := fill(t, s, m)
	for i := range n {
		err := write(t, s, Retain{Topic: fmt.Sprint("fill/", i)}, Dequeue{"c", uint64(i)})
		if err != nil && !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(2 * time.Minute); ; {
		err := write(t, s, Retain{"last", large("last")})
		if err == nil {
			break
		}
		if !errors.Is(err, ErrFull) || time.Now().After(deadline) {
			t.Fatal(err, l)
		}
		time.Sleep(time.Millisecond)
	}
	closeStore(t, s)
	_, state, _ := open(t, dir, Options{})
	if len(state.Retained) != 1 || len(state.Sessions[0].Queue) != 0 {
		t.Errorf("%d retained, %d queued", len(state.Retained), len(state.Sessions[0].Queue))
	}
}

// TestFullDiskAtTheStart opens a log where there is no room for a byte.
func TestFullDiskAtTheStart(t *testing.T) {
	dir := smallDisk(t, 2<<20)
	s, _, _ := open(t, filepath.Join(dir, "store"), Options{Sync: time.Hour})
	if err := write(t, s, Retain{"a", &Message{Topic: "a"}}); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 4<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	s, state, _ := open(t, filepath.Join(dir, "store"), Options{Sync: time.Hour})
	if len(state.Retained) != 1 {
		t.Error("what was there did not come back")
	}
	if err := write(t, s, Retain{"b", &Message{Topic: "b"}}); !errors.Is(err, ErrFull) {
		t.Errorf("%v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := write(t, s, Retain{"b", &Message{Topic: "b"}}); err != nil {
		t.Error(err)
	}
	closeStore(t, s)
	// And where there is no log yet.
	if err := os.WriteFile(ballast, make([]byte, 4<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if _, _, err := Open(filepath.Join(dir, "other"), Options{}); !errors.Is(err, ErrFull) {
		t.Errorf("%v", err)
	}
}

// TestFullDiskIsReportedOnce alternates small and large batches on a disk that
// has room for the small ones alone: one episode, which ends when the large ones
// fit again.
func TestFullDiskIsReportedOnce(t *testing.T) {
	dir := smallDisk(t, 3<<20)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _, l := open(t, filepath.Join(dir, "store"), Options{Sync: time.Millisecond})
	var refused int
	for i := range 50 {
		payload := make([]byte, 10)
		if i%2 == 0 {
			payload = make([]byte, 4<<20)
		}
		switch err := write(t, s, Retain{"a", &Message{Topic: "a", Payload: payload}}); {
		case errors.Is(err, ErrFull):
			refused++
		case err != nil || i%2 == 0:
			t.Fatalf("%d: %v", i, err)
		}
	}
	if refused != 25 {
		t.Errorf("%d were refused, want the 25 large ones", refused)
	}
	if !s.Refuses() {
		t.Error("it does not say that it refuses")
	}
	if got := strings.Count(l.String(), "\n"); got != 1 || !strings.Contains(l.String(), "is full") {
		t.Errorf("%d lines in the log, want one:\n%s", got, l)
	}
}

// TestFullDiskSmallerThanASegment clears what fills a disk that has no room for
// a second segment, with messages that are not needed any more and with one that
// is.
func TestFullDiskSmallerThanASegment(t *testing.T) {
	dir := smallDisk(t, 1<<20)
	s, _, l := open(t, dir, Options{Sync: time.Millisecond})
	m := NewModel()
	n := fill(t, s, m)
	for i := 1; i < n; i++ {
		for _, r := range []Record{Retain{Topic: fmt.Sprint("fill/", i)}, Dequeue{"c", uint64(i)}} {
			if err := write(t, s, r); err != nil && !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			m.Apply(r)
		}
	}
	for deadline := time.Now().Add(2 * time.Minute); s.Refuses(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not recover", l)
		}
	}
	for i := range 200 { // more than the disk holds, one after the other
		r := Retain{"last", large(fmt.Sprint("last", i))}
		r.Message.Topic = "last"
		if err := write(t, s, r); err != nil {
			// The room of the ones before is won beside this.
			if !errors.Is(err, ErrFull) {
				t.Fatal(i, err)
			}
			continue
		}
		m.Apply(r)
	}
	closeStore(t, s)
	_, state, _ := open(t, dir, Options{})
	compareStates(t, state, m.State())
}
