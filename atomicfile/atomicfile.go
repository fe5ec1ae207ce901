// Package atomicfile keeps small files of JSON so that a power cut at any
// moment leaves the old or the new content, never a part. It keeps one
// previous copy and sets a broken file aside instead of failing on it.
//
// hub and agent use it for what must survive; it knows nothing of its content.
package atomicfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

// Previous and Broken are the endings of the copies beside a file: the one
// before the last write, and one that could not be read.
const (
	Previous = ".previous"
	Broken   = ".broken"
)

// temporary is the ending of a file that is not whole yet. The name is always
// the same, so that power cuts do not fill the disk with what they left.
const temporary = ".tmp"

// Write replaces the content of path: temporary file, fsync, rename, fsync of
// the directory. The content before becomes path.previous. A path has one
// writer at a time.
func Write(path string, content []byte, mode fs.FileMode) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot write %s: %w", path, err)
		}
	}()
	tmp := path + temporary
	_ = os.Remove(tmp) // it may have another owner or mode
	defer os.Remove(tmp)
	if err := writeWhole(tmp, content, mode); err != nil {
		return err
	}
	// A hard link keeps the old content reachable by its name all the time. A
	// file system without hard links (FAT) does without the previous copy.
	_ = os.Remove(path + Previous)
	_ = os.Link(path, path+Previous)
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func writeWhole(path string, content []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	// The mode is set here too: the umask had its say above.
	return errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// WriteJSON writes v, indented so that people can read it. Only its owner can
// read the file: it may carry secrets.
func WriteJSON(path string, v any) error {
	b, err := encode(path, v)
	if err != nil {
		return err
	}
	return Write(path, b, 0o600)
}

func encode(path string, v any) ([]byte, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("cannot write %s: %w", path, err)
	}
	return append(b, '\n'), nil
}

// ReadJSON reads what WriteJSON wrote. A file that is not there gives the zero
// value and found == false. One that cannot be read as JSON is set aside as
// path.broken with a warning, and its previous copy takes its place, if that is
// whole. err is for a disk that does not answer, not for broken content.
func ReadJSON[T any](path string, log *slog.Logger) (v T, found bool, err error) {
	v, err = read[T](path)
	switch {
	case err == nil:
		return v, true, nil
	case errors.Is(err, fs.ErrNotExist):
		return v, false, nil
	case !errors.Is(err, errBroken):
		return v, false, fmt.Errorf("cannot read %s: %w", path, err)
	}
	broken := err
	if v, err = read[T](path + Previous); err == nil {
		if err := restore(path); err != nil {
			return v, false, fmt.Errorf("cannot put the previous copy of %s in its place: %w", path, err)
		}
		log.Warn("a file is broken, took its previous copy", "file", path, "broken", path+Broken, "error", broken)
		return v, true, nil
	}
	if err := os.Rename(path, path+Broken); err != nil {
		return v, false, fmt.Errorf("cannot set %s aside: %w", path, err)
	}
	log.Warn("a file is broken and has no previous copy, starting without it", "file", path, "broken", path+Broken, "error", broken)
	return v, false, nil
}

// restore keeps the broken file at hand and puts the previous copy in its
// place. There is a file at path at every moment: one that is missing after a
// second power cut would count as never written.
func restore(path string) error {
	_ = os.Remove(path + Broken)
	_ = os.Link(path, path+Broken)
	_ = os.Remove(path + temporary)
	if err := os.Link(path+Previous, path+temporary); err != nil {
		return err
	}
	if err := os.Rename(path+temporary, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

var errBroken = errors.New("its content is not whole")

func read[T any](path string) (v T, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(b, &v); err != nil {
		var zero T
		return zero, fmt.Errorf("%w: %w", errBroken, err)
	}
	return v, nil
}
