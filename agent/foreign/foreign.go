// Package foreign reads files that others than the agent control: those of
// services, and those that a start command names.
//
// Such a file may be a FIFO, a link to a file that only root may read, under a
// lease that its owner does not give up, or on a mount that does not answer.
// Read opens only regular files, follows no link in the last part of the path,
// reads as the user of the services where the agent is root, and waits no longer
// than the deadline. The agent's own files are written in the same way, without
// the checks: their disk may hang, too. What hangs costs one goroutine for each place, however
// often it is tried. Only the packages of the agent import it.
package foreign

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// deadline is how long a place may take to answer.
const deadline = time.Second

// maxPlaces bounds the places that are waited for at once.
const maxPlaces = 64

// Files reads files of others. It is for concurrent use.
type Files struct {
	mu sync.Mutex
	// places are where something is done now.
	places map[string]*place
}

// place is something that may hang as a whole: a service's directory.
type place struct {
	// since is when what is done there began.
	since time.Time
	// free is closed when that is done.
	free chan struct{}
}

// New returns a Files.
func New() *Files { return &Files{places: make(map[string]*place)} }

// Do runs f, which uses files of a place, in another goroutine, and returns its
// result, or an error if that takes too long: its result is lost then. One f at a
// time runs for a place. While it hangs, Do fails at once.
func Do[T any](files *Files, at string, f func() (T, error)) (T, error) {
	var none T
	p, err := files.acquire(at)
	if err != nil {
		return none, err
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			files.release(at, p)
			done <- r
		}()
		r.value, r.err = f()
	}()
	timer := time.NewTimer(deadline)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.value, r.err
	case <-timer.C:
		return none, noAnswer(at)
	}
}

// Open is Do for what must be closed: what f opened too late is closed.
func Open[T io.Closer](files *Files, at string, f func() (T, error)) (T, error) {
	var none, opened T
	var mu sync.Mutex
	var open, late bool
	got, err := Do(files, at, func() (T, error) {
		one, err := f()
		mu.Lock()
		defer mu.Unlock()
		if err == nil && late {
			return none, one.Close()
		}
		opened, open = one, err == nil
		return one, err
	})
	if !errors.Is(err, ErrBusy) {
		return got, err
	}
	mu.Lock()
	defer mu.Unlock()
	if late = true; open {
		_ = opened.Close()
	}
	return none, err
}

// ErrBusy is the error of Do and Read for a file that may be readable later.
var ErrBusy = errors.New("it may answer later")

// busyError is an ErrBusy.
type busyError string

func (e busyError) Error() string   { return string(e) }
func (busyError) Is(err error) bool { return err == ErrBusy }

func noAnswer(at string) error {
	return busyError(at + " does not answer: is it on a mount that hangs?")
}

// acquire waits until no other f runs for a place, within the deadline.
func (f *Files) acquire(at string) (*place, error) {
	for began := time.Now(); ; {
		f.mu.Lock()
		busy := f.places[at]
		if busy == nil && len(f.places) >= maxPlaces {
			f.mu.Unlock()
			return nil, busyError(fmt.Sprintf("cannot look at %s: %d other places do not answer", at, maxPlaces))
		}
		if busy == nil {
			p := &place{since: began, free: make(chan struct{})}
			f.places[at] = p
			f.mu.Unlock()
			return p, nil
		}
		f.mu.Unlock()
		left := deadline - time.Since(busy.since)
		if left <= 0 {
			return nil, noAnswer(at)
		}
		timer := time.NewTimer(left)
		select {
		case <-busy.free:
			timer.Stop()
		case <-timer.C:
		}
	}
}

func (f *Files) release(at string, p *place) {
	f.mu.Lock()
	delete(f.places, at)
	f.mu.Unlock()
	close(p.free)
}

// Read returns the content of a file, limit bytes at most, as a user sees it;
// nil is the agent's own, and so is any user for an agent that is not root. The
// directory of the file is its place.
func (f *Files) Read(path string, user *syscall.Credential, limit int64) ([]byte, error) {
	return Do(f, filepath.Dir(path), func() (b []byte, err error) {
		if failed := asUser(user, func() { b, err = read(path, user, limit) }); failed != nil {
			return nil, fmt.Errorf("cannot read %s as user %d: %w", path, user.Uid, failed)
		}
		return b, err
	})
}

// read opens a file without following a link or waiting, and reads it if it is a
// regular file that belongs to the agent, the user, or the owner of its directory.
func read(path string, user *syscall.Credential, limit int64) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ELOOP):
		return nil, fmt.Errorf("cannot read %s: it is a symbolic link: put the file itself there", path)
	case errors.Is(err, unix.EAGAIN):
		return nil, busyError("cannot read " + path + ": another program has a lease on it (fcntl F_SETLEASE)")
	case errors.Is(err, unix.EACCES) && user != nil:
		return nil, fmt.Errorf("cannot read %s: %w: let user %d read it, as which services run", path, err, user.Uid)
	case err != nil:
		return nil, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close()
	var info, dir unix.Stat_t
	if err := unix.Fstat(fd, &info); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if info.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("cannot read %s: it is not a regular file", path)
	}
	if err := unix.Stat(filepath.Dir(path), &dir); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: filepath.Dir(path), Err: err}
	}
	// Who owns the directory may put any file there; another user's was planted.
	if u := info.Uid; u != 0 && u != uint32(os.Geteuid()) && u != dir.Uid && (user == nil || u != user.Uid) {
		return nil, fmt.Errorf("cannot read %s: it belongs to user %d, who has no part in this service: chown it", path, u)
	}
	b, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("cannot read %s: it is larger than %d bytes", path, limit)
	}
	return b, err
}
