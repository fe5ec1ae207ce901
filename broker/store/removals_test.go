package store

import (
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestLostRemovals: after a sync that failed, all that is live is written anew and
// the segments before are removed. A power cut then may bring the last of these
// back, without what the disk had lost of them. A message that was removed by a
// record that was lost stays away or comes back as it was, never without the phase
// that says that it must not be published again.
func TestLostRemovals(t *testing.T) {
	dir := memoryDir(t)
	synctest.Test(t, func(t *testing.T) {
		d := lossyDisk{t: t, dir: dir, synced: map[int][]byte{}}
		s, _, _ := open(t, dir, Options{Sync: 100 * time.Millisecond, segment: 200, sync: d.sync})
		settle := func() {
			time.Sleep(5 * time.Second)
			synctest.Wait()
		}
		put := func(r ...Record) {
			t.Helper()
			if err := write(t, s, r...); err != nil {
				t.Fatal(err)
			}
		}
		fill := func() { put(Retain{"filler", &Message{Topic: "filler", Payload: make([]byte, 150)}}) }
		put(Session{Client: "pi", Expiry: 1}, Enqueue{Client: "pi", Seq: 1, Message: &Message{Topic: "a"}})
		fill()
		put(Sent{Client: "pi", Seq: 1, PacketID: 7, Phase: Releasing})
		for first := 1; first == 1; first = d.list()[0] { // until compaction moved the message behind its phase
			fill()
			settle()
		}
		d.fails.Store(true)
		put(Dequeue{"pi", 1})
		fill()
		settle()
		d.fails.Store(false)
		settle()
		if d.cuts < 5 {
			t.Errorf("%d power cuts try nothing", d.cuts)
		}
		closeStore(t, s)
	})
}

// lossyDisk loses what was not synced, and brings back what was removed since the
// last sync.
type lossyDisk struct {
	t      *testing.T
	dir    string
	fails  atomic.Bool
	synced map[int][]byte // the content of each segment, by number
	cuts   int
}

func (d *lossyDisk) list() []int {
	numbers, err := segments(d.dir)
	if err != nil {
		d.t.Error(err)
	}
	return numbers
}

func (d *lossyDisk) sync(syncJob) error {
	d.cut()
	if d.fails.Load() {
		for _, n := range d.list() { // the system gives up on it
			if now := d.read(n); len(now) > len(d.synced[n]) {
				d.synced[n] = slices.Concat(d.synced[n], make([]byte, len(now)-len(d.synced[n])))
			}
		}
		return errWorn
	}
	before := d.synced
	d.synced = make(map[int][]byte)
	for _, n := range d.list() {
		now := d.read(n)
		copy(now, before[n]) // what it gave up on is lost for good
		d.synced[n] = now
	}
	return nil
}

func (d *lossyDisk) read(n int) []byte {
	b, err := os.ReadFile(filepath.Join(d.dir, segmentName(n)))
	if err != nil {
		d.t.Error(err)
	}
	return b
}

// cut looks at what a power cut would leave now: of the segments that were removed
// since the last sync none, or the last ones.
func (d *lossyDisk) cut() {
	there := d.list()
	for n := range d.synced {
		if !slices.Contains(there, n) {
			there = append(there, n)
		}
	}
	slices.Sort(there)
	for from := range there {
		dir := memoryDir(d.t)
		for _, n := range there[from:] {
			if err := os.WriteFile(filepath.Join(dir, segmentName(n)), d.synced[n], 0o600); err != nil {
				d.t.Error(err)
			}
		}
		d.cuts++
		for _, session := range stateOf(d.t, dir).Sessions {
			for _, q := range session.Queue {
				if q.Phase != Releasing {
					d.t.Errorf("after a power cut without segments before %d of %v the message is to be published again: phase %d", there[from], there, q.Phase)
				}
			}
		}
		if !d.removed(there[from]) {
			return
		}
	}
}

func (d *lossyDisk) removed(n int) bool { return !slices.Contains(d.list(), n) }
