package store

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The log is a row of segments, files named by number. Each begins with a
// header; then come frames: length and checksum of a batch, and the batch.
// Frames are only ever appended, whole segments only ever removed, oldest first.
const (
	header       = "dominion store 1\n"
	frameHeader  = 8
	segmentSize  = 4 << 20  // beyond which the next segment is begun
	reserveStep  = 1 << 20  // what is asked of the disk at a time
	reserveSpare = 64 << 10 // of a full disk, for what only takes away
	reserveMove  = 64 << 10 // of a full disk, for moving what is live: nothing else takes it
	maxFrame     = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func segmentName(n int) string { return fmt.Sprintf("%08d.log", n) }

// segment is a file of the log and the size of what is whole in it.
type segment struct {
	number int
	size   int64
}

// segments lists what is in dir, ascending.
func segments(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []int
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".log")
		if n, err := strconv.Atoi(name); ok && err == nil && e.Name() == segmentName(n) {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all, nil
}

// frame puts a batch into its frame, at the end of b.
func frame(b, batch []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(batch)))
	sum := crc32.Update(0, castagnoli, b[len(b)-4:])
	b = binary.BigEndian.AppendUint32(b, crc32.Update(sum, castagnoli, batch))
	return append(b, batch...)
}

var (
	errTorn     = errors.New("the last batch is not whole")
	errChecksum = errors.New("wrong checksum")
)

// segmentReader reads the frames of one segment.
type segmentReader struct {
	file *os.File
	in   *bufio.Reader
	good int64 // where the last whole frame ended
	size int64
	buf  []byte
}

func openSegment(path string) (*segmentReader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &segmentReader{file: f, in: bufio.NewReaderSize(f, 64<<10), size: info.Size()}, nil
}

// next returns the next batch, which lasts until it is called again; io.EOF at
// the end; another error at what cannot be read.
func (r *segmentReader) next() ([]byte, error) {
	if r.good == 0 {
		b := make([]byte, len(header))
		if r.size == 0 {
			return nil, io.EOF
		}
		if _, err := io.ReadFull(r.in, b); err != nil {
			return nil, notFrame(err, errTorn)
		}
		// A header that is not what it was says nothing of the frames, which
		// have checksums of their own.
		r.good = int64(len(header))
	}
	var h [frameHeader]byte
	if n, err := io.ReadFull(r.in, h[:]); n == 0 && err == io.EOF {
		return nil, io.EOF
	} else if err != nil {
		return nil, notFrame(err, errTorn)
	}
	length := int64(binary.BigEndian.Uint32(h[:]))
	if length > min(maxFrame, r.size-r.good-frameHeader) {
		return nil, errTorn
	}
	r.buf = slices.Grow(r.buf[:0], int(length))[:length]
	if _, err := io.ReadFull(r.in, r.buf); err != nil {
		return nil, notFrame(err, errTorn)
	}
	sum := crc32.Update(0, castagnoli, h[:4])
	if crc32.Update(sum, castagnoli, r.buf) != binary.BigEndian.Uint32(h[4:]) {
		return nil, errChecksum
	}
	r.good += frameHeader + length
	return r.buf, nil
}

// notFrame keeps errors of the disk apart from a file that is too short.
func notFrame(err, otherwise error) error {
	if err == nil || err == io.EOF || err == io.ErrUnexpectedEOF {
		return otherwise
	}
	return err
}

func (r *segmentReader) close() { _ = r.file.Close() }

// replay gives every batch of the log to each, oldest first. What cannot be
// read is cut off its segment with a warning; segments after it are read.
func replay(dir string, log *slog.Logger, each func(batch []byte) error) ([]segment, error) {
	numbers, err := segments(dir)
	if err != nil {
		return nil, err
	}
	var all []segment
	for _, n := range numbers {
		path := filepath.Join(dir, segmentName(n))
		r, err := openSegment(path)
		if err != nil {
			return nil, err
		}
		var bad error
		for bad == nil {
			good := r.good
			var batch []byte
			if batch, bad = r.next(); bad == nil {
				if bad = each(batch); bad != nil {
					r.good = good
				}
			}
		}
		good := r.good
		r.close()
		if !errors.Is(bad, io.EOF) {
			if !errors.Is(bad, errTorn) && !errors.Is(bad, errChecksum) {
				// A disk that does not answer, or a batch that is whole and
				// still not understood: a newer version wrote it.
				return nil, fmt.Errorf("cannot read %s: %w", path, bad)
			}
			log.Warn("the end of a file of the store cannot be read and was cut off, what is before it is kept",
				"file", path, "at", good, "bytes", r.size-good, "error", bad)
			if err := cut(path, good); err != nil {
				return nil, err
			}
		}
		all = append(all, segment{n, good})
	}
	return all, nil
}

func cut(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Sync(), f.Close())
}

// tail is the end of the log: the segment that is written to.
type tail struct {
	dir      string
	file     *os.File
	number   int
	size     int64 // of what is whole
	reserved int64 // up to where the disk has promised room
	writes   int64 // calls, and
	bytes    int64 // what was written
}

// begin makes the next segment the tail, with room for spare bytes, and returns
// the one before.
func (t *tail) begin(number int, spare int64) (before *os.File, err error) {
	path := filepath.Join(t.dir, segmentName(number))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	next := tail{dir: t.dir, file: f, number: number, writes: t.writes, bytes: t.bytes}
	err = next.reserve(int64(len(header)) + spare)
	if err == nil {
		err = next.write([]byte(header))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	if before = t.file; before != nil {
		t.giveBack()
	}
	*t = next
	return before, nil
}

// giveBack gives back to the disk what was reserved and not used.
func (t *tail) giveBack() {
	_ = t.file.Truncate(t.size)
	t.reserved = t.size
}

// resume makes the last segment of before the tail again.
func (t *tail) resume(last segment) error {
	f, err := os.OpenFile(filepath.Join(t.dir, segmentName(last.number)), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	t.file, t.number, t.size, t.reserved = f, last.number, last.size, last.size
	return nil
}

// reserve makes sure that n more bytes can be written, and says ErrFull if not.
func (t *tail) reserve(n int64) error {
	need := t.size + n
	if need <= t.reserved {
		return nil
	}
	var err error
	for _, end := range []int64{need + reserveStep, need} {
		if err = allocate(t.file, t.reserved, end-t.reserved); err == nil {
			t.reserved = end
			return nil
		}
	}
	return full(err)
}

// write appends b. If that fails the file is as before, or no longer the tail's
// concern: its end is cut off when it is read.
func (t *tail) write(b []byte) error {
	n, err := t.file.WriteAt(b, t.size)
	t.writes++
	t.bytes += int64(n)
	if err == nil {
		t.size += int64(n)
		return nil
	}
	return full(errors.Join(err, t.file.Truncate(t.size)))
}
