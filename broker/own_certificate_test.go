package broker_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/topics"
)

// ownIdentity is a dominion with a certificate that issued none to clients.
type ownIdentity struct{ pair tls.Certificate }

func (o ownIdentity) Certificate(string) *tls.Certificate { return &o.pair }

func (ownIdentity) Identify([]*x509.Certificate) (broker.Owner, bool, error) {
	return broker.Owner{}, false, nil
}

// A listener with cert_file serves that to everybody but domains, which ask by name for the
// hub's own certificate, as they verify it by their authority.
func TestDomainsGetTheHubsCertificate(t *testing.T) {
	certFile, keyFile := certificate(t)
	ownCert, ownKey := certificate(t)
	pair, err := tls.LoadX509KeyPair(ownCert, ownKey)
	if err != nil {
		t.Fatal(err)
	}
	file, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	_, urls := listen(t, broker.Config{ListenTLS: "127.0.0.1:0", CertFile: certFile, KeyFile: keyFile, Identity: ownIdentity{pair}})
	for name, want := range map[string]*x509.Certificate{topics.HubServerName: pair.Leaf, "hub.lan": file.Leaf} {
		raw, err := net.Dial("tcp", strings.TrimPrefix(urls["mqtts"], "mqtts://"))
		if err != nil {
			t.Fatal(err)
		}
		c := tls.Client(raw, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err := c.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := c.ConnectionState().PeerCertificates[0]; !got.Equal(want) {
			t.Errorf("%s gets another certificate", name)
		}
		_ = c.Close()
	}
}
