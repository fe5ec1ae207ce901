package ctl

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

// A socket that the hub names is used if root or this user owns it; nothing else is.
func TestTrustedSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !trustedSocket(path) {
		t.Error("the own socket is not trusted")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if trustedSocket(file) || trustedSocket("") || trustedSocket(filepath.Join(t.TempDir(), "none")) {
		t.Error("what is not a socket is trusted")
	}
	if os.Getuid() != 0 {
		t.Skip("a socket of another user: only root can make one")
	}
	if trustedUser(65534) || !trustedUser(0) {
		t.Error("nobody is trusted, or root is not")
	}
	const nobody = 65534
	if err := os.Lchown(path, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	if trustedSocket(path) {
		t.Error("the socket of another user is trusted")
	}
}
