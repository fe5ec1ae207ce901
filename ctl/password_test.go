package ctl

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/zeroconf"
)

// A hub that zeroconf alone names gets no password for a certificate of an
// authority that the system trusts, whether it is announced by its address or
// by a name of its choice; only for one of the authority that --cafile names.
func TestNoPasswordForWhoClaimsToBeTheHub(t *testing.T) {
	certFile, keyFile := certificate(t)
	t.Setenv("SSL_CERT_FILE", certFile) // read once in a process: before the first connection that needs it
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	hub, err := startFake(t.TempDir(), "", broker.Config{
		ListenTLS: "127.0.0.1:0", CertFile: certFile, KeyFile: keyFile,
		Users: []broker.User{{Name: "ann", PasswordFile: password, Role: broker.RoleAdmin}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer closing(t, hub)
	at := netip.MustParseAddrPort(encrypted(hub))
	byAddress := zeroconf.Found{Instance: "home", Port: int(at.Port()), Addresses: []netip.Addr{at.Addr()}, Text: map[string]string{"id": "d1", "name": "home", "tls": "1"}}
	byName := zeroconf.Found{Instance: "home", Port: 1, Text: map[string]string{"id": "d1", "name": "home", "broker": "mqtts://" + at.String()}}
	for name, c := range map[string]struct {
		found zeroconf.Found
		args  []string
		code  int
		says  string
	}{
		"address":           {byAddress, nil, ExitNoAnswer, "a password is not sent there"},
		"name":              {byName, nil, ExitNoAnswer, "a password is not sent there"},
		"address, pinned":   {byAddress, []string{"--cafile", certFile}, ExitOK, ""},
		"name, pinned":      {byName, []string{"--cafile", certFile}, ExitOK, ""},
		"another authority": {byName, []string{"--cafile", func() string { c, _ := certificate(t); return c }()}, ExitNoAnswer, "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := Main(t.Context(), Env{
				Args:   append([]string{"plan", "--user", "ann", "--password-file", password}, c.args...),
				Stdout: &stdout, Stderr: &stderr, Getenv: func(string) string { return "" },
				local:  "mqtt://127.0.0.1:1",
				browse: func(context.Context, time.Duration) ([]zeroconf.Found, error) { return []zeroconf.Found{c.found}, nil },
			})
			if code != c.code || !strings.Contains(stderr.String(), c.says) {
				t.Errorf("exit code %d, want %d and %q: %s", code, c.code, c.says, &stderr)
			}
		})
	}
}
