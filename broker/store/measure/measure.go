// Package measure compares storage libraries for broker/store. It is a module
// of its own, so that those not chosen are in no go.mod but this one: see
// docs/decisions/0020-storage.md for the table and run.sh for how to get it.
package measure

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Pair is a key and its value; a nil value removes the key.
type Pair struct{ Key, Value []byte }

// Engine is what a candidate must do.
type Engine interface {
	// Commit keeps all pairs or none. They are with the operating system when
	// it returns; with sync they are on the disk.
	Commit(pairs []Pair, sync bool) error
	// Each goes over what is kept.
	Each(func(key, value []byte)) error
	Close() error
}

const (
	retained  = 100_000
	sessions  = 10_000
	perCommit = 256     // while filling
	changes   = 100_000 // of single messages afterwards
	group     = 8       // of them in one commit: what piles up meanwhile
	interval  = 100 * time.Millisecond
)

// Run measures one candidate and prints a line of the table.
func Run(name string, open func(dir string) (Engine, error)) {
	if err := run(name, open); err != nil {
		fmt.Println(name, "cannot be measured:", err)
		os.Exit(1)
	}
}

func run(name string, open func(dir string) (Engine, error)) error {
	if len(os.Args) > 2 && os.Args[1] == "full" {
		return full(name, os.Args[2], open)
	}
	if len(os.Args) > 2 && os.Args[1] == "torn" {
		return torn(name, os.Args[2], open)
	}
	dir, err := os.MkdirTemp(os.Getenv("MEASURE_DIR"), name)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	e, err := open(dir)
	if err != nil {
		return err
	}
	filled, err := fill(e)
	if err != nil {
		return err
	}
	before, payload := written(), 0
	start, synced := time.Now(), time.Now()
	for i := 0; i < changes; i += group {
		var pairs []Pair
		for j := i; j < i+group; j++ {
			p := message((j * 7919) % retained)
			payload += len(p.Key) + len(p.Value)
			pairs = append(pairs, p)
		}
		sync := time.Since(synced) >= interval
		if sync {
			synced = time.Now()
		}
		if err := e.Commit(pairs, sync); err != nil {
			return err
		}
	}
	took := time.Since(start)
	after := written()
	if err := e.Close(); err != nil {
		return err
	}
	e = nil
	runtime.GC()
	start = time.Now()
	if e, err = open(dir); err != nil {
		return err
	}
	n := 0
	if err := e.Each(func(k, v []byte) { n++ }); err != nil {
		return err
	}
	recovery := time.Since(start)
	if n != retained+2*sessions {
		return fmt.Errorf("%d pairs came back, not %d", n, retained+2*sessions)
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Printf("%-10s fill %6.2fs  commit %6.0fµs  amplification %5.1f  recovery %5.0fms  heap %4dMB  rss %4dMB  disk %4dMB\n",
		name, filled.Seconds(), float64(took.Microseconds())/float64(changes/group), float64(after-before)/float64(payload),
		float64(recovery.Milliseconds()), m.HeapAlloc>>20, status("VmRSS")>>10, size(dir)>>20)
	return e.Close()
}

func message(i int) Pair {
	return Pair{fmt.Appendf(nil, "r/homeassistant/sensor/device_%06d/state", i), fmt.Appendf(nil, `{"state":%d,"attributes":"%x%x%x%x%x"}`, i, rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64())}
}

func fill(e Engine) (time.Duration, error) {
	start := time.Now()
	var pairs []Pair
	flush := func() error { err := e.Commit(pairs, false); pairs = nil; return err }
	for i := range retained {
		if pairs = append(pairs, message(i)); len(pairs) == perCommit {
			if err := flush(); err != nil {
				return 0, err
			}
		}
	}
	for i := range sessions {
		pairs = append(pairs,
			Pair{fmt.Appendf(nil, "s/client-%05d", i), binary.BigEndian.AppendUint64(nil, uint64(i))},
			Pair{fmt.Appendf(nil, "f/client-%05d/home/+/%d/#", i, i), []byte{1}})
		if len(pairs) >= perCommit {
			if err := flush(); err != nil {
				return 0, err
			}
		}
	}
	err := e.Commit(pairs, true)
	return time.Since(start), err
}

// full writes until the disk has no room, makes room and goes on.
func full(name, dir string, open func(dir string) (Engine, error)) error {
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 16<<20), 0o600); err != nil {
		return err
	}
	e, err := open(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	value := make([]byte, 4096)
	var refused error
	n := 0
	for ; refused == nil && n < 1_000_000; n++ {
		refused = e.Commit([]Pair{{fmt.Appendf(nil, "key-%07d", n), value}}, false)
	}
	fmt.Printf("%-10s full after %d: %v\n", name, n-1, refused)
	if err := os.Remove(ballast); err != nil {
		return err
	}
	again := e.Commit([]Pair{{[]byte("after"), value}}, true)
	fmt.Printf("%-10s with room again: %v\n", name, again)
	if again != nil {
		return nil
	}
	_ = e.Close()
	if e, err = open(filepath.Join(dir, name)); err != nil {
		return err
	}
	kept := 0
	if err := e.Each(func(k, v []byte) { kept++ }); err != nil {
		return err
	}
	fmt.Printf("%-10s opened again: %d of %d\n", name, kept, n)
	return e.Close()
}

// torn takes the last three bytes from the file that was written last, as a
// power cut does, and opens what is left.
func torn(name, dir string, open func(dir string) (Engine, error)) error {
	e, err := open(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	for i := range 100 {
		if err := e.Commit([]Pair{message(i)}, i == 99); err != nil {
			return err
		}
	}
	left := filepath.Join(dir, name+"-torn")
	if err := os.CopyFS(left, os.DirFS(filepath.Join(dir, name))); err != nil {
		return err
	}
	var last string
	var at time.Time
	_ = filepath.Walk(filepath.Join(dir, name), func(path string, i os.FileInfo, err error) error {
		if err == nil && !i.IsDir() && i.Size() > 0 && i.ModTime().After(at) {
			last, at = filepath.Join(left, filepath.Base(path)), i.ModTime()
		}
		return nil
	})
	info, err := os.Stat(last)
	if err != nil {
		return err
	}
	if err := os.Truncate(last, info.Size()-3); err != nil {
		return err
	}
	n := 0
	if e, err = open(left); err == nil {
		err = e.Each(func(k, v []byte) { n++ })
	}
	fmt.Printf("%-10s torn: %d of 100, %v\n", name, n, err)
	return nil
}

// written returns the bytes this process gave to write(2), and those of mapped
// memory that the system wrote: what the card gets.
func written() int64 {
	b, _ := os.ReadFile("/proc/self/io")
	var wchar int64
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "wchar: "); ok {
			wchar, _ = strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		}
	}
	return wchar
}

func status(key string) int64 {
	b, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, key+":"); ok {
			n, _ := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
			return n
		}
	}
	return 0
}

func size(dir string) (n int64) {
	_ = filepath.Walk(dir, func(_ string, i os.FileInfo, err error) error {
		if err == nil && !i.IsDir() {
			n += i.Size()
		}
		return nil
	})
	return n
}
