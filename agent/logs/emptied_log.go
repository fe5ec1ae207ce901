package logs

import (
	"bytes"
	"io"
	"os"
	"slices"
	"syscall"
	"time"
)

// emptiedLine marks in a log that the service emptied the file: for "> /dev/stderr" a
// shell opens the file again, with O_TRUNC, through /proc/self/fd/2. With a pipe that
// would be harmless, but a pipe is not read while no agent runs, and the service would
// block when it is full; with a file that its user may not open for writing the shell
// would fail.
const emptiedLine = "(the service emptied its log: write >&2 or >>/dev/stderr, not > /dev/stderr)"

const (
	maxRecent   = 16 << 10 // how much of the end of a file is retained in memory
	maxCompared = 512      // how much of that is compared to find that a file was emptied
)

// recent returns the end of the file up to size, of maxRecent at most, and where
// it ends: before size in a file that was emptied meanwhile.
func recent(f *os.File, size int64) ([]byte, int64) {
	from := max(0, size-maxRecent)
	b := make([]byte, size-from)
	n, err := f.ReadAt(b, from)
	if n == 0 && err != nil {
		return nil, 0
	}
	return b[:n], from + int64(n)
}

// wasEmptied reports whether the file, which has a new size or was modified, does
// not begin with what it held before. The service's descriptor appends, so
// without that it only grows.
func (s *stream) wasEmptied(f *os.File, size int64) bool {
	if size < s.size {
		return true
	}
	want := s.recent[max(0, len(s.recent)-maxCompared):]
	got := make([]byte, len(want))
	n, err := f.ReadAt(got, s.size-int64(len(want)))
	return (err == nil || err == io.EOF) && !bytes.Equal(got[:n], want)
}

// saveRecent appends recent, the end of the file before it was emptied, and
// emptiedLine to <file>.1. If that would become larger than a copy may be, it is
// emptied first. On a full disk nothing is saved.
func (s *stream) saveRecent(now time.Time) {
	text := slices.Clone(s.recent)
	if n := len(text); n > 0 && text[n-1] != '\n' {
		text = append(text, '\n')
	}
	notice := int64(len(text))
	text = append(text, emptiedLine+"\n"...)

	f, err := os.OpenFile(s.file+".1", os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o640)
	if err != nil {
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	base := info.Size()
	if base+int64(len(text)) > maxSize+maxLine {
		if f.Truncate(0) != nil {
			return
		}
		base, s.older = 0, nil
	}
	if _, err := f.Write(text); err != nil {
		_ = f.Truncate(base)
		return
	}
	begin := s.size - int64(len(s.recent))
	for _, m := range s.marks {
		from := base + max(0, m.from-begin)
		if n := len(s.older); n > 0 && s.older[n-1].from == from {
			s.older[n-1].at = m.at
			continue
		}
		s.older = append(s.older, mark{from, m.at})
	}
	s.older = append(s.older, mark{base + notice, now})
	if len(s.older) > maxMarks {
		s.older = thinMarks(s.older)
	}
}
