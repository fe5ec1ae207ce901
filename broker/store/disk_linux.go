package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// keepSize is FALLOC_FL_KEEP_SIZE: the file does not seem longer.
const keepSize = 1

// allocate makes the disk promise room. A file system that cannot promise
// (FAT, NFS) is believed to have it.
func allocate(f *os.File, from, size int64) error {
	for {
		err := syscall.Fallocate(int(f.Fd()), keepSize, from, size)
		switch {
		case err == syscall.EINTR:
		case err == syscall.EOPNOTSUPP || err == syscall.ENOSYS:
			return nil
		default:
			return err
		}
	}
}

// full gives errors that mean a lack of room their one name.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// lock keeps a second store out of the directory; the system lets go of it
// when the process ends.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another process uses it (%w)", err), f.Close())
	}
	return f, nil
}

// segmentFor returns the size of a segment: small on a small disk, so that the
// room to move the oldest one is there when it is full.
func segmentFor(dir string) int64 {
	var disk syscall.Statfs_t
	if syscall.Statfs(dir, &disk) != nil && syscall.Statfs(filepath.Dir(dir), &disk) != nil {
		return segmentSize
	}
	size := int64(disk.Blocks) * int64(disk.Bsize)
	return min(max(size/smallDiskSegments, reserveMove), segmentSize)
}

// smallDiskSegments is how many segments a disk holds at least.
const smallDiskSegments = 16
