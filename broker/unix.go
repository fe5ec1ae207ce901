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

// socketMode lets in whoever may write the socket: its user and its group.
const socketMode = 0o660

// listenUnix makes a socket at path. One that an ended broker left there is
// removed; one at which somebody answers, or any other file, is left alone. The
// listener removes its socket when it is closed.
func listenUnix(path string) (net.Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// The socket has its mode before it has a name, so there is no moment at
	// which others get in.
	early := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		return errors.Join(raw.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), socketMode) }), err)
	}}
	l, err := early.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, socketMode); err != nil { // what the umask took
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// errAnswered says that somebody else has the socket.
var errAnswered = errors.New("somebody answers there: stop that broker or choose another path")

func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("there is a file that is no socket: choose another path")
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		_ = c.Close()
		return errAnswered
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, fs.ErrNotExist):
		return nil // it went away by itself
	}
	return fmt.Errorf("cannot tell who has it: %w", err)
}
