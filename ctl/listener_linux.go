package ctl

import (
	"errors"
	"net"
	"syscall"
)

// checkListener returns an error unless a trusted user listens at the other end of a
// connection. What was at its path before may be something else by now.
func checkListener(c net.Conn) error {
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	var peer *syscall.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) {
		peer, failed = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	if !trustedUser(peer.Uid) {
		return errUntrustedSocket
	}
	return nil
}
