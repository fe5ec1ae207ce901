package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// fallocKeepSize is FALLOC_FL_KEEP_SIZE: the size of the file does not change.
const fallocKeepSize = 1

// allocate reserves space on the disk. A file system that does not support it (FAT,
// NFS) is assumed to have the space.
func allocate(f *os.File, from, size int64) error {
	for {
		err := syscall.Fallocate(int(f.Fd()), fallocKeepSize, from, size)
		if err == syscall.EINTR {
			continue
		}
		if err == syscall.EOPNOTSUPP || err == syscall.ENOSYS {
			return nil
		}
		return err
	}
}

// mapFullError wraps all errors for lack of space in ErrFull.
func mapFullError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// segmentSizeFor returns the size of a segment: smaller on a small disk, so that there
// is space to move the oldest one when the disk is full.
func segmentSizeFor(dir string) int64 {
	var disk syscall.Statfs_t
	if syscall.Statfs(dir, &disk) != nil && syscall.Statfs(filepath.Dir(dir), &disk) != nil {
		return segmentSize
	}
	size := int64(disk.Blocks) * int64(disk.Bsize)
	return min(max(size/minSegmentsOnDisk, reserveMove), segmentSize)
}

// minSegmentsOnDisk is how many segments fit on a disk at least.
const minSegmentsOnDisk = 16
