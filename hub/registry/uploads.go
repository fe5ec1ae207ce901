package registry

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/bundle"
)

// uploadTime is how long an upload may be unfinished.
const uploadTime = 24 * time.Hour

// maxUploads bounds the unfinished uploads.
const maxUploads = 64

// upload is an unfinished one: a file of its id.
type upload struct {
	id, file string
	// mu is held while bytes are added.
	mu sync.Mutex
	// size is guarded by mu.
	size int64
	// used is when it was begun or continued; guarded by the mutex of the registry.
	used time.Time
}

var (
	errUpload = errors.New("no such upload")
	errRange  = errors.New("the bytes do not continue the upload")
	errDigest = errors.New("wrong digest")
)

// openUploads takes over the uploads of an earlier run, and removes what is no upload.
func (r *Registry) openUploads() error {
	dir := filepath.Join(r.o.Dir, uploadsDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		file := filepath.Join(dir, e.Name())
		if err != nil || !info.Mode().IsRegular() || strings.HasPrefix(e.Name(), "put-") {
			_ = os.Remove(file)
			continue
		}
		r.size += info.Size()
		r.uploads[e.Name()] = &upload{id: e.Name(), file: file, size: info.Size(), used: info.ModTime()}
	}
	return nil
}

// begin begins an upload.
func (r *Registry) begin(now time.Time) (*upload, error) {
	r.expireUploads(now)
	u := &upload{id: rand.Text(), used: now}
	u.file = filepath.Join(r.o.Dir, uploadsDir, u.id)
	r.mu.Lock()
	full := len(r.uploads) >= maxUploads
	if !full {
		r.uploads[u.id] = u
	}
	r.mu.Unlock()
	if full {
		return nil, fmt.Errorf("%w: %d uploads are unfinished", ErrFull, maxUploads)
	}
	if err := os.WriteFile(u.file, nil, 0o600); err != nil {
		r.drop(u)
		return nil, fmt.Errorf("cannot begin an upload: %w", err)
	}
	return u, nil
}

// find returns an upload.
func (r *Registry) find(id string, now time.Time) (*upload, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.uploads[id]
	if u == nil {
		return nil, errUpload
	}
	u.used = now
	return u, nil
}

// drop forgets an upload and removes its bytes.
func (r *Registry) drop(u *upload) {
	u.mu.Lock()
	defer u.mu.Unlock()
	r.mu.Lock()
	_, open := r.uploads[u.id]
	delete(r.uploads, u.id)
	if open {
		r.size -= u.size
	}
	r.mu.Unlock()
	if err := os.Remove(u.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.o.Log.Warn("an upload cannot be removed", "file", u.file, "error", err)
	}
}

// expireUploads drops the uploads that nobody continued for uploadTime.
func (r *Registry) expireUploads(now time.Time) {
	var old []*upload
	r.mu.Lock()
	for _, u := range r.uploads {
		if now.Sub(u.used) > uploadTime {
			old = append(old, u)
		}
	}
	r.mu.Unlock()
	for _, u := range old {
		r.drop(u)
	}
}

// pieceSize is how much of an upload is reserved and written at a time, in bytes.
const pieceSize = 256 << 10

// pieceTime is how long one piece may take on its way.
const pieceTime = 30 * time.Second

// add adds the bytes of a request to an upload. from is where they begin, -1: at its end.
// What was written before an error stays, and can be continued.
func (r *Registry) add(u *upload, from int64, body io.Reader, control *http.ResponseController) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if from >= 0 && from != u.size {
		return fmt.Errorf("%w: it has %d bytes, these begin at %d", errRange, u.size, from)
	}
	f, err := os.OpenFile(u.file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return errUpload
	}
	defer f.Close()
	piece := make([]byte, pieceSize)
	for {
		if control != nil {
			_ = control.SetReadDeadline(time.Now().Add(pieceTime)) // one without deadlines has none to extend
		}
		n, reading := io.ReadFull(body, piece)
		if n > 0 {
			if err := r.reserve(int64(n)); err != nil {
				return err
			}
			written, err := f.Write(piece[:n])
			u.size += int64(written)
			if err != nil {
				r.release(int64(n - written))
				return fmt.Errorf("%w: %w", ErrFull, err)
			}
		}
		if errors.Is(reading, io.EOF) || errors.Is(reading, io.ErrUnexpectedEOF) && bodyEnded(body) {
			return nil
		}
		if reading != nil {
			return fmt.Errorf("the upload broke off after %d bytes: %w", u.size, reading)
		}
	}
}

// bodyEnded reports whether a body that gave too few bytes ended as its sender meant to.
func bodyEnded(body io.Reader) bool {
	n, err := body.Read(make([]byte, 1))
	return n == 0 && errors.Is(err, io.EOF)
}

// finish makes an upload the blob of a digest.
func (r *Registry) finish(u *upload, d bundle.Digest) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	r.mu.Lock()
	_, open := r.uploads[u.id]
	delete(r.uploads, u.id)
	r.mu.Unlock()
	if !open {
		return errUpload
	}
	return r.store(u.file, d)
}
