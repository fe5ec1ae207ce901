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

// Write replaces the content of path: temporary file, fsync, rename, fsync of
// the directory. The content before becomes path.previous.
func Write(path string, content []byte, mode fs.FileMode) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot write %s: %w", path, err)
		}
	}()
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // nothing to remove after the rename
	if err := errors.Join(tmp.Chmod(mode), writeAll(tmp, content), tmp.Close()); err != nil {
		return err
	}
	// A hard link keeps the old content reachable by its name all the time. A
	// file system without hard links (FAT) does without the previous copy.
	_ = os.Remove(path + Previous)
	_ = os.Link(path, path+Previous)
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func writeAll(f *os.File, content []byte) error {
	if _, err := f.Write(content); err != nil {
		return err
	}
	return f.Sync()
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
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	return Write(path, append(b, '\n'), 0o600)
}

// ReadJSON reads what WriteJSON wrote. A file that is not there gives the zero
// value and found == false. One that cannot be read as JSON is set aside as
// path.broken with a warning and its previous copy is taken, if that is whole.
// err is for a disk that does not answer, not for broken content.
func ReadJSON[T any](path string, log *slog.Logger) (v T, found bool, err error) {
	v, err = read[T](path)
	switch {
	case err == nil:
		return v, true, nil
	case errors.Is(err, errBroken):
		log.Warn("a file is broken, set aside", "file", path, "as", path+Broken, "error", err)
		if err := os.Rename(path, path+Broken); err != nil {
			return v, false, fmt.Errorf("cannot set %s aside: %w", path, err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return v, false, fmt.Errorf("cannot read %s: %w", path, err)
	default:
		return v, false, nil
	}
	if v, err = read[T](path + Previous); err == nil {
		log.Warn("took the previous copy of a broken file", "file", path)
		return v, true, nil
	}
	var zero T
	return zero, false, nil
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
