package ctl

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/jmbarzee/dominion/broker/client"
)

// Who listens at a socket is checked once it is connected: what was at its path when it was
// looked at may be something else by then.
func TestListenerOfControlSocket(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a program of another user: only root can start one")
	}
	dir, err := os.MkdirTemp("", "control") // nobody must reach it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	const nobody = 65534
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "control")
	// The credentials of a socket are those of the thread that listens; nothing else runs on it
	// afterwards.
	listeners := make(chan net.Listener)
	go func() {
		runtime.LockOSThread()
		defer close(listeners)
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody, 0); errno != 0 {
			t.Error(errno)
			return
		}
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Error(err)
			return
		}
		listeners <- l
	}()
	l, listens := <-listeners
	if !listens {
		return
	}
	defer l.Close()
	for found, want := range map[bool]error{true: errUntrustedSocket, false: nil} {
		var o client.Options
		dialControl(&o, path, found)
		c, err := o.Dial(t.Context())
		if !errors.Is(err, want) {
			t.Errorf("found %v: %v", found, err)
		}
		if c != nil {
			c.Close()
		}
	}
}
