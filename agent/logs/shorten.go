package logs

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// cut moves the end of the file, from a line's beginning on, to <file>.1 and
// empties the file. The service's descriptor appends, so it goes on at the
// start. A disk that is too full for the copy gets its room back all the same.
func (s *stream) cut() {
	f, err := open(s.file, os.O_RDWR)
	if err != nil {
		return
	}
	defer f.Close()
	from, copied := s.copyEnd(f)
	if err := f.Truncate(0); err != nil {
		return
	}
	s.older = nil
	if copied {
		for _, m := range s.marks {
			s.older = append(s.older, mark{max(0, m.from-from), m.at})
		}
	}
	s.reset()
}

// copyEnd copies the end of the file to <file>.1, in place of the copy before,
// and returns where in the file the copy begins. What the service writes
// meanwhile is copied, too; where that is more than a copy may hold, the newer
// end is taken instead, a few times: it may write faster than we copy.
func (s *stream) copyEnd(f *os.File) (from int64, copied bool) {
	const most = maxSize + maxLine
	older := s.file + ".1"
	_ = os.Remove(older) // its room may be needed
	to, err := os.OpenFile(older, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return 0, false
	}
	for n, try := int64(most), 0; err == nil && n == most && try < 5; try++ {
		if from, err = lineNear(f, maxSize); err == nil {
			err = to.Truncate(0)
		}
		if err == nil {
			n, err = io.Copy(io.NewOffsetWriter(to, 0), io.NewSectionReader(f, from, most))
		}
	}
	if err := errors.Join(err, to.Close()); err != nil {
		_ = os.Remove(older)
		return 0, false
	}
	return from, true
}

// lineNear returns where the first line begins that lies whole within the last
// n bytes of a file.
func lineNear(f *os.File, n int64) (int64, error) {
	info, err := f.Stat()
	if err != nil || info.Size() <= n {
		return 0, err
	}
	from, b := info.Size()-n, make([]byte, maxLine)
	got, err := f.ReadAt(b, from)
	if errors.Is(err, io.EOF) { // another process truncated it
		err = nil
	}
	return from + int64(bytes.IndexByte(b[:got], '\n')+1), err
}
