//go:build !darwin && !dragonfly && !freebsd && !linux && !netbsd && !openbsd

package filelock

import "os"

// tryLock locks nothing: the system has no flock, and no program of ours is built for it.
func tryLock(*os.File) error { return nil }
