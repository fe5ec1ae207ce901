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
