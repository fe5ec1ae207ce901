package store

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// open opens a store that the test closes, and what was logged meanwhile.
func open(t testing.TB, dir string, o Options) (*Store, State, *recordedLog) {
	t.Helper()
	l := &recordedLog{}
	o.Log = slog.New(slog.NewTextHandler(l, nil))
	s, state, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s, state, l
}

type recordedLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *recordedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *recordedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// write appends and waits for done.
func write(t testing.TB, s *Store, records ...Record) error {
	t.Helper()
	done := make(chan error, 1)
	s.Append(records, func(err error) { done <- err })
	return <-done
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// byTopic puts the retained messages into an order.
func byTopic(s State) State {
	slices.SortFunc(s.Retained, func(a, b *Message) int { return strings.Compare(a.Topic, b.Topic) })
	return s
}

// compareStates compares states; times by the moment.
func compareStates(t *testing.T, got, want State) {
	t.Helper()
	got, want = byTopic(got), byTopic(want)
	if reflect.DeepEqual(got, want) {
		return
	}
	if len(got.Retained) != len(want.Retained) || len(got.Sessions) != len(want.Sessions) {
		t.Fatalf("%d retained and %d sessions, want %d and %d", len(got.Retained), len(got.Sessions), len(want.Retained), len(want.Sessions))
	}
	for i := range got.Retained {
		if !reflect.DeepEqual(got.Retained[i], want.Retained[i]) {
			t.Fatalf("retained\n%+v, want\n%+v", got.Retained[i], want.Retained[i])
		}
	}
	for i := range got.Sessions {
		if !reflect.DeepEqual(got.Sessions[i], want.Sessions[i]) {
			t.Fatalf("session\n%+v, want\n%+v", got.Sessions[i], want.Sessions[i])
		}
	}
	t.Fatal("the states differ")
}

// allRecords is one record of each kind, with every field set.
func allRecords() []Record {
	m := &Message{
		Topic: "home/kitchen/light", Payload: []byte("on\x00\xff"), QoS: 2, Retain: true,
		Expires: time.Unix(1_800_000_000, 5).UTC(), Publisher: "switch",
		Properties: Properties{
			HasPayloadFormat: true, PayloadFormat: 1, HasContentType: true, ContentType: "text/plain",
			ResponseTopic: "home/answer", Correlation: []byte{}, User: []UserProperty{{"a", "1"}, {"a", "2"}, {"", ""}},
		},
	}
	bare := &Message{Topic: "x"}
	return []Record{
		Retain{m.Topic, m},
		Session{Client: "pi", Version: 5, User: "joe", HasUser: true, Listener: "mqtts", Expiry: NeverExpires, Disconnected: time.Unix(1_700_000_000, 1).UTC(), EndedByServer: true},
		Subscribe{Client: "pi", Filter: "$share/g/home/+/#", QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: 2, Identifier: 268435455},
		Subscribe{Client: "pi", Filter: "a"},
		Enqueue{Client: "pi", Seq: 1 << 40, Message: m, QoS: 1, Retain: true, Identifiers: []uint32{7, 268435455}},
		Enqueue{Client: "pi", Seq: 3, Message: bare, QoS: 2},
		Enqueue{Client: "pi", Seq: 4, Message: bare, QoS: 1, Identifiers: []uint32{1}, Shared: "$share/g/home/+/#"},
		Sent{Client: "pi", Seq: 3, PacketID: 65535, Phase: Releasing},
		Received{Client: "pi", PacketID: 9},
		Received{Client: "pi", PacketID: 1},
		Will{Client: "pi", Message: m, Delay: 30},
		Session{Client: "empty"},
		Session{Client: "fleeting", Version: 4},
		Will{Client: "fleeting", Message: bare, Delay: 1, ExpiryInterval: 1<<32 - 1},
	}
}

func TestEverythingComesBack(t *testing.T) {
	dir := t.TempDir()
	s, state, _ := open(t, dir, Options{Sync: time.Hour})
	compareStates(t, state, State{})
	want := NewModel()
	for _, r := range allRecords() {
		want.Apply(r)
	}
	if err := write(t, s, allRecords()...); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	s, state, l := open(t, dir, Options{})
	compareStates(t, state, want.State())
	if q := state.Sessions[2].Queue; q[2].Message != state.Retained[0] || state.Sessions[2].Will.Message != q[2].Message {
		t.Error("one message came back as several")
	}
	// And away again.
	if err := write(t, s, Retain{Topic: "home/kitchen/light"}, SessionGone{"pi"}, SessionGone{"empty"}, SessionGone{"fleeting"}); err != nil {
		t.Fatal(err)
	}
	if live := s.Stats().Live; live != 0 {
		t.Errorf("%d bytes are live of nothing", live)
	}
	closeStore(t, s)
	_, state, _ = open(t, dir, Options{})
	compareStates(t, state, State{})
	if l.String() != "" {
		t.Errorf("logged %s", l)
	}
}

// TestRandomChanges compares the files with the model over many restarts and
// compactions. It also asks that files stay within their bound.
func TestRandomChanges(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			dir, rnd, want := t.TempDir(), rand.New(rand.NewPCG(seed, 0)), NewModel()
			const segment = 4 << 10
			var dropped bool
			for round := range 20 {
				s, state, l := open(t, dir, Options{Sync: time.Millisecond, segment: segment})
				compareStates(t, state, want.State())
				shared := &Message{Topic: "shared", Payload: []byte(fmt.Sprint(round))}
				var ended sync.WaitGroup
				for range 300 {
					var batch []Record
					for range 1 + rnd.IntN(4) {
						batch = append(batch, randomRecord(rnd, shared))
					}
					for _, r := range batch {
						want.Apply(r)
					}
					ended.Add(1)
					s.Append(batch, func(err error) {
						if err != nil {
							t.Error(err)
						}
						ended.Done()
					})
					if rnd.IntN(8) == 0 {
						ended.Wait() // else all of it is one group
					}
				}
				ended.Wait()
				closeStore(t, s)
				stats := s.Stats()
				// Twice what is live, the slack, and what a round of moving adds.
				if bound := (2*stats.Live + compactSlack*segment) * 2; stats.Size > bound {
					t.Errorf("%d bytes of files, %d are live", stats.Size, stats.Live)
				}
				numbers, _ := segments(dir)
				dropped = dropped || numbers[0] > 1
				if l.String() != "" {
					t.Fatal(l)
				}
			}
			if !dropped {
				t.Error("nothing was ever compacted")
			}
		})
	}
}

func randomRecord(rnd *rand.Rand, shared *Message) Record {
	// Some change all the time, others stay until they are moved.
	wide := 1
	if rnd.IntN(3) == 0 {
		wide = 10
	}
	client := fmt.Sprint("client-", rnd.IntN(4*wide))
	topic := fmt.Sprint("topic/", rnd.IntN(20*wide))
	id, seq := uint16(rnd.IntN(5*wide)), uint64(rnd.IntN(10*wide))
	message := shared
	if rnd.IntN(3) > 0 {
		message = &Message{Topic: topic, Payload: fmt.Append(nil, rnd.Uint64()), QoS: byte(rnd.IntN(3))}
	}
	switch rnd.IntN(16) {
	case 0, 1:
		return Retain{message.Topic, message}
	case 2:
		return Retain{Topic: topic}
	case 3, 4:
		return Session{Client: client, Version: 5, Expiry: rnd.Uint32(), EndedByServer: rnd.IntN(2) == 0}
	case 5:
		if rnd.IntN(20) > 0 {
			return Will{Client: client}
		}
		return SessionGone{client}
	case 6:
		return Subscribe{Client: client, Filter: topic, QoS: byte(rnd.IntN(3))}
	case 7:
		return Unsubscribe{client, topic}
	case 8, 9, 10:
		return Enqueue{Client: client, Seq: seq, Message: message, QoS: 1, Shared: []string{"", "$share/a/" + topic}[rnd.IntN(2)]}
	case 11:
		return Dequeue{client, seq}
	case 12:
		return Sent{client, seq, id, Phase(1 + rnd.IntN(2))}
	case 13:
		return Received{client, id}
	case 14:
		return Released{client, id}
	}
	return Will{Client: client, Message: message, Delay: 3, ExpiryInterval: rnd.Uint32N(2)}
}

func TestMessageIsWrittenOnce(t *testing.T) {
	s, _, _ := open(t, t.TempDir(), Options{Sync: time.Hour})
	m := &Message{Topic: "a", Payload: make([]byte, 10_000)}
	for i := range 100 {
		c := fmt.Sprint(i)
		if err := write(t, s, Session{Client: c}, Enqueue{Client: c, Seq: 1, Message: m}); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.Stats().Bytes; n > 20_000 {
		t.Errorf("%d bytes", n)
	}
	for i := range 100 {
		if err := write(t, s, Dequeue{fmt.Sprint(i), 1}); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.Stats().Live; n > 5000 {
		t.Errorf("%d bytes are live after the last one took it", n)
	}
}

func TestExcludedTopicsAreNotWritten(t *testing.T) {
	dir := t.TempDir()
	s, _, _ := open(t, dir, Options{Sync: time.Hour})
	beat := &Message{Topic: "beat"}
	if err := write(t, s, Retain{"beat", beat}, Session{Client: "c"}); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)

	exclude := func(topic string) bool { return topic == "beat" }
	s, state, _ := open(t, dir, Options{Exclude: exclude})
	if len(state.Retained) != 0 {
		t.Error("what an earlier run wrote came back")
	}
	if err := write(t, s); err != nil {
		t.Fatal(err)
	}
	before := s.Stats()
	for _, batch := range [][]Record{
		{Retain{"beat", beat}, Enqueue{Client: "c", Seq: 1, Message: beat}},
		{Sent{"c", 1, 1, Published}, Dequeue{"c", 1}, Retain{Topic: "beat"}},
		{Will{Client: "c", Message: beat}},
	} {
		if err := write(t, s, batch...); err != nil {
			t.Fatal(err)
		}
	}
	if after := s.Stats(); after.Writes != before.Writes || after.Bytes != before.Bytes {
		t.Errorf("wrote %+v, before %+v", after, before)
	}
}

func TestNothingToSayIsNotWritten(t *testing.T) {
	s, _, _ := open(t, t.TempDir(), Options{Sync: time.Hour})
	if err := write(t, s, Session{Client: "c"}); err != nil {
		t.Fatal(err)
	}
	before := s.Stats()
	for _, r := range []Record{
		Retain{Topic: "a"},
		SessionGone{"d"},
		Subscribe{Client: "d"},
		Unsubscribe{"c", "f"},
		Unsubscribe{"d", "f"},
		Enqueue{Client: "d", Seq: 1, Message: &Message{}},
		Enqueue{Client: "c", Seq: 1},
		Dequeue{"c", 1},
		Sent{Client: "c", Seq: 1},
		Received{"d", 1},
		Released{"c", 1},
		Will{Client: "c"},
		Will{Client: "d", Message: &Message{}},
	} {
		if err := write(t, s, r); err != nil {
			t.Fatal(err)
		}
		if after := s.Stats(); after.Bytes != before.Bytes {
			t.Errorf("%T was written", r)
			before = after
		}
	}
}

// TestIdleWritesNothing lets virtual days pass.
func TestIdleWritesNothing(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, _, err := Open(dir, Options{Sync: 100 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 50 {
			if err := write(t, s, Retain{"a", &Message{Topic: "a", Payload: []byte{byte(i)}}}); err != nil {
				t.Fatal(err)
			}
		}
		// The clock stands still while files are written: all is one interval.
		if n := s.Stats().Syncs; n != 0 {
			t.Errorf("%d syncs before their time", n)
		}
		time.Sleep(100 * time.Millisecond)
		waitSynced(t, s, 1)
		before := s.Stats()
		time.Sleep(48 * time.Hour)
		synctest.Wait()
		if after := s.Stats(); after != before {
			t.Errorf("at rest %+v became %+v", before, after)
		}
		if before.Writes != 51 || before.Syncs != 2 { // file and directory
			t.Errorf("%+v", before)
		}
		closeStore(t, s)
		if n := s.Stats().Syncs; n != before.Syncs {
			t.Error("synced what was on the disk")
		}
	})
}

// waitSynced waits for the goroutine that syncs, which the bubble's clock does
// not know of.
func waitSynced(t *testing.T, s *Store, n int64) {
	t.Helper()
	synctest.Wait()
	if got := s.Stats().Syncs; got < n {
		t.Fatalf("%d syncs, want %d", got, n)
	}
}

func TestAlwaysSyncsBeforeDone(t *testing.T) {
	s, _, _ := open(t, t.TempDir(), Options{})
	for i := range 5 {
		before := s.Stats().Syncs
		if err := write(t, s, Retain{"a", &Message{Topic: "a", Payload: []byte{byte(i)}}}); err != nil {
			t.Fatal(err)
		}
		if s.Stats().Syncs == before {
			t.Error("done came before the sync")
		}
	}
}

func TestGroupCommit(t *testing.T) {
	s, _, _ := open(t, t.TempDir(), Options{})
	const n = 2000
	var order []int // dones come from one goroutine: no lock
	done := make(chan error, n)
	for i := range n {
		s.Append([]Record{Retain{"a", &Message{Topic: "a"}}}, func(err error) {
			order = append(order, i)
			done <- err
		})
	}
	for range n {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if !slices.IsSorted(order) || len(order) != n {
		t.Error("not in the order of Append")
	}
	if syncs := s.Stats().Syncs; syncs > n/4 {
		t.Errorf("%d syncs for %d appends at once", syncs, n)
	}
}

func TestClose(t *testing.T) {
	dir := t.TempDir()
	s, _, _ := open(t, dir, Options{Sync: time.Hour})
	if _, _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "another process uses it") {
		t.Errorf("a second store: %v", err)
	}
	done := make(chan error, 1)
	s.Append([]Record{Retain{"a", &Message{Topic: "a"}}}, func(err error) { done <- err })
	s.Append(nil, nil)
	closeStore(t, s)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := write(t, s, Session{Client: "c"}); err != ErrClosed {
		t.Error(err)
	}
	closeStore(t, s)
	_, state, _ := open(t, dir, Options{})
	if len(state.Retained) != 1 {
		t.Error("what was appended before Close is not there")
	}
}

func TestNewerVersionIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	s, _, _ := open(t, dir, Options{})
	closeStore(t, s)
	path := filepath.Join(dir, segmentName(1))
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content = frame(content, []byte{version + 1, 1, 2, 3})
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	if after, _ := os.ReadFile(path); !slices.Equal(after, content) {
		t.Error("the file was changed")
	}
}
