package broker_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/client"
)

// issuer is an identity that has issued every certificate, to the owner of its common name.
type issuer struct {
	own    tls.Certificate
	owners map[string]broker.Owner
}

func (i issuer) Certificate() *tls.Certificate { return &i.own }

func (i issuer) Identify(chain []*x509.Certificate) (broker.Owner, bool, error) {
	return i.owners[chain[0].Subject.CommonName], true, nil
}

// A certificate is of a domain or a service, and gives nobody the rights of a user who has the
// same name: neither when it connects nor when the user is added while it is connected.
func TestACertificateIsNoUserOfItsName(t *testing.T) {
	server, serverKey := certificate(t)
	pair, err := tls.LoadX509KeyPair(server, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	clients := newAuthority(t)
	own := issuer{pair, map[string]broker.Owner{
		"domain pi": {Name: "pi", Use: "domain"}, "domain ada": {Name: "ada", Use: "domain"},
		"service pi": {Name: "pi", Use: "service"}, "service ada": {Name: "ada", Use: "service"},
	}}
	b, at := listen(t, broker.Config{
		ListenTLS: "127.0.0.1:0", Identity: own, DataDir: t.TempDir(),
		Users: []broker.User{{Name: "ada", PasswordHash: hashOf(t, "a"), Role: broker.RoleAdmin}},
	})
	b.SetDomains(map[string]bool{"pi": true, "ada": true})
	connect := func(name string) (*client.Conn, error) {
		o := client.Options{URL: at["mqtts"], CAFile: server, ClientID: name}
		o.CertFile, o.KeyFile = clients.sign(t, name, time.Now().Add(time.Hour))
		return client.Connect(t.Context(), o)
	}
	for _, name := range []string{"domain ada", "service pi", "service ada"} {
		if c, err := connect(name); err == nil {
			c.Close()
			t.Errorf("the %s is let in", name)
		}
	}
	c, err := connect("domain pi")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Subscribe(t.Context(), "dominion/hub/status"); err != nil {
		t.Error(err)
	}
	if err := b.AddUser(broker.User{Name: "pi", PasswordHash: hashOf(t, "p"), Role: broker.RoleAdmin}); err != nil {
		t.Fatal(err)
	}
	if err := c.Subscribe(t.Context(), "dominion/request/+"); err == nil {
		t.Error("a domain has become an admin")
	}
}
