package bundle

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/klauspost/compress/zstd"
)

// Limits are what Unpack takes at most.
type Limits struct {
	// Size is that of the uncompressed tar, in bytes.
	Size int64
	// Ratio is how much larger than the compressed bytes the tar may be, beyond
	// freeRatio.
	Ratio int64
	// Entries is how many files, directories and links there may be.
	Entries int
}

// DefaultLimits are those of a domain. A service beyond them is rather an image for a
// container.
var DefaultLimits = Limits{Size: 2 << 30, Ratio: 200, Entries: 20_000}

// freeRatio is up to where the ratio does not count, in bytes: a small tar is mostly
// zeros.
const freeRatio = 1 << 20

// maxWindow bounds the memory that a compressed layer makes its reader take, in bytes.
const maxWindow = 8 << 20

// ErrTooLarge means that a bundle has more bytes than it may.
var ErrTooLarge = errors.New("the bundle is larger than allowed")

// decompress returns a reader of the tar in a layer of a media type.
func decompress(mediaType string, r io.Reader) (io.ReadCloser, error) {
	switch mediaType {
	case LayerGzip:
		z, err := gzip.NewReader(bufio.NewReader(r))
		if err != nil {
			return nil, fmt.Errorf("cannot read the layer as gzip: %w", err)
		}
		return z, nil
	case LayerZstd:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, fmt.Errorf("cannot read the layer as zstd: %w", err)
		}
		return z.IOReadCloser(), nil
	}
	return nil, fmt.Errorf("cannot read a layer of the media type %.80q: want %s or %s", mediaType, LayerZstd, LayerGzip)
}

// Unpack writes the files of a compressed layer into an empty directory, and returns the
// digest of the uncompressed tar, which the caller compares. Links are never followed, no owner,
// time or special bit is set, and nothing is written outside of the directory. What is
// there after an error is to be removed.
//
// It fails for what may not be in a bundle (*EntryError), beyond the limits (ErrTooLarge), and
// for a layer that cannot be read.
func Unpack(layer io.Reader, mediaType string, root *os.Root, limits Limits) (Content, error) {
	read := new(counter)
	tarred, err := decompress(mediaType, io.TeeReader(layer, read))
	if err != nil {
		return Content{}, err
	}
	defer tarred.Close()
	sum := sha256.New()
	bounded := &boundedReader{r: io.TeeReader(tarred, sum), compressed: read, limits: limits}
	u := unpacker{root: root, tar: tar.NewReader(bounded), entries: catalog{max: limits.Entries}}
	for {
		h, err := u.tar.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = u.entry(h)
		}
		if err != nil {
			return Content{}, fmt.Errorf("cannot unpack the bundle: %w", err)
		}
	}
	if err := bounded.rest(); err != nil {
		return Content{}, fmt.Errorf("cannot unpack the bundle: %w", err)
	}
	if u.files == 0 {
		return Content{}, errors.New("cannot unpack the bundle: there is no file in it")
	}
	return Content{Digest: Digest(digestPrefix + hex.EncodeToString(sum.Sum(nil))), Size: bounded.size, Files: u.files}, nil
}

// boundedReader reads a tar as far as the limits allow.
type boundedReader struct {
	r          io.Reader
	compressed *counter
	size       int64
	limits     Limits
}

func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.size += int64(n)
	if b.size > b.limits.Size {
		return n, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, b.limits.Size)
	}
	if b.size > freeRatio && b.size > int64(*b.compressed)*b.limits.Ratio {
		return n, fmt.Errorf("%w: more than %d times its compressed size", ErrTooLarge, b.limits.Ratio)
	}
	return n, err
}

// rest reads what follows the end of the tar, which must be zeros.
func (b *boundedReader) rest() error {
	buffer := make([]byte, 32<<10)
	for {
		n, err := b.Read(buffer)
		for _, c := range buffer[:n] {
			if c != 0 {
				return errors.New("bytes follow the end of the tar")
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

type unpacker struct {
	root    *os.Root
	tar     *tar.Reader
	entries catalog
	files   int
}

// entry writes one entry.
func (u *unpacker) entry(h *tar.Header) error {
	kind, err := kindOf(h)
	if err != nil {
		return &EntryError{h.Name, err}
	}
	name, err := u.entries.add(h.Name, kind, h.Linkname)
	if err != nil {
		return err
	}
	if name == "." {
		return nil
	}
	if up := path.Dir(name); up != "." {
		if err := u.root.MkdirAll(up, 0o755); err != nil {
			return &EntryError{h.Name, err}
		}
	}
	switch kind {
	case directory:
		err = u.root.MkdirAll(name, 0o755)
	case symlink:
		err = u.root.Symlink(h.Linkname, name)
	case regular:
		err = u.file(name, h)
	}
	if err != nil && !errors.As(err, new(*EntryError)) {
		err = &EntryError{h.Name, err}
	}
	return err
}

// file writes a regular file.
func (u *unpacker) file(name string, h *tar.Header) error {
	mode := os.FileMode(0o644)
	if h.Mode&0o111 != 0 {
		mode = 0o755
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, u.tar)
	if closing := f.Close(); err == nil {
		err = closing
	}
	u.files++
	return err
}
