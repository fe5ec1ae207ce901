package store

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var start = time.Unix(1_000_000, 0)

// disk is a store whose disk the tests take away and give back.
type disk struct {
	*Store
	t   *testing.T
	dir string
	log strings.Builder
}

func newDisk(t *testing.T) *disk {
	t.Helper()
	d := &disk{t: t, dir: filepath.Join(t.TempDir(), "data")}
	d.open()
	return d
}

func (d *disk) open() {
	d.t.Helper()
	s, err := Open(d.dir, slog.New(slog.NewTextHandler(&d.log, nil)))
	if err != nil {
		d.t.Fatal(err)
	}
	d.Store = s
}

// remove takes the disk away: nothing can be written.
func (d *disk) remove() {
	d.t.Helper()
	if err := os.RemoveAll(d.dir); err != nil {
		d.t.Fatal(err)
	}
}

func (d *disk) giveBack() {
	d.t.Helper()
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		d.t.Fatal(err)
	}
}

// written returns the epoch that is on disk.
func (d *disk) written() uint64 {
	d.t.Helper()
	other, err := Open(d.dir, slog.New(slog.DiscardHandler))
	if err != nil {
		d.t.Fatal(err)
	}
	return other.Epoch()
}

func epoch(n uint64) func(*State) { return func(s *State) { s.Epoch = n } }

// check checks what came of a write, what is on disk, and when something is due next.
func (d *disk) check(what string, got Saved, failed, recovered bool, next time.Time) {
	d.t.Helper()
	if (got.Failed != nil) != failed || got.Recovered != recovered || !d.Next().Equal(next) {
		d.t.Errorf("%s: %+v, next %v, want failed %v, recovered %v, next %v", what, got, d.Next(), failed, recovered, next)
	}
}

// A change is in effect at once and on disk with the next write; without a change nothing is
// written.
func TestChange(t *testing.T) {
	d := newDisk(t)
	id := d.ID()
	d.check("without a change", d.SaveWhenDue(start), false, false, time.Time{})
	d.Change(epoch(1))
	if d.Epoch() != 1 || d.written() != 0 {
		t.Errorf("before the write: epoch %d, on disk %d", d.Epoch(), d.written())
	}
	d.check("with a change", d.SaveWhenDue(start), false, false, time.Time{})
	if d.written() != 1 {
		t.Errorf("after the write: on disk %d", d.written())
	}
	d.remove() // would be noticed
	d.check("without a further change", d.SaveWhenDue(start.Add(time.Hour)), false, false, time.Time{})
	d.check("without a further change, now", d.Save(start.Add(time.Hour)), false, false, time.Time{})
	d.giveBack()
	d.Change(epoch(2))
	d.check("now", d.Save(start.Add(time.Hour)), false, false, time.Time{})
	d.open()
	if d.ID() != id || d.Epoch() != 2 {
		t.Errorf("opened again: id %s, epoch %d, want %s, 2", d.ID(), d.Epoch(), id)
	}
}

// Minor changes are written once in minorInterval, together with others where there are any.
func TestChangeMinor(t *testing.T) {
	d := newDisk(t)
	d.ChangeMinor(epoch(1))
	d.check("the first", d.SaveWhenDue(start), false, false, time.Time{})
	if d.written() != 1 {
		t.Errorf("the first is not on disk: %d", d.written())
	}
	over := start.Add(minorInterval)
	d.ChangeMinor(epoch(2))
	d.check("the next", d.SaveWhenDue(start.Add(time.Second)), false, false, over)
	if d.written() != 1 {
		t.Errorf("the next is on disk too early: %d", d.written())
	}
	d.check("later", d.SaveWhenDue(over), false, false, time.Time{})
	if d.written() != 2 {
		t.Errorf("the next is not on disk: %d", d.written())
	}
	d.ChangeMinor(epoch(3))
	d.Change(func(*State) {})
	d.check("beside another change", d.SaveWhenDue(over.Add(time.Second)), false, false, time.Time{})
	if d.written() != 3 {
		t.Errorf("a minor change is not written with another one: %d", d.written())
	}
	d.ChangeMinor(epoch(4))
	d.check("now", d.Save(over.Add(2*time.Second)), false, false, time.Time{})
	if d.written() != 4 {
		t.Errorf("a minor change is not written by Save: %d", d.written())
	}
}

// What the disk does not take is written again after retryInterval, and with each change;
// that it fails and that it recovers is reported once.
func TestRetry(t *testing.T) {
	d := newDisk(t)
	d.remove()
	d.Change(epoch(1))
	d.check("without a disk", d.SaveWhenDue(start), true, false, start.Add(retryInterval))
	if d.Err() == nil {
		t.Error("there is no error")
	}
	now := start.Add(time.Second)
	d.check("a second later", d.SaveWhenDue(now), false, false, start.Add(retryInterval))
	d.Change(epoch(2))
	d.check("another change", d.SaveWhenDue(now), false, false, now.Add(retryInterval))
	now = now.Add(retryInterval)
	d.check("the next try", d.SaveWhenDue(now), false, false, now.Add(retryInterval))
	d.giveBack()
	d.check("too early", d.SaveWhenDue(now.Add(time.Second)), false, false, now.Add(retryInterval))
	now = now.Add(retryInterval)
	d.check("the disk is back", d.SaveWhenDue(now), false, true, time.Time{})
	if d.Err() != nil || d.written() != 2 {
		t.Errorf("after it: error %v, on disk %d", d.Err(), d.written())
	}
	d.check("after it", d.SaveWhenDue(now.Add(time.Hour)), false, false, time.Time{})
	d.remove()
	d.Change(epoch(3))
	d.check("once more", d.Save(now), true, false, now.Add(retryInterval))
	d.giveBack()
	d.Change(epoch(4))
	d.check("back by a change", d.Save(now), false, true, time.Time{})
}

// Changes that come too fast for the budget are written later, with one warning; Save does
// not wait.
func TestBudget(t *testing.T) {
	d := newDisk(t)
	now := time.Now().Add(time.Hour) // the store was opened before it
	n := uint64(0)
	for d.Next().IsZero() {
		if n++; n > 10_000 {
			t.Fatal("no write waits")
		}
		d.Change(epoch(n))
		d.SaveWhenDue(now)
	}
	next := d.Next()
	if !next.After(now) || d.written() != n-1 {
		t.Errorf("write %d waits until %v, on disk is %d", n, next.Sub(now), d.written())
	}
	d.Change(epoch(n + 1))
	d.SaveWhenDue(now)
	if warnings := strings.Count(d.log.String(), "changes so often"); warnings != 1 {
		t.Errorf("%d warnings:\n%s", warnings, d.log.String())
	}
	d.Save(now)
	if d.written() != n+1 || !d.Next().IsZero() {
		t.Errorf("Save waits: on disk is %d, next %v", d.written(), d.Next())
	}
	d.Change(epoch(n + 2))
	d.SaveWhenDue(now)
	if d.SaveWhenDue(d.Next()); d.written() != n+2 {
		t.Errorf("when there is budget again: on disk is %d, want %d", d.written(), n+2)
	}
}

// A directory that cannot be written from the beginning is an error.
func TestOpenFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(file, "data"), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a file is taken for a directory")
	} else if want := fmt.Sprintf("cannot make data_dir: mkdir %s: not a directory", file); err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}
