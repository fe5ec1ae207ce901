package store

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// storeRun is a run of a store on a disk.
type storeRun struct {
	t *testing.T
	*disk
	store *Store
}

func (d *disk) open(t *testing.T) *storeRun {
	t.Helper()
	s, state, err := Open(d.dir, Options{Sync: 100 * time.Millisecond, segment: 1 << 10, sync: d.sync})
	if err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	for i := range d.ends { // of one that was killed: this life syncs it
		d.ends[i].at = time.Now()
	}
	m := NewModel()
	load(m, d.base.State())
	for _, batch := range d.pending {
		for _, r := range batch {
			m.Apply(r)
		}
	}
	d.mu.Unlock()
	if got, want := stateFacts(state), stateFacts(m.State()); !maps.Equal(got, want) {
		t.Errorf("it holds %v, want %v", got, want)
	}
	return &storeRun{t: t, disk: d, store: s}
}

// append appends a batch whose acknowledgement is noted.
func (l *storeRun) append(batch []Record) {
	l.mu.Lock()
	l.pending, l.may = append(l.pending, batch), nil
	l.mu.Unlock()
	l.store.Append(batch, func(err error) {
		if err != nil {
			l.t.Error(err)
		}
		l.mu.Lock()
		l.ends = append(l.ends, end{l.store.tail.number, l.store.tail.size, time.Now()})
		l.promise() // a batch that changes nothing is on the disk
		l.mu.Unlock()
	})
}

func (l *storeRun) end() { closeStore(l.t, l.store) }

// overdue tells of what was acknowledged long ago and is not on the disk.
func (l *storeRun) overdue() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if most := l.store.options.Sync + 2*l.slow + l.late; !l.faulty && len(l.ends) > 0 && time.Since(l.ends[0].at) > most {
		l.t.Errorf("not on the disk after %v", time.Since(l.ends[0].at))
	}
}

// anywhere breaks a file off anywhere.
func (d *disk) anywhere(loose int64) int64 { return d.rnd.Int64N(loose + 1) }

// TestPowerCuts takes the power away at random moments, thousands of times, in
// lives that follow each other and end by kill -9, too: what was on the disk is
// there again, and what is there was so once.
//
//	STORE_CUTS=n  for so many disks; a few otherwise
func TestPowerCuts(t *testing.T) {
	disks := 4
	if n, err := strconv.Atoi(os.Getenv("STORE_CUTS")); err == nil {
		disks = n
	}
	var all statistics
	for seed := uint64(5); seed < uint64(5+disks); seed++ { // of the first four two found something once
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { all.live(t, seed) }) }) {
			return
		}
	}
	t.Logf("%+v", all)
	if all.Promises < 100*disks || all.Failures < disks/4 || all.Moved < 10*disks {
		t.Error("this tries nothing")
	}
}

// statistics counts what was done to disks.
type statistics struct{ Cuts, Kills, Promises, Failures, Moved int }

// live lets lives of a store follow each other.
func (n *statistics) live(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	d := newDisk(t, rnd)
	d.slow = []time.Duration{0, 20 * time.Millisecond, 400 * time.Millisecond}[seed%3]
	d.faulty = seed%4 == 3
	shared := &Message{Topic: "shared", Payload: []byte("shared")}
	const lives = 8
	for one := range lives {
		l := d.open(t)
		for range 20 + rnd.IntN(200) {
			l.append(published(rnd, shared))
			if rnd.IntN(3) == 0 {
				time.Sleep(time.Duration(rnd.IntN(80)) * time.Millisecond)
			}
			if rnd.IntN(10) == 0 {
				synctest.Wait()
				l.overdue()
				d.try(t, d.anywhere)
				n.Cuts++
			}
			if t.Failed() {
				l.end()
				return
			}
		}
		synctest.Wait()
		if one == 0 { // at every byte, or at so many
			for at, most := int64(0), int64(0); at <= most; at += 1 + most/200 {
				d.try(t, func(loose int64) int64 {
					most = max(most, loose)
					return min(at, loose)
				})
				n.Cuts++
			}
		}
		n.Moved += l.store.compactor.movedUpTo
		next := newDisk(t, rnd)
		next.slow, next.faulty = d.slow, d.faulty
		if rnd.IntN(3) == 0 && len(d.spoiled) == 0 { // else nobody knows any more that a sync failed
			n.Kills++
			d.killed(t, next)
		} else {
			n.Cuts++
			d.cut(next.dir, d.anywhere)
			next.begin(t)
		}
		l.end()
		n.Promises, n.Failures = n.Promises+d.promises, n.Failures+d.failures
		d = next
	}
}

// published are changes as the engine makes them: what is retained, and a will,
// comes with the message itself; what is queued may be a message of long ago.
func published(rnd *rand.Rand, shared *Message) (batch []Record) {
	fresh := *shared
	for range 1 + rnd.IntN(4) {
		r := randomRecord(rnd, shared)
		switch one := r.(type) {
		case Retain:
			if one.Message == shared {
				r = Retain{one.Topic, &fresh}
			}
		case Will:
			if one.Message == shared {
				one.Message = &fresh
				r = one
			}
		}
		batch = append(batch, r)
	}
	return batch
}

// try looks at what a power cut would leave now.
func (d *disk) try(t *testing.T, at func(int64) int64) {
	t.Helper()
	dir := filepath.Join(d.dir, "try")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	whole := d.cut(dir, at)
	d.judge(t, stateOf(t, dir), whole)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
}

func stateOf(t *testing.T, dir string) State {
	t.Helper()
	s, state, err := Open(dir, Options{Sync: time.Hour, segment: 1 << 10})
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	return state
}

// begin makes what is on a disk after a power cut what it was promised to hold.
func (d *disk) begin(t *testing.T) {
	load(d.base, stateOf(t, d.dir))
	d.names = d.list()
	for name := range d.names {
		info, err := os.Stat(filepath.Join(d.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		d.durable[name] = info.Size()
	}
}

// killed makes next the disk as it is, with all that the system has yet to
// write: the store alone was killed.
func (d *disk) killed(t *testing.T, next *disk) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keep()
	_ = os.Mkdir(filepath.Join(next.dir, "kept"), 0o700)
	now := d.list()
	for _, name := range slices.Sorted(maps.Keys(d.names)) {
		if !now[name] {
			copyFile(t, filepath.Join(d.dir, "kept", name), filepath.Join(next.dir, "kept", name))
		}
	}
	for name := range now {
		copyFile(t, filepath.Join(d.dir, name), filepath.Join(next.dir, name))
	}
	load(next.base, d.base.State())
	next.ends, next.pending = slices.Clone(d.ends), slices.Clone(d.pending)
	next.durable, next.spoiled, next.names = maps.Clone(d.durable), maps.Clone(d.spoiled), maps.Clone(d.names)
	next.failed, next.late = 1, 100*time.Millisecond+d.slow // the next life syncs it after its own
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestSyncsWhatAKilledOneLeft: whoever was killed may not have synced, and
// nothing need be written any more.
func TestSyncsWhatAKilledOneLeft(t *testing.T) {
	dir := memoryDir(t)
	synctest.Test(t, func(t *testing.T) {
		s, _, _ := open(t, dir, Options{Sync: time.Hour, segment: 100})
		for i := range 5 {
			if err := write(t, s, Retain{"a", &Message{Topic: "a", Payload: make([]byte, 60+i)}}); err != nil {
				t.Fatal(err)
			}
		}
		closeStore(t, s)
		synced := make(map[string]bool)
		s, _, _ = open(t, dir, Options{Sync: 100 * time.Millisecond, sync: func(all syncJob) error {
			for _, f := range append(all.sealedFiles, all.tail) {
				synced[filepath.Base(f.Name())] = true
			}
			return nil
		}})
		time.Sleep(time.Second)
		synctest.Wait()
		numbers, err := segments(dir)
		if err != nil || len(numbers) < 3 || len(synced) != len(numbers) {
			t.Errorf("%v are synced of %v, %v", synced, numbers, err)
		}
		closeStore(t, s)
	})
}

// TestSyncFails: what a sync failed for is written anew as soon as one does
// not, and the files that it was in go. The log says both once.
func TestSyncFails(t *testing.T) {
	dir := memoryDir(t)
	synctest.Test(t, func(t *testing.T) {
		var fails atomic.Bool
		fails.Store(true)
		s, _, l := open(t, dir, Options{Sync: 100 * time.Millisecond, sync: func(syncJob) error {
			if fails.Load() {
				return errWorn
			}
			return nil
		}})
		m := NewModel()
		for _, r := range allRecords() {
			m.Apply(r)
		}
		if err := write(t, s, allRecords()...); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := l.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "does not sync") {
			t.Errorf("logged %s", got)
		}
		fails.Store(false)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := l.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "syncs again") {
			t.Errorf("logged %s", got)
		}
		if numbers, err := segments(dir); err != nil || !slices.Equal(numbers, []int{2}) {
			t.Errorf("the files are %v, %v", numbers, err)
		}
		closeStore(t, s)
		_, state, _ := open(t, dir, Options{})
		compareStates(t, state, m.State())
	})
}

// TestStrays: what lost its session to a broken file does not belong to the
// next one of that name.
func TestStrays(t *testing.T) {
	dir := memoryDir(t)
	s, _, _ := open(t, dir, Options{Sync: time.Hour, segment: 40})
	for _, r := range []Record{
		Session{Client: "pi", Expiry: 1},
		Subscribe{Client: "pi", Filter: "#"},
		Enqueue{Client: "pi", Seq: 1, Message: &Message{Topic: "a"}},
	} {
		if err := write(t, s, r); err != nil {
			t.Fatal(err)
		}
	}
	closeStore(t, s)
	if err := os.Truncate(filepath.Join(dir, segmentName(1)), int64(len(segmentHeader))); err != nil {
		t.Fatal(err)
	}
	s, state, _ := open(t, dir, Options{Sync: time.Hour})
	compareStates(t, state, State{})
	if err := write(t, s, Session{Client: "pi", Expiry: 2}); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	_, state, l := open(t, dir, Options{})
	compareStates(t, state, State{Sessions: []SessionState{{Session: Session{Client: "pi", Expiry: 2}}}})
	if l.String() != "" {
		t.Errorf("said again: %s", l)
	}
}
