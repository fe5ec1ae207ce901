package ctl

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/broker/zeroconf"
)

// Who may not open the control socket is told which one, and what to do; another hub is not looked for.
func TestControlSocketDenied(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may open every socket")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "closed", "control")
	if err := os.Mkdir(filepath.Dir(path), 0o000); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"certificates"}, {"--hub", "unix:" + path, "status"}} {
		var stdout, stderr bytes.Buffer
		code := Main(t.Context(), Env{
			Args: args, Stdout: &stdout, Stderr: &stderr, Getenv: func(string) string { return "" },
			local: "mqtt://127.0.0.1:1", control: []string{path},
			browse: func(context.Context, time.Duration) ([]zeroconf.Found, error) {
				t.Error("another hub is looked for")
				return nil, nil
			},
		})
		text := stderr.String()
		if code != ExitFailed || !strings.Contains(text, "the control socket "+path) || !strings.Contains(text, "hint: use sudo") || strings.Contains(text, "mqtt://") {
			t.Errorf("%v: exit code %d: %s", args, code, text)
		}
	}
}

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
