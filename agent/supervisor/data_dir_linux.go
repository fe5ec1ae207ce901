package supervisor

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// chownWait bounds how long a start waits while the data of a service that ran as
// another user is given to its user. Beyond that the change goes on in its
// goroutine, and the start is retried.
const chownWait = 200 * time.Millisecond

// maxChownDepth bounds the file descriptors of giveTree.
const maxChownDepth = 256

// provideDataDir makes the data directory of a service, and gives it to the
// service's user with everything of the former user in it.
func (s *Supervisor) provideDataDir(service string, own owner) error {
	done := s.chowning[service]
	if done == nil {
		dir := s.serviceData(service)
		former := -1
		err := s.onDisk(func() (err error) { former, err = makeDataDir(dir, own); return err })
		if err != nil || former < 0 {
			return err
		}
		s.o.Log.Info("the data directory is given to the user of the service", "service", service, "directory", dir, "user", own.name)
		done = make(chan error, 1)
		s.chowning[service] = done
		s.checking.Go(func() { done <- chownTree(dir, former, own) })
	}
	timer := time.NewTimer(chownWait)
	defer timer.Stop()
	select {
	case err := <-done:
		delete(s.chowning, service)
		return err
	case <-timer.C:
		return errChowning
	}
}

// makeDataDir makes a directory of the owner's. former is the user that it belongs
// to so far, -1 if it is the owner's already. An agent that is not root can
// give nothing away.
func makeDataDir(dir string, own owner) (former int, err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o711); err != nil {
		return -1, err
	}
	err = os.Mkdir(dir, 0o750)
	if os.Getuid() != 0 {
		if err != nil && !os.IsExist(err) {
			return -1, err
		}
		return -1, nil
	}
	if err == nil {
		return -1, os.Lchown(dir, own.uid, own.gid)
	}
	if !os.IsExist(err) {
		return -1, err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return -1, err
	}
	if !info.IsDir() {
		return -1, &fs.PathError{Op: "open", Path: dir, Err: syscall.ENOTDIR}
	}
	if uid := int(info.Sys().(*syscall.Stat_t).Uid); uid != own.uid {
		return uid, nil
	}
	return -1, nil
}

// chownTree gives a directory and what is below it to the owner: only what
// belongs to the former user, never through a symbolic link or another mount,
// and no file that has a second name, which may lie anywhere. The directory
// itself is last, so that what was interrupted is done again.
func chownTree(dir string, former int, own owner) error {
	fd, err := syscall.Open(dir, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		syscall.Close(fd)
		return &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	g := chowner{former: uint32(former), own: own, device: st.Dev}
	return g.directory(os.NewFile(uintptr(fd), dir), 0)
}

// chowner is a giveTree under way.
type chowner struct {
	former uint32
	own    owner
	device uint64
}

// directory changes the owner of everything in an open directory, then of the
// directory, and closes it.
func (g chowner) directory(d *os.File, depth int) error {
	defer d.Close()
	if depth > maxChownDepth {
		return fmt.Errorf("cannot give %s to %s: it is nested too deeply", d.Name(), g.own.name)
	}
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := g.entry(int(d.Fd()), name, filepath.Join(d.Name(), name), depth); err != nil {
			return err
		}
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(int(d.Fd()), &st); err != nil {
		return &fs.PathError{Op: "stat", Path: d.Name(), Err: err}
	}
	if st.Uid != g.former {
		return nil
	}
	return d.Chown(g.own.uid, g.own.gid)
}

// The flags of open(2) and fchownat(2) that package syscall lacks.
const (
	oPath       = 0x200000
	atEmptyPath = 0x1000
)

// entry changes the owner of one entry of a directory. It is opened without being
// followed or read, so that the file that is checked is the one that is changed.
func (g chowner) entry(parent int, name, path string, depth int) error {
	fd, err := syscall.Openat(parent, name, oPath|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err == syscall.ENOENT {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer syscall.Close(fd)
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	switch {
	case uint64(st.Dev) != g.device:
		return nil
	case st.Mode&syscall.S_IFMT == syscall.S_IFDIR:
		sub, err := syscall.Openat(fd, ".", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
		if err != nil {
			return &fs.PathError{Op: "open", Path: path, Err: err}
		}
		return g.directory(os.NewFile(uintptr(sub), path), depth+1)
	case st.Uid != g.former, st.Nlink > 1:
		return nil
	}
	if err := syscall.Fchownat(fd, "", g.own.uid, g.own.gid, atEmptyPath); err != nil {
		return &fs.PathError{Op: "chown", Path: path, Err: err}
	}
	return nil
}
