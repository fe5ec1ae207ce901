package broker_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/broker"
)

// A ticket of an earlier connection is not a way round a change of authority:
// who resumes a TLS session is asked whose certificate it had.
func TestNoWayRoundAChangedAuthorityByATicket(t *testing.T) {
	server, serverKey := certificate(t)
	first, next := newAuthority(t), newAuthority(t)
	text, err := os.ReadFile(first.file)
	if err != nil {
		t.Fatal(err)
	}
	accepted := write(t, "accepted.pem", string(text))
	b, _ := listen(t, broker.Config{
		ListenTLS: "127.0.0.1:0", CertFile: server, KeyFile: serverKey, ClientCAFile: accepted, RequireCertificate: true,
		Users: []broker.User{{Name: "ada", Certificate: true, Role: broker.RoleAdmin}},
	})
	certFile, keyFile := first.sign(t, "ada", time.Now().Add(time.Hour))
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if pem, err := os.ReadFile(server); err != nil || !roots.AppendCertsFromPEM(pem) {
		t.Fatal(err)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", Certificates: []tls.Certificate{pair}, ClientSessionCache: tls.NewLRUClientSessionCache(4), MaxVersion: version}
		// in reports whether CONNECT is answered with 0.
		in := func() bool {
			raw, err := net.Dial("tcp", b.Listeners()[0].Addr.String())
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			c := tls.Client(raw, config)
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			if _, err := c.Write([]byte("\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03ada")); err != nil {
				return false
			}
			var connack [4]byte
			n, _ := c.Read(connack[:])
			return n == 4 && connack[3] == 0
		}
		for range 2 { // the second with the ticket of the first
			if !in() {
				t.Fatal("not let in while the authority counts")
			}
		}
		replace := func(from string) {
			text, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(accepted, text, 0o600); err != nil {
				t.Fatal(err)
			}
			later := time.Now().Add(time.Duration(version) * time.Hour)
			if from == first.file {
				later = later.Add(time.Minute)
			}
			if err := os.Chtimes(accepted, later, later); err != nil {
				t.Fatal(err)
			}
			b.LookAtCertificates()
		}
		replace(next.file)
		if in() {
			t.Errorf("TLS %x: a ticket opens what the certificate does not", version)
		}
		replace(first.file)
	}
}
