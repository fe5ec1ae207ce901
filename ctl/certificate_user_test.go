package ctl

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/identity"
)

// A refusal names the user that the certificate logs in as.
func TestCertificateUser(t *testing.T) {
	authority, err := identity.NewAuthority("3f2a91c4-77aa-4c1e-9a52-0c4f1f3c0d11", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := authority.Issue(identity.Request{Subject: identity.Subject{Dominion: "3f2a91c4-77aa-4c1e-9a52-0c4f1f3c0d11", Use: identity.UserUse, Name: "ada"}, Key: &key.PublicKey, At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ada.crt")
	for name, tt := range map[string]struct {
		content []byte
		want    string
	}{
		"of the dominion": {identity.EncodeCertificates([]*x509.Certificate{cert}...), "ada"},
		"nonsense":        {[]byte("x"), ""},
	} {
		if err := os.WriteFile(file, tt.content, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := certificateUser(file); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	if got := certificateUser(file + ".none"); got != "" {
		t.Errorf("a file that is not there: %q", got)
	}
}
