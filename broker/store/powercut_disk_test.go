package store

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// disk is what a store writes to, and what of it survives a power cut: the
// bytes and the names that a sync was for, and of the rest as much as chance
// will have it.
type disk struct {
	dir    string
	rnd    *rand.Rand
	slow   time.Duration // a sync takes up to so long
	faulty bool          // a sync may fail

	mu      sync.Mutex
	ends    []end               // of batches acknowledged, in order; what is promised is taken out
	base    Model               // what is promised
	safe    end                 // where the log ended at the last sync
	pending [][]Record          // batches acknowledged or not that are not promised, in order
	durable map[string]int64    // by name of a file
	spoiled map[string][]damage // written while a sync failed
	names   map[string]bool     // as the directory is for sure
	failed  int                 // so many syncs are needed until what one was for is safe
	late    time.Duration       // a promise may be given so much later
	may     *outcome            // nil: to be found out

	promises, failures int
}

// end is where the log ended when a batch was acknowledged.
type end struct {
	number int
	size   int64
	at     time.Time
}

type damage struct{ from, to int64 }

func newDisk(t *testing.T, rnd *rand.Rand) *disk {
	rnd = rand.New(rand.NewPCG(rnd.Uint64(), 1)) // its own: syncs are beside the writing
	return &disk{
		dir: memoryDir(t), rnd: rnd, base: NewModel(),
		durable: make(map[string]int64), spoiled: make(map[string][]damage), names: make(map[string]bool),
	}
}

// memoryDir is a directory in memory, where there is one.
func memoryDir(t *testing.T) string {
	if dir, err := os.MkdirTemp("/dev/shm", "store-"); err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		return dir
	}
	return t.TempDir()
}

var errWorn = errors.New("the disk is worn out")

// sync stands for fsync of the files and the directory.
func (d *disk) sync(t syncJob) error {
	d.mu.Lock()
	names := d.keep()
	sizes := make(map[string]int64)
	for _, f := range append(slices.Clone(t.sealedFiles), t.tail) {
		if info, err := f.Stat(); err == nil {
			sizes[filepath.Base(f.Name())] = info.Size()
		}
	}
	tail, _ := strconv.Atoi(filepath.Base(t.tail.Name())[:8])
	size := sizes[filepath.Base(t.tail.Name())]
	fails := d.faulty && d.rnd.IntN(6) == 0
	wait := time.Duration(0)
	if d.slow > 0 {
		wait = time.Duration(d.rnd.Int64N(int64(d.slow)))
	}
	d.mu.Unlock()
	time.Sleep(wait)
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, size := range sizes {
		if fails {
			if from := d.durable[name]; size > from {
				d.spoiled[name] = append(d.spoiled[name], damage{from, size})
			}
		}
		d.durable[name] = max(size, d.durable[name])
	}
	if fails {
		d.failures++
		d.failed = 2
		return errWorn
	}
	if t.dir != "" {
		d.names = names
	}
	if d.failed > 0 { // what the failed one was for is written anew, then what it broke is taken away
		d.failed--
		return nil
	}
	d.safe = end{number: tail, size: size}
	d.promise()
	return nil
}

// promise takes what ended before the last sync for safe. The mutex is held.
func (d *disk) promise() {
	n := 0
	for n < len(d.ends) && (d.ends[n].number < d.safe.number || d.ends[n].number == d.safe.number && d.ends[n].size <= d.safe.size) {
		for _, r := range d.pending[n] {
			d.base.Apply(r)
		}
		n++
	}
	d.promises += n
	if n > 0 {
		d.may = nil
	}
	d.ends, d.pending = d.ends[n:], d.pending[n:]
}

// list are the names in the directory now.
func (d *disk) list() map[string]bool {
	numbers, _ := segments(d.dir)
	all := make(map[string]bool)
	for _, n := range numbers {
		all[segmentName(n)] = true
	}
	return all
}

// keep links each file to a place where it stays, and returns their names: one
// that is taken away is gone for sure only after the next sync of the directory.
func (d *disk) keep() map[string]bool {
	_ = os.Mkdir(filepath.Join(d.dir, "kept"), 0o700)
	names := d.list()
	for name := range names {
		_ = os.Link(filepath.Join(d.dir, name), filepath.Join(d.dir, "kept", name))
	}
	return names
}

// cut writes to a directory what is left after a power cut now. It tells
// whether that is the log up to some point: nothing is broken before its end.
// at chooses where a file is broken off that has so many bytes that no sync was
// for.
func (d *disk) cut(to string, at func(loose int64) int64) (whole bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := d.keep()
	// Names are made and taken away in order, as a journal keeps it.
	differ := func(a, b map[string]bool) []string {
		a = maps.Clone(a)
		maps.DeleteFunc(a, func(name string, _ bool) bool { return b[name] })
		all := slices.Sorted(maps.Keys(a))
		return all[d.rnd.IntN(len(all)+1):]
	}
	gone, fresh := differ(d.names, names), differ(names, d.names)
	for _, name := range gone {
		names[name] = true
	}
	for _, name := range fresh {
		delete(names, name)
	}
	all := slices.Sorted(maps.Keys(names))
	whole = true
	for i, name := range all {
		b, err := os.ReadFile(filepath.Join(d.dir, "kept", name))
		if err != nil {
			panic(err)
		}
		for _, s := range d.spoiled[name] {
			clear(b[s.from:s.to])
		}
		sure := min(d.durable[name], int64(len(b)))
		if i < len(all)-1 && (sure < int64(len(b)) || len(d.spoiled[name]) > 0) {
			whole = false
		}
		switch from := sure + at(int64(len(b))-sure); d.rnd.IntN(4) {
		case 0: // the length is there, the content is not
			clear(b[from:])
		case 1:
			for i := range b[from:] {
				b[from:][i] = byte(d.rnd.Uint32())
			}
		default:
			b = b[:from]
		}
		if err := os.WriteFile(filepath.Join(to, name), b, 0o600); err != nil {
			panic(err)
		}
	}
	return whole
}

// stateFacts is a state in pieces, each of which may be older or newer than another
// one after a power cut.
func stateFacts(s State) map[string]string {
	all := make(map[string]string)
	for _, m := range s.Retained {
		all["retained "+m.Topic] = fmt.Sprintf("%+v", *m)
	}
	for _, one := range s.Sessions {
		c := one.Client
		all["session "+c] = fmt.Sprintf("%+v", one.Session)
		for _, sub := range one.Subscriptions {
			all["subscription "+c+" "+sub.Filter] = fmt.Sprintf("%+v", sub)
		}
		for _, q := range one.Queue {
			all[fmt.Sprint("queued ", c, " ", q.Seq)] = fmt.Sprintf("%+v %d %d %v", *q.Message, q.QoS, q.Identifiers, q.Enqueue.Retain)
			all[fmt.Sprint("phase ", c, " ", q.Seq)] = fmt.Sprint(q.PacketID, q.Phase)
		}
		for _, id := range one.Received {
			all[fmt.Sprint("received ", c, " ", id)] = "is"
		}
		if one.Will != nil {
			all["will "+c] = fmt.Sprintf("%+v %d", *one.Will.Message, one.Will.Delay)
		}
	}
	return all
}

// outcome is what may be there after a power cut.
type outcome struct {
	whole []map[string]string        // what was so, one after the other
	may   map[string]map[string]bool // the values that a piece may have; "" is none
}

// outcomes are those since what is promised. The mutex is held.
func (d *disk) outcomes() *outcome {
	if d.may != nil {
		return d.may
	}
	m := NewModel()
	load(m, d.base.State())
	first := stateFacts(m.State())
	o := &outcome{[]map[string]string{first}, make(map[string]map[string]bool)}
	for key, value := range first {
		o.may[key] = map[string]bool{value: true}
	}
	for _, batch := range d.pending {
		for _, r := range batch {
			m.Apply(r)
		}
		now := stateFacts(m.State())
		o.whole = append(o.whole, now)
		for key, value := range now {
			if o.may[key] == nil {
				o.may[key] = map[string]bool{"": true}
			}
			o.may[key][value] = true
		}
		for key, values := range o.may {
			if _, is := now[key]; !is {
				values[""] = true
			}
		}
	}
	d.may = o
	return o
}

// judge compares what was found after a power cut with what may be there.
func (d *disk) judge(t *testing.T, found State, whole bool) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	o, got := d.outcomes(), stateFacts(found)
	for key, value := range got {
		if !o.may[key][value] {
			t.Errorf("%s is %s, may be %v", key, value, slices.Sorted(maps.Keys(o.may[key])))
		}
	}
	for key, values := range o.may {
		if _, is := got[key]; !is && !values[""] {
			t.Errorf("%s is lost, was promised: %v", key, slices.Sorted(maps.Keys(values)))
		}
	}
	if whole && !slices.ContainsFunc(o.whole, func(all map[string]string) bool { return maps.Equal(all, got) }) {
		t.Error("it is nothing that ever was")
	}
}

// load makes a model hold a state.
func load(m Model, s State) {
	for _, one := range s.Retained {
		m.Apply(Retain{one.Topic, one})
	}
	for _, one := range s.Sessions {
		m.Apply(one.Session)
		for _, sub := range one.Subscriptions {
			m.Apply(sub)
		}
		for _, q := range one.Queue {
			m.Apply(q.Enqueue)
			if q.Phase != Queued || q.PacketID != 0 {
				m.Apply(Sent{one.Client, q.Seq, q.PacketID, q.Phase})
			}
		}
		for _, id := range one.Received {
			m.Apply(Received{one.Client, id})
		}
		if one.Will != nil {
			m.Apply(*one.Will)
		}
	}
}
