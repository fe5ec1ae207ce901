package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// mosquitto is Debian's broker on a host of its own, set up as a careful home
// owner does: TLS, users and passwords.
type mosquitto struct {
	host         *Host
	process      *Process
	caFile       string
	passwordFile string // the one password of all its users
	password     string
}

func startMosquitto(t testing.TB, host *Host) *mosquitto {
	t.Helper()
	m := &mosquitto{host: host, password: "correct-horse"}
	var cert, key string
	m.caFile, cert, key = certificates(t, host.Dir, host.Address())
	m.passwordFile = filepath.Join(host.Dir, "password")
	users := filepath.Join(host.Dir, "users")
	host.must(os.WriteFile(m.passwordFile, []byte(m.password+"\n"), 0o600))
	host.must(os.WriteFile(users, nil, 0o600))
	for _, user := range []string{"hub", "domain", "observer"} {
		host.must(command("mosquitto_passwd", "-b", users, user, m.password))
	}
	host.must(os.WriteFile(filepath.Join(host.Dir, "mosquitto.conf"), fmt.Appendf(nil, `user root
listener 8883
cafile %s
certfile %s
keyfile %s
allow_anonymous false
password_file %s
persistence false
max_queued_messages 10000
log_type error
log_type warning
log_type notice
`, m.caFile, cert, key, users), 0o600))
	m.start()
	return m
}

// start starts the broker and returns when it listens.
func (m *mosquitto) start() {
	m.host.t.Helper()
	m.process = m.host.Start("mosquitto", "-c", filepath.Join(m.host.Dir, "mosquitto.conf"))
	eventually(m.host.t, "mosquitto listens", func() bool {
		c, err := m.host.Dial("tcp", m.host.Address()+":8883")
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// login are what the mosquitto clients need to log in.
func (m *mosquitto) login() []string {
	return []string{"-h", m.host.Address(), "-p", "8883", "--cafile", m.caFile, "-u", "observer", "-P", m.password}
}

func (m *mosquitto) url(user string) string {
	return fmt.Sprintf("mqtts://%s@%s:8883", user, m.host.Address())
}

// certificates makes an authority and a certificate for an IP address.
func certificates(t testing.TB, dir, address string) (caFile, certFile, keyFile string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "home authority"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, &authorityKey.PublicKey, authorityKey)
	must(err)
	serverKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "broker"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.ParseIP(address)}, DNSNames: []string{"broker.local"},
	}
	serverDER, err := x509.CreateCertificate(rand.Reader, server, authority, &serverKey.PublicKey, authorityKey)
	must(err)
	keyDER, err := x509.MarshalECPrivateKey(serverKey)
	must(err)
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(dir, name)
		must(os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return file
	}
	return write("ca.pem", "CERTIFICATE", authorityDER), write("cert.pem", "CERTIFICATE", serverDER), write("key.pem", "EC PRIVATE KEY", keyDER)
}
