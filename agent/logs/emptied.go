package logs

import (
	"bytes"
	"io"
	"os"
	"slices"
	"syscall"
	"time"
)

// emptiedLine stands in a log where the service emptied the file: a shell opens
// the file of "> /dev/stderr" anew, with O_TRUNC, through /proc/self/fd/2. That of a
// pipe would be harmless, but nobody reads a pipe while no agent runs, and the service
// would stand still when it is full; a file that its user may not open for writing
// would make the shell fail.
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

// saveRecent appends to <file>.1 what is retained of the file from before it was
// emptied, and the line that says so. Where <file>.1 would become larger than a
// copy may be, it begins anew. A disk that is full retains nothing.
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
