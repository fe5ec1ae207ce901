package broker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// socketMode gives access to the socket's user and group.
const socketMode = 0o660

// listenUnix creates a socket at path. A socket that a previous broker left there is
// removed; one that is in use, or any other file, is not. The listener removes its
// socket when it is closed.
func listenUnix(path string) (net.Listener, error) {
	if err := removeStaleSocket(path); err != nil {
		return nil, err
	}
	// The socket has its mode before it has a name, so there is no moment in
	// which other users can connect.
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		return errors.Join(raw.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), socketMode) }), err)
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, socketMode); err != nil { // what the umask removed
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// errSocketInUse is returned if another program listens on the socket.
var errSocketInUse = errors.New("it is in use: stop that broker or choose another path")

// removeStaleSocket removes a socket that is not in use.
func removeStaleSocket(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("there is a file that is not a socket: choose another path")
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		_ = c.Close()
		return errSocketInUse
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, fs.ErrNotExist):
		return nil // it was removed meanwhile
	}
	return fmt.Errorf("cannot determine whether it is in use: %w", err)
}
