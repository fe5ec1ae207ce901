// Package bundles has the programs of deployed services on a domain's disk: it pulls them from
// the hub's registry, unpacks them by a process without rights, and keeps those that are
// needed.
//
// It owns data_dir/bundles. A bundle is a directory that is named after the digest of its
// content, appears as a whole or not at all, and is never changed. It knows no service and
// decides nothing: its caller says what is needed. Only agent imports it.
//
// # Files
//
//	build.go   building in a copy
//	close.go   giving an unpacked directory to the agent, read-only
//	fetch.go   pulling a layer, resumed where it broke off
//	store.go   what is on the disk
//	unpack.go  the process that unpacks, and its start
package bundles

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/jmbarzee/dominion/bundle"
	"github.com/jmbarzee/dominion/internal/atomicfile"
	"github.com/jmbarzee/dominion/topics"
)

// Options are those of a Store.
type Options struct {
	// Dir is where the bundles are.
	Dir string
	// Reserve is how much of the disk stays free, in bytes.
	Reserve int64
	// Rate is how fast a layer is pulled at most, in bytes a second; 0: as fast as it comes.
	Rate int64
	Log  *slog.Logger
}

// Store is the bundles on a disk. It is for concurrent use, but one Fetch of a layer at a
// time.
type Store struct{ o Options }

// The names within the directory. Bundles are 64 digits.
const (
	fetchDir     = ".fetch"  // layers that are pulled
	layersDir    = ".layers" // by the digest of a layer, the digest of its content
	unpackPrefix = ".unpack-"
	builtSuffix  = "-built" // of a bundle's copy that was built
)

// ErrNoSpace means that the disk has no space for a bundle.
var ErrNoSpace = errors.New("no space on the disk")

// Open opens a store, and removes what was left half done. Layers that were pulled in part
// stay.
func Open(o Options) (*Store, error) {
	s := &Store{o}
	for _, dir := range []string{o.Dir, s.path(fetchDir), s.path(layersDir)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("cannot open the bundles: %w", err)
		}
	}
	if err := os.Chmod(o.Dir, 0o711); err != nil { // services read their own
		return nil, fmt.Errorf("cannot open the bundles: %w", err)
	}
	entries, err := os.ReadDir(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("cannot open the bundles: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), unpackPrefix) {
			if err := removeAll(s.path(e.Name())); err != nil {
				o.Log.Warn("a bundle that was unpacked in part stays on the disk", "path", s.path(e.Name()), "error", err)
			}
		}
	}
	return s, nil
}

func (s *Store) path(name string) string { return filepath.Join(s.o.Dir, name) }

// Path returns the directory of a bundle; false: it is not there.
func (s *Store) Path(v topics.BundleVariant) (dir string, found bool) {
	content := v.Content
	if content == "" {
		layer, err := bundle.ParseDigest(v.Layer)
		if err != nil {
			return "", false
		}
		text, err := os.ReadFile(filepath.Join(s.path(layersDir), layer.Hex()))
		if err != nil {
			return "", false
		}
		content = strings.TrimSpace(string(text))
	}
	d, err := bundle.ParseDigest(content)
	if err != nil {
		return "", false
	}
	dir = s.path(d.Hex())
	info, err := os.Lstat(dir)
	return dir, err == nil && info.IsDir()
}

// noteContent remembers what the content of a layer is.
func (s *Store) noteContent(layer, content bundle.Digest) error {
	return atomicfile.Write(filepath.Join(s.path(layersDir), layer.Hex()), []byte(content+"\n"), 0o600)
}

// Retain removes the bundles and layers that are not among those that are needed.
func (s *Store) Retain(needed []topics.BundleVariant) error {
	keep := map[string]bool{fetchDir: true, layersDir: true}
	layers := make(map[string]bool)
	for _, v := range needed {
		if dir, found := s.Path(v); found {
			keep[filepath.Base(dir)], keep[filepath.Base(dir)+builtSuffix] = true, true
		}
		if d, err := bundle.ParseDigest(v.Layer); err == nil {
			layers[d.Hex()] = true
		}
	}
	var faults []error
	entries, err := os.ReadDir(s.o.Dir)
	if err != nil {
		return fmt.Errorf("cannot remove bundles: %w", err)
	}
	for _, e := range entries {
		if name := e.Name(); !keep[name] && !strings.HasPrefix(name, unpackPrefix) {
			faults = append(faults, removeAll(s.path(name)))
		}
	}
	for _, dir := range []string{fetchDir, layersDir} {
		entries, err := os.ReadDir(s.path(dir))
		faults = append(faults, err)
		for _, e := range entries {
			if !layers[strings.TrimSuffix(e.Name(), partSuffix)] {
				faults = append(faults, os.Remove(filepath.Join(s.path(dir), e.Name())))
			}
		}
	}
	return errors.Join(faults...)
}

// Remove removes all bundles of a directory that no Store uses.
func Remove(dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return removeAll(dir)
}

// checkSpace returns ErrNoSpace where the disk has not so many bytes beside the reserve.
func (s *Store) checkSpace(bytes int64) error {
	var disk unix.Statfs_t
	if err := unix.Statfs(s.o.Dir, &disk); err != nil {
		return fmt.Errorf("cannot look at the disk: %w", err)
	}
	if free := int64(disk.Bavail) * int64(disk.Bsize); free-bytes < s.o.Reserve {
		return fmt.Errorf("%w: %d bytes are free, %d are needed, and %d are left to others", ErrNoSpace, free, bytes, s.o.Reserve)
	}
	return nil
}

// removeAll removes a directory, also one without write bits.
func removeAll(dir string) error {
	root, err := os.OpenRoot(dir)
	if err == nil {
		err = fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				return root.Chmod(name, 0o700)
			}
			return err
		})
		_ = root.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove %s: %w", dir, err)
	}
	return os.RemoveAll(dir)
}
