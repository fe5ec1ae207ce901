// Package filelock locks a file, so that one process at a time uses the directory
// beside it: a data_dir of the hub or an agent, or the store of the broker.
//
// It knows nothing of what the lock protects. Callers name that in their errors.
package filelock

import (
	"errors"
	"fmt"
	"os"
)

// ErrInUse is wrapped by the errors of Lock and LockExisting when somebody else holds
// the lock.
var ErrInUse = errors.New("another process uses it")

// Lock locks the file at path, which is created when it does not exist. The lock is
// held until the returned file is closed or the process ends, in whatever way: a
// power cut or a crash leaves no lock behind. It does not wait: a lock that is held
// is ErrInUse.
//
// The lock is of the open file, not of the process: a second Lock in the same process
// fails too. Programs that the process starts do not inherit it.
func Lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return locked(f)
}

// LockExisting is Lock for a file on a disk that is read-only. A file that does not
// exist is fs.ErrNotExist.
func LockExisting(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return locked(f)
}

// locked returns f when it is locked, and closes it otherwise.
func locked(f *os.File) (*os.File, error) {
	err := tryLock(f)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, ErrInUse) {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return nil, &os.PathError{Op: "lock", Path: f.Name(), Err: err}
}
