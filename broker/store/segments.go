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

// The log is a sequence of segments, files named by number. Each begins with a header;
// then follow frames: length and checksum of a batch, and the batch. Frames are only
// appended, and only whole segments are removed, the oldest first.
const (
	segmentHeader   = "dominion store 1\n"
	frameHeaderSize = 8
	// segmentSize is the size beyond which the next segment is begun.
	segmentSize = 4 << 20
	// reserveStep is the space that is reserved at a time.
	reserveStep = 1 << 20
	// reserveSpare is reserved, on a full disk, for records that only remove
	// something.
	reserveSpare = 64 << 10
	// reserveMove is reserved, on a full disk, for moving live items only.
	reserveMove = 64 << 10
	maxFrame    = 1 << 30
)

// castagnoli is the polynomial of the checksums of frames.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// segmentName returns the file name of a segment; names sort by number.
func segmentName(n int) string { return fmt.Sprintf("%08d.log", n) }

// segment is a file of the log, and the size of its valid part.
type segment struct {
	number int
	size   int64
}

// segments returns the numbers of the segments in dir, ascending.
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

// frame appends the frame of a batch to b.
func frame(b, batch []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(batch)))
	sum := crc32.Update(0, castagnoli, b[len(b)-4:])
	b = binary.BigEndian.AppendUint32(b, crc32.Update(sum, castagnoli, batch))
	return append(b, batch...)
}

var (
	errTorn     = errors.New("the last batch is incomplete")
	errChecksum = errors.New("wrong checksum")
)

// segmentReader reads the frames of one segment.
type segmentReader struct {
	file   *os.File
	reader *bufio.Reader
	// validSize is where the last complete frame ended.
	validSize int64
	size      int64
	buf       []byte
}

// openSegment opens a segment for reading.
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
	return &segmentReader{file: f, reader: bufio.NewReaderSize(f, 64<<10), size: info.Size()}, nil
}

// next returns the next batch, which is valid until the next call; io.EOF at the end;
// another error for what cannot be read.
func (r *segmentReader) next() ([]byte, error) {
	if r.validSize == 0 {
		b := make([]byte, len(segmentHeader))
		if r.size == 0 {
			return nil, io.EOF
		}
		if _, err := io.ReadFull(r.reader, b); err != nil {
			return nil, ioErrorOr(err, errTorn)
		}
		// A damaged header does not affect the frames, which have checksums of
		// their own.
		r.validSize = int64(len(segmentHeader))
	}
	var h [frameHeaderSize]byte
	if n, err := io.ReadFull(r.reader, h[:]); n == 0 && err == io.EOF {
		return nil, io.EOF
	} else if err != nil {
		return nil, ioErrorOr(err, errTorn)
	}
	length := int64(binary.BigEndian.Uint32(h[:]))
	if length > min(maxFrame, r.size-r.validSize-frameHeaderSize) {
		return nil, errTorn
	}
	r.buf = slices.Grow(r.buf[:0], int(length))[:length]
	if _, err := io.ReadFull(r.reader, r.buf); err != nil {
		return nil, ioErrorOr(err, errTorn)
	}
	sum := crc32.Update(0, castagnoli, h[:4])
	if crc32.Update(sum, castagnoli, r.buf) != binary.BigEndian.Uint32(h[4:]) {
		return nil, errChecksum
	}
	r.validSize += frameHeaderSize + length
	return r.buf, nil
}

// ioErrorOr returns err if it is an I/O error, and otherwise if the file is too short.
func ioErrorOr(err, otherwise error) error {
	if err == nil || err == io.EOF || err == io.ErrUnexpectedEOF {
		return otherwise
	}
	return err
}

func (r *segmentReader) close() { _ = r.file.Close() }

// readLog calls each with every batch of the log, oldest first. The part of a segment
// that cannot be read is cut off with a warning; later segments are read.
func readLog(dir string, log *slog.Logger, each func(batch []byte) error) ([]segment, error) {
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
		var fault error
		for fault == nil {
			validSize := r.validSize
			var batch []byte
			if batch, fault = r.next(); fault == nil {
				if fault = each(batch); fault != nil {
					r.validSize = validSize
				}
			}
		}
		validSize := r.validSize
		r.close()
		if !errors.Is(fault, io.EOF) {
			if !errors.Is(fault, errTorn) && !errors.Is(fault, errChecksum) {
				// An I/O error, or a complete batch of unknown format: a newer version
				// wrote it.
				return nil, fmt.Errorf("cannot read %s: %w", path, fault)
			}
			log.Warn("the end of a file of the store cannot be read and was cut off; what precedes it is preserved",
				"file", path, "at", validSize, "bytes", r.size-validSize, "error", fault)
			if err := truncateFile(path, validSize); err != nil {
				return nil, err
			}
		}
		all = append(all, segment{n, validSize})
	}
	return all, nil
}

// truncateFile truncates and syncs a file.
func truncateFile(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Sync(), f.Close())
}

// tail is the end of the log: the segment that is written to.
type tail struct {
	dir    string
	file   *os.File
	number int
	// size is that of the valid part.
	size int64
	// reserved is the offset up to which the disk has reserved space.
	reserved int64
	// writes counts calls, bytes what was written.
	writes int64
	bytes  int64
}

// beginSegment makes a new segment the tail, with space for spare bytes, and returns
// the previous file.
func (t *tail) beginSegment(number int, spare int64) (before *os.File, err error) {
	path := filepath.Join(t.dir, segmentName(number))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	next := tail{dir: t.dir, file: f, number: number, writes: t.writes, bytes: t.bytes}
	err = next.reserve(int64(len(segmentHeader)) + spare)
	if err == nil {
		err = next.write([]byte(segmentHeader))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	if before = t.file; before != nil {
		t.releaseReserved()
	}
	*t = next
	return before, nil
}

// releaseReserved releases reserved space that was not used.
func (t *tail) releaseReserved() {
	_ = t.file.Truncate(t.size)
	t.reserved = t.size
}

// resume makes an existing segment the tail.
func (t *tail) resume(last segment) error {
	f, err := os.OpenFile(filepath.Join(t.dir, segmentName(last.number)), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	t.file, t.number, t.size, t.reserved = f, last.number, last.size, last.size
	return nil
}

// reserve reserves space for n more bytes. The error is ErrFull if there is none.
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
	return mapFullError(err)
}

// write appends b. If that fails, the file is unchanged, or its end is cut off when it
// is read.
func (t *tail) write(b []byte) error {
	n, err := t.file.WriteAt(b, t.size)
	t.writes++
	t.bytes += int64(n)
	if err == nil {
		t.size += int64(n)
		return nil
	}
	return mapFullError(errors.Join(err, t.file.Truncate(t.size)))
}
