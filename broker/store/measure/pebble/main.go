// Command pebble measures github.com/cockroachdb/pebble/v2. Without a sync it
// writes behind: what is committed is in the process alone for a moment. So
// each commit asks for a sync, and the file system below lets most of those
// for the log pass without doing them.
package main

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/jmbarzee/dominion/broker/store/measure"
)

type fs struct {
	vfs.FS
	sync *atomic.Bool
}
type file struct {
	vfs.File
	sync *atomic.Bool
}

func (f fs) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	n, err := f.FS.Create(name, c)
	if err == nil && strings.HasSuffix(name, ".log") {
		return file{n, f.sync}, nil
	}
	return n, err
}

func (f fs) ReuseForWrite(a, b string, c vfs.DiskWriteCategory) (vfs.File, error) {
	n, err := f.FS.ReuseForWrite(a, b, c)
	if err == nil && strings.HasSuffix(b, ".log") {
		return file{n, f.sync}, nil
	}
	return n, err
}

func (f file) SyncData() error {
	if f.sync.Load() {
		return f.File.SyncData()
	}
	return nil
}

func (f file) Sync() error {
	if f.sync.Load() {
		return f.File.Sync()
	}
	return nil
}
func (f file) SyncTo(int64) (bool, error) { return false, nil }

type engine struct {
	db   *pebble.DB
	sync *atomic.Bool
}

func (e engine) Commit(pairs []measure.Pair, sync bool) error {
	b := e.db.NewBatch()
	defer b.Close()
	for _, p := range pairs {
		if err := b.Set(p.Key, p.Value, nil); err != nil {
			return err
		}
	}
	e.sync.Store(sync)
	return b.Commit(pebble.Sync)
}

func (e engine) Each(f func(k, v []byte)) error {
	i, err := e.db.NewIter(nil)
	if err != nil {
		return err
	}
	for i.First(); i.Valid(); i.Next() {
		f(i.Key(), i.Value())
	}
	return i.Close()
}
func (e engine) Close() error { e.sync.Store(true); return e.db.Close() }

type quiet struct{}

func (quiet) Infof(string, ...any)      {}
func (quiet) Errorf(f string, a ...any) { fmt.Printf("pebble: "+f+"\n", a...) }
func (quiet) Fatalf(f string, a ...any) { panic(fmt.Sprintf("pebble ends the process: "+f, a...)) }

func main() {
	measure.Run("pebble", func(dir string) (measure.Engine, error) {
		s := &atomic.Bool{}
		db, err := pebble.Open(dir, &pebble.Options{FS: fs{vfs.Default, s}, Logger: quiet{}})
		return engine{db, s}, err
	})
}
