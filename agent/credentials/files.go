package credentials

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/internal/atomicfile"
)

// Directory is the directory in data_dir with a directory for each service.
const Directory = "credentials"

// The files in the directory of a service.
const (
	caFile   = "ca.pem"
	certFile = "cert.pem"
	keyFile  = "key.pem"
)

// newDirectory begins the name of a directory that is made for a service. No service has
// such a name.
const newDirectory = ".new-"

// maxFile bounds what is read of a service's file.
const maxFile = 1 << 20

// Environment returns the variables that name the files of a service. They are there as soon as
// the hub has issued a certificate, and are then replaced where they are.
func (c *Credentials) Environment(service string) map[string]string {
	dir := filepath.Join(c.dir, service)
	return map[string]string{
		"DOMINION_CA_FILE":   filepath.Join(dir, caFile),
		"DOMINION_CERT_FILE": filepath.Join(dir, certFile),
		"DOMINION_KEY_FILE":  filepath.Join(dir, keyFile),
	}
}

// content is the content of one file.
type content struct {
	name string
	text []byte
}

// provide gives a service its files, unless they are there as they must be. retry is when it is
// to be tried again; zero: not by itself.
func (c *Credentials) provide(service string, e *entry, verifier *identity.Verifier, now time.Time) (retry time.Time) {
	err := c.provideFiles(service, e, verifier)
	e.provided = true
	if err == nil {
		c.report(service, "")
		return time.Time{}
	}
	c.report(service, fmt.Sprintf("the service %s has no certificate in %s, it is tried again: %v", service, filepath.Join(c.dir, service), err))
	e.provided = false
	return now.Add(firstRetry)
}

func (c *Credentials) provideFiles(service string, e *entry, verifier *identity.Verifier) error {
	user, err := c.o.User(service)
	if err != nil {
		return err
	}
	key, err := identity.EncodeKey(e.key)
	if err != nil {
		return err
	}
	authorities := identity.EncodeCertificates(verifier.Roots...)
	if c.o.CAFile != "" {
		more, err := os.ReadFile(c.o.CAFile)
		if err != nil {
			return fmt.Errorf("cannot read cafile: %w", err)
		}
		authorities = append(authorities, more...)
	}
	files := []content{{caFile, authorities}, {certFile, identity.EncodeCertificates(e.chain...)}, {keyFile, key}}
	if c.same(filepath.Join(c.dir, service), user, files) {
		return nil
	}
	return c.replaceFiles(filepath.Join(c.dir, service), user, files)
}

// same reports whether a service has its files, as only its user and root can read them.
func (c *Credentials) same(dir string, user *syscall.Credential, files []content) bool {
	uid, _ := ids(user)
	is := func(path string, mode fs.FileMode) bool {
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != mode {
			return false
		}
		status, ok := info.Sys().(*syscall.Stat_t)
		return ok && int(status.Uid) == uid
	}
	if !is(dir, fs.ModeDir|0o700) {
		return false
	}
	return !slices.ContainsFunc(files, func(f content) bool {
		path := filepath.Join(dir, f.name)
		if !is(path, 0o600) {
			return true
		}
		text, err := c.o.Files.Read(path, user, maxFile)
		return err != nil || !bytes.Equal(text, f.text)
	})
}

// ids returns user and group that own what a service has.
func ids(user *syscall.Credential) (uid, gid int) {
	if user == nil {
		return os.Getuid(), os.Getgid()
	}
	return int(user.Uid), int(user.Gid)
}

// replaceFiles replaces the directory of a service by a new one, all at once: whoever reads it sees
// the former files or the new ones. What the user of the service has put in the place of the former
// ones is neither opened nor followed.
func (c *Credentials) replaceFiles(dir string, user *syscall.Credential, files []content) error {
	if err := os.MkdirAll(c.dir, 0o711); err != nil {
		return err
	}
	if err := os.Chmod(c.dir, 0o711); err != nil { // whatever the umask is
		return err
	}
	next, err := os.MkdirTemp(c.dir, newDirectory+"*") // for us alone
	if err != nil {
		return err
	}
	// What is there in the end is the former directory: its user may have made it one that
	// cannot be removed, such as by a mount. That harms nobody.
	defer c.discard(next)
	for _, f := range files {
		if err := writeFile(filepath.Join(next, f.name), f.text, user); err != nil {
			return err
		}
	}
	// The user of the service gets it when it is complete.
	if err := own(next, 0o700, user); err != nil {
		return err
	}
	if err := exchange(next, dir); err != nil {
		return err
	}
	return atomicfile.SyncDir(c.dir)
}

// discard removes a directory that is not used any more.
func (c *Credentials) discard(dir string) {
	if err := os.RemoveAll(dir); err != nil {
		c.o.Log.Warn("a former directory of a service's certificate stays", "directory", dir, "error", err)
	}
}

// sweep removes what an agent left behind that was killed.
func (c *Credentials) sweep() {
	all, err := os.ReadDir(c.dir)
	if err != nil {
		return // there is none yet
	}
	for _, e := range all {
		if strings.HasPrefix(e.Name(), newDirectory) {
			c.discard(filepath.Join(c.dir, e.Name()))
		}
	}
}

// writeFile makes a file that does not exist.
func writeFile(path string, text []byte, user *syscall.Credential) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, give(f, 0o600, user), f.Sync(), f.Close())
}

// own gives a directory that is ours to a user.
func own(dir string, mode fs.FileMode, user *syscall.Credential) error {
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	return errors.Join(give(f, mode, user), f.Sync(), f.Close())
}

// give sets the mode and owner of an open file.
func give(f *os.File, mode fs.FileMode, user *syscall.Credential) error {
	if err := f.Chmod(mode); err != nil || os.Getuid() != 0 {
		return err
	}
	return f.Chown(ids(user))
}

// exchange puts a directory in the place of another, and that one in its place if it exists.
func exchange(next, dir string) error {
	err := unix.Renameat2(unix.AT_FDCWD, next, unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL): // an old kernel or file system
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	case !errors.Is(err, unix.ENOENT):
		return &os.LinkError{Op: "rename", Old: next, New: dir, Err: err}
	}
	return os.Rename(next, dir)
}

// remove removes the files of a service.
func (c *Credentials) remove(service string) {
	if err := os.RemoveAll(filepath.Join(c.dir, service)); err != nil {
		c.report(service, fmt.Sprintf("cannot remove the certificate of the service %s: %v", service, err))
	}
}

// Remove removes the files of all services: the domain is reset.
func Remove(dataDir string) error {
	if err := os.RemoveAll(filepath.Join(dataDir, Directory)); err != nil {
		return fmt.Errorf("cannot remove the certificates of services: %w", err)
	}
	return nil
}
