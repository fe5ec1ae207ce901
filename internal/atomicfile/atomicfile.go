// Package atomicfile writes small JSON files so that a power cut at any moment leaves
// the old or the new content, never a part. It keeps one backup, and moves a damaged
// file aside instead of failing on it.
//
// hub and agent use it for what must survive; it knows nothing of the content.
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

// The suffixes of the copies beside a file.
const (
	// Previous is the suffix of the backup: the content before the last write.
	Previous = ".previous"
	// Broken is the suffix of a file that could not be decoded.
	Broken = ".broken"
)

// temporary is the suffix of a file that is being written. The name is always the
// same, so that power cuts do not fill the disk with leftovers.
const temporary = ".tmp"

// Write replaces the content of path: temporary file, fsync, rename, fsync of the
// directory. The content before becomes path.previous. A path must have one writer at
// a time.
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
	// A hard link keeps the old content at its name all the time. On a file system
	// without hard links (FAT) there is no backup.
	_ = os.Remove(path + Previous)
	_ = os.Link(path, path+Previous)
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// Create writes a file that does not exist, and never replaces one: it returns
// fs.ErrExist if there is something at path. A power cut leaves the whole file or none.
func Create(path string, content []byte, mode fs.FileMode) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot create %s: %w", path, err)
		}
	}()
	if _, err := os.Lstat(path); err == nil {
		return fs.ErrExist
	}
	tmp := path + temporary
	_ = os.Remove(tmp)
	defer os.Remove(tmp)
	if err := writeWhole(tmp, content, mode); err != nil {
		return err
	}
	// A link fails where something is, a rename does not. A file system without hard
	// links (FAT) has the check above.
	if err := os.Link(tmp, path); errors.Is(err, fs.ErrExist) {
		return fs.ErrExist
	} else if err != nil {
		if err := os.Rename(tmp, path); err != nil {
			return err
		}
	}
	return SyncDir(filepath.Dir(path))
}

// writeWhole creates a file and syncs it.
func writeWhole(path string, content []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	// The mode is set here too: above, the umask applies.
	return errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// WriteJSON writes v, indented for people. Only the file's owner can read it: it may
// contain secrets.
func WriteJSON(path string, v any) error {
	b, err := Encode(path, v)
	if err != nil {
		return err
	}
	return Write(path, b, 0o600)
}

// Encode returns v as WriteJSON writes it.
func Encode(path string, v any) ([]byte, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("cannot write %s: %w", path, err)
	}
	return append(b, '\n'), nil
}

// ReadJSON reads what WriteJSON wrote. For a missing file, found is false. A file that
// is not valid JSON is moved to path.broken with a warning, and replaced by its backup
// if that is valid. err is for I/O errors, not for damaged content.
func ReadJSON[T any](path string, log *slog.Logger) (v T, found bool, err error) {
	v, err = read[T](path)
	if err == nil {
		return v, true, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return v, false, nil
	}
	if !errors.Is(err, errBroken) {
		return v, false, fmt.Errorf("cannot read %s: %w", path, err)
	}
	broken := err
	if v, err = read[T](path + Previous); err == nil {
		if err := restore(path); err != nil {
			return v, false, fmt.Errorf("cannot replace %s by its backup: %w", path, err)
		}
		log.Warn("a file is damaged and was replaced by its backup", "file", path, "broken", path+Broken, "error", broken)
		return v, true, nil
	}
	if err := os.Rename(path, path+Broken); err != nil {
		return v, false, fmt.Errorf("cannot set %s aside: %w", path, err)
	}
	log.Warn("a file is damaged and has no backup, starting without it", "file", path, "broken", path+Broken, "error", broken)
	return v, false, nil
}

// restore replaces a damaged file by its backup, and keeps the damaged one as
// path.broken. There is a file at path at every moment: one that is missing after a
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
	return SyncDir(filepath.Dir(path))
}

// errBroken means that a file cannot be decoded.
var errBroken = errors.New("its content is damaged")

// read decodes a file. The error is errBroken if its content is damaged.
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
