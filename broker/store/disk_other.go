//go:build !linux

package store

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// allocate reserves space on the disk. A file system that does not support it (FAT,
// NFS) is assumed to have the space.
func allocate(*os.File, int64, int64) error { return nil }

func mapFullError(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// segmentSizeFor returns the size of a segment.
func segmentSizeFor(string) int64 { return segmentSize }
