package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/jmbarzee/dominion/topics"
)

// maxNewBytes is how much of a stream one Poll hands to followers: who writes
// faster is not read anyway.
const maxNewBytes = 128 << 10

// open opens a log, which a service could have replaced by something else.
func open(file string, flags int) (*os.File, error) {
	return os.OpenFile(file, flags|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
}

// readRange reads what is between two offsets of a file.
func readRange(file string, from, to int64) []byte {
	f, err := open(file, os.O_RDONLY)
	if err != nil {
		return nil
	}
	defer f.Close()
	b := make([]byte, to-from)
	n, err := f.ReadAt(b, from)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil
	}
	return b[:n]
}

// lineStart returns where the line begins that is not ended yet.
func (s *stream) lineStart() int64 {
	from := max(0, s.size-maxLine)
	b := readRange(s.file, from, s.size)
	if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
		return from + int64(i) + 1
	}
	return s.size
}

// newLines returns the whole lines since the last call.
func (s *stream) newLines() []string {
	var lines []string
	if skip := s.size - s.read - maxNewBytes; skip > 0 {
		lines = append(lines, fmt.Sprintf("(%d bytes are left out: more than can be followed)", skip))
		s.read += skip
	}
	b := readRange(s.file, s.read, s.size)
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		switch {
		case i >= 0:
			lines = append(lines, Clean(b[:i]))
			b, s.read = b[i+1:], s.read+int64(i)+1
		case len(b) > maxLine: // a line without an end is shown in parts
			lines = append(lines, Clean(b[:maxLine]))
			b, s.read = b[maxLine:], s.read+maxLine
		default:
			return lines
		}
	}
	return lines
}

// last returns the last n lines of the stream, also of the part that was cut.
func (s *stream) last(n int, name string) []topics.LogLine {
	lines := tail(s.file, s.size, n, name, s.marks)
	if len(lines) < n {
		older := s.file + ".1"
		if info, err := os.Lstat(older); err == nil {
			lines = append(tail(older, info.Size(), n-len(lines), name, s.older), lines...)
		}
	}
	return lines
}

// tail reads the last n lines of a file of a size, 1 MB at most.
func tail(file string, size int64, n int, name string, marks []mark) []topics.LogLine {
	var b []byte
	from := size
	for length := int64(16 << 10); from > 0; length *= 4 {
		from = max(0, size-length)
		b = readRange(file, from, size)
		if bytes.Count(b, []byte{'\n'}) > n || length >= 2*maxSize {
			break
		}
	}
	if from > 0 { // it begins within a line
		i := bytes.IndexByte(b, '\n')
		b, from = b[i+1:], from+int64(i)+1
	}
	var lines []topics.LogLine
	for len(b) > 0 {
		text, rest, _ := bytes.Cut(b, []byte{'\n'})
		lines = append(lines, topics.LogLine{At: at(timeAt(marks, from)), Stream: name, Line: Clean(text)})
		from += int64(len(b) - len(rest))
		b = rest
	}
	return lines[max(0, len(lines)-n):]
}

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
