package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jmbarzee/dominion/bundle"
	"github.com/jmbarzee/dominion/internal/atomicfile"
)

func (r *Registry) blobDir() string { return filepath.Join(r.o.Dir, "blobs", "sha256") }

// blobFile returns the file of a blob. The digest was parsed: it is no path.
func (r *Registry) blobFile(d bundle.Digest) string { return filepath.Join(r.blobDir(), d.Hex()) }

// Open opens a blob for reading; ErrNotFound.
func (r *Registry) Open(d bundle.Digest) (*os.File, error) {
	f, err := os.Open(r.blobFile(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", d, ErrNotFound)
	}
	return f, err
}

// has reports whether a blob is there, and its size.
func (r *Registry) has(d bundle.Digest) (int64, bool) {
	info, err := os.Stat(r.blobFile(d))
	if err != nil {
		return 0, false
	}
	return info.Size(), true
}

// touch keeps a blob that a push may be about to name, and reports whether it is there.
func (r *Registry) touch(d bundle.Digest) bool {
	now := time.Now()
	return os.Chtimes(r.blobFile(d), now, now) == nil
}

// read returns a small blob, a manifest or a config, whose digest is checked.
func (r *Registry) read(d bundle.Digest) ([]byte, error) {
	f, err := r.Open(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, bundle.MaxManifest+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", d, err)
	}
	if bundle.DigestOf(text) != d {
		return nil, fmt.Errorf("%s is damaged on the disk: push it again", d)
	}
	return text, nil
}

// measure sums what is stored.
func (r *Registry) measure() error {
	entries, err := os.ReadDir(r.blobDir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			r.size += info.Size()
		}
	}
	return nil
}

// reserve counts n more bytes, if there is space for them: ErrFull.
func (r *Registry) reserve(n int64) error {
	var disk unix.Statfs_t
	if err := unix.Statfs(r.o.Dir, &disk); err == nil {
		if free := int64(disk.Bavail) * int64(disk.Bsize); free-n < r.o.Reserve {
			return fmt.Errorf("%w: the disk has %d bytes left, and %d are kept free", ErrFull, free, r.o.Reserve)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.size+n > r.o.Max {
		return fmt.Errorf("%w: %d of %d bytes are used (registry.max)", ErrFull, r.size, r.o.Max)
	}
	r.size += n
	return nil
}

// release gives back n bytes that were reserved.
func (r *Registry) release(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.size -= n
}

// store makes a file whose bytes were reserved a blob, if it has the digest. The file is gone
// afterwards.
func (r *Registry) store(file string, d bundle.Digest) (err error) {
	size := int64(0)
	defer func() {
		if err != nil {
			_ = os.Remove(file)
			r.release(size)
		}
	}()
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("cannot store a blob: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	if size, err = io.Copy(sum, f); err != nil {
		return fmt.Errorf("cannot store a blob: %w", err)
	}
	if got := bundle.Digest("sha256:" + hex.EncodeToString(sum.Sum(nil))); got != d {
		return fmt.Errorf("%w: what was sent has the digest %s, not %s", errDigest, got, d)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("cannot store a blob: %w", err)
	}
	if old, there := r.has(d); there { // it may be damaged
		r.release(old)
	}
	if err := os.Rename(file, r.blobFile(d)); err != nil {
		return fmt.Errorf("cannot store a blob: %w", err)
	}
	return atomicfile.SyncDir(r.blobDir())
}

// put stores a small blob.
func (r *Registry) put(text []byte) error {
	d := bundle.DigestOf(text)
	if _, err := r.read(d); err == nil && r.touch(d) {
		return nil
	}
	if err := r.reserve(int64(len(text))); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Join(r.o.Dir, uploadsDir), "put-")
	if err == nil {
		_, err = f.Write(text)
		if closing := f.Close(); err == nil {
			err = closing
		}
	}
	if err != nil {
		r.release(int64(len(text)))
		return fmt.Errorf("cannot store a blob: %w", err)
	}
	return r.store(f.Name(), d)
}

// removeUnused removes the blobs that no version needs and that are older than unusedTime. The
// caller holds the mutex.
func (r *Registry) removeUnused(now time.Time) error {
	needed, err := r.needed()
	if err != nil {
		return fmt.Errorf("cannot tell which blobs are needed: %w", err)
	}
	entries, err := os.ReadDir(r.blobDir())
	if err != nil {
		return fmt.Errorf("cannot remove blobs: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || needed[bundle.Digest("sha256:"+e.Name())] {
			continue
		}
		if age := now.Sub(info.ModTime()); age >= 0 && age < unusedTime {
			continue
		}
		if err := os.Remove(filepath.Join(r.blobDir(), e.Name())); err != nil {
			return fmt.Errorf("cannot remove a blob: %w", err)
		}
		r.size -= info.Size()
	}
	return nil
}
