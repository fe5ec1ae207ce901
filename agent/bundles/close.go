package bundles

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// closeDirectory gives what a process without rights has written to the agent, entry by entry
// and without following links, takes the write bits away, and syncs it. Nobody writes there any
// more.
func closeDirectory(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("cannot close the bundle: %w", err)
	}
	defer root.Close()
	var directories []string
	err = fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if os.Geteuid() == 0 {
			if err := root.Lchown(name, 0, 0); err != nil {
				return err
			}
		}
		switch {
		case e.IsDir():
			directories = append(directories, name)
			return nil
		case e.Type().IsRegular():
			return closeFile(root, name)
		case e.Type() == fs.ModeSymlink:
			return nil
		}
		return fmt.Errorf("%s is neither a file, a directory nor a link", name)
	})
	for _, name := range directories {
		if err == nil {
			err = closeOne(root, name, 0o555)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot close the bundle: %w", err)
	}
	return nil
}

// closeFile closes a regular file with one name: another name of it could be written to.
func closeFile(root *os.Root, name string) error {
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	if links(info) != 1 {
		return fmt.Errorf("%s has more than one name", name)
	}
	mode := fs.FileMode(0o444)
	if info.Mode()&0o111 != 0 {
		mode = 0o555
	}
	return closeOne(root, name, mode)
}

// closeOne sets the mode of a file or directory, and syncs it.
func closeOne(root *os.Root, name string, mode fs.FileMode) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	return f.Sync()
}

// links returns how many names a file has.
func links(info fs.FileInfo) uint64 {
	if status, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(status.Nlink)
	}
	return 0
}
