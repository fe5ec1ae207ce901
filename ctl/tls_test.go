package ctl

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/broker"
)

// certificate writes a certificate of 127.0.0.1 that vouches for itself.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "home"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:        true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// An encrypted hub is asked with the certificates that the user trusts, and
// not otherwise.
func TestEncrypted(t *testing.T) {
	certFile, keyFile := certificate(t)
	hub, err := startFake(t.TempDir(), "", broker.Config{ListenTLS: "127.0.0.1:0", CertFile: certFile, KeyFile: keyFile})
	if err != nil {
		t.Fatal(err)
	}
	defer closing(t, hub)
	strict, err := startFake(t.TempDir(), "", broker.Config{
		ListenTLS: "127.0.0.1:0", CertFile: certFile, KeyFile: keyFile, ClientCAFile: certFile, RequireCertificate: true,
		Users: []broker.User{{Name: "home", Role: broker.RoleAdmin, Certificate: true}}, // the name in the certificate
	})
	if err != nil {
		t.Fatal(err)
	}
	defer closing(t, strict)
	address, strictAddress := encrypted(hub), encrypted(strict)
	otherCert, otherKey := certificate(t) // of nobody that the hub accepts
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	for _, c := range []struct {
		args []string
		env  string
		code int
		says string
	}{
		{[]string{"--hub", strictAddress, "--cafile", certFile, "--cert", otherCert, "--key", otherKey}, "", ExitNoAnswer, "hint: the hub does not accept the certificate"},
		{nil, "mqtts://" + strictAddress, ExitOK, ""}, // with the certificate of a service
		{[]string{"--hub", "mqtts://" + strictAddress}, "", ExitNoAnswer, "hint: "},
		{[]string{"--user", "me"}, "mqtts://" + strictAddress, ExitNoAnswer, "hint: "},
		{nil, "mqtts://me@" + strictAddress, ExitNoAnswer, "hint: "},
		{[]string{"--hub", address, "--cafile", certFile}, "", ExitOK, ""},
		{[]string{"--hub", "mqtts://" + address, "--cafile", certFile}, "", ExitOK, ""},
		{[]string{"--cafile", certFile}, "mqtts://" + address, ExitOK, ""},
		{[]string{"--hub", "mqtts://" + address}, "", ExitNoAnswer, "hint: trust who signed its certificate: dominionctl ca > ca.pem on the hub's machine writes the file, and --cafile ca.pem"},
		{[]string{"--hub", address}, "", ExitNoAnswer, "hint: is that port one for TLS?"},
		{[]string{"--hub", "mqtts://" + web.Listener.Addr().String()}, "", ExitNoAnswer, "hint: does that port speak TLS?"},
		{[]string{"--hub", "mqtts://" + hub.address()}, "", ExitNoAnswer, "hint: does that port speak TLS?"},
		{[]string{"--hub", strictAddress, "--cafile", certFile}, "", ExitNoAnswer, "hint: show it a certificate of yours: --cert"},
		{[]string{"--hub", "mqtts://" + address, "--cafile", keyFile}, "", ExitUsage, "there is no certificate in --cafile"},
	} {
		var stdout, stderr bytes.Buffer
		code := Main(t.Context(), Env{Args: append(c.args, "plan"), Stdout: &stdout, Stderr: &stderr, Getenv: func(k string) string {
			return map[string]string{
				"DOMINION_URL": c.env, "DOMINION_CA_FILE": certFile, "DOMINION_CERT_FILE": certFile, "DOMINION_KEY_FILE": keyFile,
			}[k]
		}})
		if code != c.code || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%v with DOMINION_URL=%q: exit code %d, want %d and %q: %s", c.args, c.env, code, c.code, c.says, &stderr)
		}
	}
}

// encrypted is where a hub listens for TLS.
func encrypted(f *fake) string {
	for _, l := range f.broker.Listeners() {
		if l.Scheme == "mqtts" {
			return l.Addr.String()
		}
	}
	return ""
}
