// Package logs reads and caps the files that services write their output to.
//
// The files belong to the services' processes, which hold them open in append
// mode: nothing here is between a service and its file, so a log goes on while
// the agent is away. A file above the cap is copied to <name>.1 and cut. What a
// service empties is appended there as far as it was read. Only the packages
// below agent may import it.
package logs

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// maxSize is where a file is cut. With the copy of what was cut, a stream takes
// twice as much at most, a service's two streams 2 × 1 MB; more only until the
// next Poll.
const maxSize = 512 << 10

// The streams of a service: their names in a line, and of their files without
// ".log".
var streams = [...]string{"stdout", "stderr"}

// Dir is the directory of the logs: <dir>/<service>/stdout.log and stderr.log.
// It is owned by one loop and not for concurrent use. What touches the files is
// done beside the loop, and no call waits longer than the deadline for it: while
// their disk does not answer, there are no lines.
type Dir struct {
	dir string
	// busy is held while a function uses the other fields.
	busy sync.Mutex
	// lines are new ones of the followed services that were not returned yet.
	lines    []Line
	services map[string]*service
	// flooded is when a file was far beyond its cap, last.
	flooded time.Time
}

// deadline is how long the disk of the logs may take to answer.
const deadline = time.Second

// withinDeadline runs f, which uses the files, in another goroutine, and waits for it
// within the deadline. It returns false if f is still running, or was not started, as
// an earlier one is still running.
func (d *Dir) withinDeadline(f func()) bool {
	if !d.busy.TryLock() {
		return false
	}
	done := make(chan struct{})
	go func() {
		f()
		d.busy.Unlock()
		close(done)
	}()
	timer := time.NewTimer(deadline)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// Line is a new line of a service that is followed.
type Line struct {
	Service string
	topics.LogLine
}

type service struct {
	streams [len(streams)]stream
	// until is until when it is followed.
	until time.Time
}

// stream is the state of one file.
type stream struct {
	file string
	// size is that of the last update.
	size int64
	// marks are the times at which it grew.
	marks []mark
	// older are the marks of <file>.1.
	older []mark

	// modified is that of the last update.
	modified time.Time
	// recent is the end of the file, up to size.
	recent []byte
	// emptied reports that the service emptied the file, which was not published yet.
	emptied bool

	// read is the offset up to which lines were returned to followers.
	read int64
}

// mark is the time at which the bytes from an offset on were found.
type mark struct {
	from int64
	at   time.Time
}

// maxMarks bounds the marks of a stream. Beyond it, older marks are merged.
const maxMarks = 256

// New returns the logs below dir, which need not exist yet. Lines that are
// there by now have no time, as it is unknown when they were written.
func New(dir string) *Dir {
	d := &Dir{dir: dir, services: make(map[string]*service)}
	d.refreshServices(func(s *stream) { s.update(time.Time{}) })
	return d
}

// refreshServices adds services that have a directory now, and removes those that no
// longer have one.
func (d *Dir) refreshServices(each func(*stream)) {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return // none yet, or a disk that does not answer: as they were
	}
	there := make(map[string]bool, len(entries))
	for _, e := range entries {
		name := e.Name()
		if !e.IsDir() || !topics.ValidName(name) {
			continue
		}
		there[name] = true
		s := d.services[name]
		if s == nil {
			s = d.add(name)
			if each != nil {
				for i := range s.streams {
					each(&s.streams[i])
				}
			}
		}
	}
	for name := range d.services {
		if !there[name] {
			delete(d.services, name)
		}
	}
}

func (d *Dir) add(name string) *service {
	s := &service{}
	for i, kind := range streams {
		s.streams[i].file = filepath.Join(d.dir, name, kind+".log")
	}
	d.services[name] = s
	return s
}

// update records how far the file grew, and whether the service emptied it. A zero
// now is an unknown time.
func (s *stream) update(now time.Time) {
	info, err := os.Lstat(s.file)
	if err != nil || !info.Mode().IsRegular() {
		s.reset()
		return
	}
	if info.Size() == s.size && info.ModTime().Equal(s.modified) {
		return
	}
	f, err := open(s.file, os.O_RDONLY)
	if err != nil {
		return // as it was
	}
	defer f.Close()
	s.modified = info.ModTime()
	if s.size > 0 && s.wasEmptied(f, info.Size()) {
		s.saveRecent(now)
		s.reset()
		s.emptied = true
	}
	if info.Size() == s.size {
		return
	}
	held, size := recent(f, info.Size())
	if n := len(s.marks); size > 0 && (n == 0 || !s.marks[n-1].at.Equal(now)) {
		s.marks = append(s.marks, mark{s.size, now})
	}
	if len(s.marks) > maxMarks {
		s.marks = thinMarks(s.marks)
	}
	s.recent, s.size = held, size
}

// reset resets the state for a file that is empty now.
func (s *stream) reset() { s.size, s.read, s.marks, s.recent = 0, 0, nil, nil }

// thinMarks removes every second one of the older marks: the newest times stay exact.
func thinMarks(marks []mark) []mark {
	remaining := marks[:0]
	for i, m := range marks {
		if i%2 == 0 || i >= len(marks)/2 {
			remaining = append(remaining, m)
		}
	}
	return remaining
}

// timeAt returns when the bytes at an offset were found.
func timeAt(marks []mark, offset int64) time.Time {
	i, found := slices.BinarySearchFunc(marks, offset, func(m mark, at int64) int { return int(min(max(m.from-at, -1), 1)) })
	if !found {
		i--
	}
	if i < 0 {
		return time.Time{}
	}
	return marks[i].at
}

// Poll records how far the files grew, caps them, and returns the new lines of the
// followed services, in order. It is called each second, and more often while a
// service is followed.
func (d *Dir) Poll(now time.Time) (lines []Line) {
	d.withinDeadline(func() { d.lines = append(d.lines, d.poll(now)...) })
	if d.busy.TryLock() {
		lines, d.lines = d.lines, nil
		d.busy.Unlock()
	}
	return lines
}

// poll is Poll without the deadline.
func (d *Dir) poll(now time.Time) []Line {
	d.refreshServices(nil)
	var lines []Line
	for _, name := range d.names() {
		s := d.services[name]
		for i := range s.streams {
			t := &s.streams[i]
			t.update(now)
			if now.Before(s.until) {
				if t.emptied {
					lines = append(lines, Line{name, topics.LogLine{At: topics.At(now), Stream: streams[i], Line: emptiedLine}})
				}
				for _, text := range t.newLines() {
					lines = append(lines, Line{name, topics.LogLine{At: topics.At(now), Stream: streams[i], Line: text}})
				}
			}
			t.emptied = false
			if t.size > maxSize {
				if t.size > 2*maxSize {
					d.flooded = now
				}
				t.cut()
			}
		}
	}
	return lines
}

// floodTime is how long after a flood another is expected.
const floodTime = 10 * time.Second

// Flooded reports whether a service wrote far more than the cap between two
// Polls. The next should not wait a second then, in which it can write as much
// as a small disk holds.
func (d *Dir) Flooded(now time.Time) bool {
	if !d.busy.TryLock() {
		return false
	}
	defer d.busy.Unlock()
	return !d.flooded.IsZero() && now.Sub(d.flooded) < floodTime
}

func (d *Dir) names() []string {
	names := make([]string, 0, len(d.services))
	for name := range d.services {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Follow makes Poll return the lines that a service writes from now on, until
// the given moment; called again it extends that.
func (d *Dir) Follow(name string, now, until time.Time) {
	if topics.ValidName(name) {
		d.withinDeadline(func() { d.follow(name, now, until) })
	}
}

func (d *Dir) follow(name string, now, until time.Time) {
	s := d.services[name]
	if s == nil {
		s = d.add(name)
		_ = os.MkdirAll(filepath.Join(d.dir, name), 0o755) // or Poll forgets it again
	}
	if !now.Before(s.until) {
		for i := range s.streams {
			s.streams[i].update(now)
			s.streams[i].read, s.streams[i].emptied = s.streams[i].lineStart(), false
		}
	}
	s.until = until
}

// Following reports whether any service is followed at now.
func (d *Dir) Following(now time.Time) bool {
	if !d.busy.TryLock() {
		return false
	}
	defer d.busy.Unlock()
	for _, s := range d.services {
		if now.Before(s.until) {
			return true
		}
	}
	return false
}

// Last returns the last n lines of a service, oldest first. Lines of the two
// streams are ordered by the time at which they were found.
func (d *Dir) Last(name string, n int) []topics.LogLine {
	var lines []topics.LogLine
	if n <= 0 || !topics.ValidName(name) || !d.withinDeadline(func() { lines = d.last(name, n) }) {
		return nil
	}
	return lines
}

func (d *Dir) last(name string, n int) []topics.LogLine {
	s := d.services[name]
	if s == nil {
		s = d.add(name)
	}
	var tails [len(streams)][]topics.LogLine
	now := time.Now()
	for i := range s.streams {
		s.streams[i].update(now)
		tails[i] = s.streams[i].last(n, streams[i])
	}
	return merge(tails[0], tails[1], n)
}

// merge returns the n newest lines of two streams. Where their order is unknown,
// both get an equal share.
func merge(a, b []topics.LogLine, n int) []topics.LogLine {
	i, j := len(a), len(b)
	for range min(n, len(a)+len(b)) {
		switch {
		case j == 0, i > 0 && a[i-1].At.After(b[j-1].At.Time):
			i--
		case i == 0, b[j-1].At.After(a[i-1].At.Time):
			j--
		case len(a)-i < len(b)-j:
			i--
		default:
			j--
		}
	}
	all := append(slices.Clone(a[i:]), b[j:]...)
	slices.SortStableFunc(all, func(x, y topics.LogLine) int { return x.At.Compare(y.At.Time) })
	return all
}
