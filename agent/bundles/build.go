package bundles

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/jmbarzee/dominion/internal/atomicfile"
)

// Built returns the copy of a bundle that was built, if there is one, else the bundle.
func (s *Store) Built(dir string) (built string, done bool) {
	if info, err := os.Lstat(dir + builtSuffix); err == nil && info.IsDir() {
		return dir + builtSuffix, true
	}
	return dir, false
}

// Build has run build a bundle in a copy that belongs to a user, nil: to the agent's, with a home
// that is removed. The copy is closed as a bundle is, and returned.
func (s *Store) Build(dir string, user *syscall.Credential, run func(copied, home string) error) (built string, err error) {
	copied, err := s.temporary(user)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			s.remove(copied)
		}
	}()
	home, err := s.temporary(user)
	if err != nil {
		return "", err
	}
	defer s.remove(home)
	if err := s.copyBundle(dir, copied, user); err != nil {
		return "", err
	}
	if err := run(copied, home); err != nil {
		return "", err
	}
	if err := closeDirectory(copied); err != nil {
		return "", noSpace(err)
	}
	if err := os.Rename(copied, dir+builtSuffix); err != nil {
		return "", fmt.Errorf("cannot keep what was built: %w", err)
	}
	return dir + builtSuffix, noSpace(atomicfile.SyncDir(s.o.Dir))
}

// temporary makes a directory that belongs to a user, and that Open removes.
func (s *Store) temporary(user *syscall.Credential) (string, error) {
	dir, err := os.MkdirTemp(s.o.Dir, unpackPrefix)
	if err == nil && user != nil {
		err = os.Chown(dir, int(user.Uid), int(user.Gid))
	}
	if err != nil {
		return "", fmt.Errorf("cannot build: %w", noSpace(err))
	}
	return dir, nil
}

// remove removes a directory that is not needed any more.
func (s *Store) remove(dir string) {
	if err := removeAll(dir); err != nil {
		s.o.Log.Warn("a directory that is not needed stays on the disk", "path", dir, "error", err)
	}
}

// copyBundle copies a bundle, which nobody writes to, into a directory for a user.
func (s *Store) copyBundle(from, into string, user *syscall.Credential) error {
	var size int64
	err := fs.WalkDir(os.DirFS(from), ".", func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return err
	})
	if err == nil {
		err = s.checkSpace(size)
	}
	if err == nil {
		err = os.CopyFS(into, os.DirFS(from))
	}
	if err != nil {
		return fmt.Errorf("cannot build: %w", noSpace(err))
	}
	root, err := os.OpenRoot(into)
	if err != nil {
		return fmt.Errorf("cannot build: %w", err)
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.Type() != fs.ModeSymlink {
			mode := fs.FileMode(0o644)
			if info, wrong := e.Info(); wrong == nil && (e.IsDir() || info.Mode()&0o111 != 0) {
				mode = 0o755
			}
			err = root.Chmod(name, mode)
		}
		if err == nil && user != nil {
			err = root.Lchown(name, int(user.Uid), int(user.Gid))
		}
		return err
	})
}
