package bundles

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jmbarzee/dominion/bundle"
	"github.com/jmbarzee/dominion/topics"
)

// partSuffix ends the names of layers that are not whole.
const partSuffix = ".part"

// stallTime is how long no byte may come.
const stallTime = 30 * time.Second

// Request is what is pulled.
type Request struct {
	Service string
	Variant topics.BundleVariant
	// Addresses are those of the registry, https://HOST:PORT, in the order in which they are
	// tried.
	Addresses []string
	// Client verifies the registry, and shows it the domain's certificate.
	Client *http.Client
	// Progress is called with the percent that is there; nil: nobody wants to know.
	Progress func(percent int)
}

// ErrLater means that the registry has no bundle for this domain yet, or has too much to do.
var ErrLater = errors.New("not yet")

// Fetch returns the directory of a bundle, which is pulled and unpacked where it is not there. What
// was pulled before an error is used by the next try.
func (s *Store) Fetch(ctx context.Context, r Request) (dir string, err error) {
	if dir, found := s.Path(r.Variant); found {
		return dir, nil
	}
	layer, err := bundle.ParseDigest(r.Variant.Layer)
	if err != nil {
		return "", fmt.Errorf("cannot pull the bundle: %w", err)
	}
	file := filepath.Join(s.path(fetchDir), layer.Hex())
	if err := s.pull(ctx, r, layer, file); err != nil {
		return "", err
	}
	dir, err = s.unpack(ctx, file, layer, r.Variant)
	if err != nil {
		return "", err
	}
	_ = os.Remove(file) // Retain removes it else
	return dir, nil
}

// pull has a layer be at file, whole and verified.
func (s *Store) pull(ctx context.Context, r Request, layer bundle.Digest, file string) error {
	if info, err := os.Stat(file); err == nil && info.Size() == r.Variant.Size {
		return nil
	}
	part := file + partSuffix
	var faults []error
	for _, at := range r.Addresses {
		err := s.pullFrom(ctx, r, at, part)
		if err == nil {
			if err = verify(part, layer); err != nil {
				_ = os.Remove(part) // from the beginning
				return err
			}
			return os.Rename(part, file)
		}
		if ctx.Err() != nil || errors.Is(err, ErrNoSpace) {
			return err
		}
		faults = append(faults, err)
	}
	if len(faults) == 0 {
		return fmt.Errorf("cannot pull the bundle: %w: the hub has not said where its registry is", ErrLater)
	}
	return fmt.Errorf("cannot pull the bundle: %w", errors.Join(faults...))
}

// pullFrom goes on with a layer from one address.
func (s *Store) pullFrom(ctx context.Context, r Request, at, part string) error {
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return noSpace(err)
	}
	defer f.Close()
	have, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if have > r.Variant.Size {
		if err := f.Truncate(0); err != nil {
			return err
		}
		have, _ = f.Seek(0, io.SeekStart)
	}
	if have == r.Variant.Size {
		return nil
	}
	if err := s.checkSpace(r.Variant.Size - have); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, at+"/v2/"+r.Service+"/blobs/"+r.Variant.Layer, nil)
	if err != nil {
		return err
	}
	if have > 0 {
		q.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	stalled := time.AfterFunc(stallTime, func() { cancel(errStalled) })
	defer stalled.Stop()
	answer, err := r.Client.Do(q)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusOK:
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if err := f.Truncate(0); err != nil {
			return err
		}
		have = 0
	case http.StatusPartialContent:
	case http.StatusNotFound, http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return fmt.Errorf("%s: %w (HTTP %d)", at, ErrLater, answer.StatusCode)
	default:
		return fmt.Errorf("%s answered HTTP %d", at, answer.StatusCode)
	}
	err = s.copy(f, io.LimitReader(answer.Body, r.Variant.Size-have+1), have, r, stalled)
	if cause := context.Cause(ctx); cause != nil && err != nil {
		err = cause
	}
	if err == nil {
		err = f.Sync()
	}
	return noSpace(err)
}

var errStalled = fmt.Errorf("nothing came for %v", stallTime)

// copy writes what comes, at most as fast as configured.
func (s *Store) copy(f *os.File, from io.Reader, have int64, r Request, stalled *time.Timer) error {
	buffer := make([]byte, 64<<10)
	began, first := time.Now(), have
	for {
		n, err := from.Read(buffer)
		stalled.Reset(stallTime)
		if n > 0 {
			if _, err := f.Write(buffer[:n]); err != nil {
				return err
			}
			have += int64(n)
			if have > r.Variant.Size {
				return fmt.Errorf("the layer is longer than its %d bytes", r.Variant.Size)
			}
			if r.Progress != nil {
				r.Progress(int(100 * have / r.Variant.Size))
			}
		}
		if errors.Is(err, io.EOF) {
			if have < r.Variant.Size {
				return fmt.Errorf("the connection ended after %d of %d bytes", have, r.Variant.Size)
			}
			return nil
		}
		if err != nil {
			return err
		}
		if s.o.Rate > 0 {
			if wait := time.Duration(float64(have-first)/float64(s.o.Rate)*float64(time.Second)) - time.Since(began); wait > 0 {
				time.Sleep(min(wait, time.Second))
			}
		}
	}
}

// noSpace makes ErrNoSpace of the error of a full disk.
func noSpace(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// errCorrupt means that what came is not what was ordered.
var errCorrupt = errors.New("the bundle is damaged")

// verify compares a file with the digest that it must have.
func verify(file string, want bundle.Digest) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	if got := bundle.Digest("sha256:" + hex.EncodeToString(sum.Sum(nil))); got != want {
		return fmt.Errorf("%w: it has the digest %s, and %s was ordered", errCorrupt, got, want)
	}
	return nil
}
