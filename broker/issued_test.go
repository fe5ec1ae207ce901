package broker_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/access"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/topics"
)

// issuer is an identity that has issued every certificate, to the owner of its common name.
type issuer struct {
	own    tls.Certificate
	owners map[string]broker.Owner
}

func (i issuer) Certificate(string) *tls.Certificate { return &i.own }

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

// A service of an adopted domain does what a device may, and asks what changes nothing. It is out
// when its domain is, when a user gets its name, and as somebody else.
func TestServicesByCertificate(t *testing.T) {
	server, serverKey := certificate(t)
	pair, err := tls.LoadX509KeyPair(server, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	clients := newAuthority(t)
	own := issuer{pair, map[string]broker.Owner{
		"web": {Name: "web.pi", Use: "service"}, "bell": {Name: "bell.pi", Use: "service"},
		"attics": {Name: "web.attic", Use: "service"}, "nameless": {Name: ".pi", Use: "service"},
	}}
	b, at := listen(t, broker.Config{
		ListenTLS: "127.0.0.1:0", Identity: own, DataDir: t.TempDir(),
		Users: []broker.User{{Name: "bell.pi", PasswordHash: hashOf(t, "b"), Role: broker.RoleAdmin}},
	})
	b.SetDomains(map[string]bool{"pi": true})
	got := make(chan topics.Message, 10)
	connect := func(name, user string) (*client.Conn, error) {
		o := client.Options{URL: at["mqtts"], CAFile: server, ClientID: name + user, User: user, OnMessage: func(m topics.Message) { got <- m }}
		o.CertFile, o.KeyFile = clients.sign(t, name, time.Now().Add(time.Hour))
		return client.Connect(t.Context(), o)
	}
	for _, who := range [][2]string{{"bell", ""}, {"attics", ""}, {"nameless", ""}, {"web", "pi"}, {"web", "web.attic"}, {"web", "bell.pi"}} {
		if c, err := connect(who[0], who[1]); err == nil {
			c.Close()
			t.Errorf("%q is let in as %q", who[0], who[1])
		}
	}
	c, err := connect("web", "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for filter, may := range map[string]bool{
		"sensor/#": true, "dominion/service/+/status": true, "dominion/response/status": true,
		"dominion/domain/#": false, "dominion/response/#": false, "dominion/response/user": false, "dominion/hub/event": false,
	} {
		if err := c.Subscribe(t.Context(), filter); (err == nil) != may {
			t.Errorf("it subscribes to %s: %v", filter, err)
		}
	}
	for _, topic := range []string{
		"dominion/request/stop", "dominion/request/join", "dominion/request/certificates", "dominion/domain/pi/heartbeat",
		"dominion/service/web/set", "dominion/request/status", "sensor/last",
	} {
		c.Publish(topics.Message{Topic: topic, Payload: []byte("1"), QoS: 1})
	}
	if m := <-got; m.Topic != "sensor/last" {
		t.Errorf("it was given %s", m.Topic)
	}
	for topic, want := range map[string]bool{
		"sensor/x": true, "dominion/request/status": true, "dominion/request/stop": false, "dominion/domain/pi/heartbeat": false,
		"dominion/request/certificates": false, "dominion/request/join": false,
	} {
		if role, d, err := b.Decide("web.pi", "x", access.Publish, topic); err != nil || role != broker.RoleService || d.Allowed != want {
			t.Errorf("%s: %s %+v %v", topic, role, d, err)
		}
	}
	if _, _, err := b.Decide("web.attic", "x", access.Publish, "sensor/x"); err == nil {
		t.Error("a service of no domain is a user")
	}

	b.SetDomains(map[string]bool{"attic": true})
	select {
	case <-c.Done():
	case <-time.After(30 * time.Second):
		t.Error("a service stays connected when its domain is not adopted any more")
	}
	b.SetDomains(map[string]bool{"pi": true})
	if c, err = connect("web", ""); err != nil {
		t.Fatal(err)
	}
	if err := b.AddUser(broker.User{Name: "web.pi", PasswordHash: hashOf(t, "p"), Role: broker.RoleAdmin}); err != nil {
		t.Fatal(err)
	}
	if err := c.Subscribe(t.Context(), "dominion/#"); err == nil {
		t.Error("a service has become an admin")
	}
}

// The services of a domain have the limits of one user together, those of another domain their
// own.
func TestServicesOfADomainShareLimits(t *testing.T) {
	server, serverKey := certificate(t)
	pair, err := tls.LoadX509KeyPair(server, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	clients := newAuthority(t)
	own := issuer{pair, map[string]broker.Owner{
		"web": {Name: "web.pi", Use: "service"}, "bell": {Name: "bell.pi", Use: "service"},
		"lamp": {Name: "lamp.pi", Use: "service"}, "attics": {Name: "web.attic", Use: "service"},
	}}
	b, at := listen(t, broker.Config{ListenTLS: "127.0.0.1:0", Identity: own, DataDir: t.TempDir(), UserLimits: broker.UserLimits{Clients: 2}})
	b.SetDomains(map[string]bool{"pi": true, "attic": true})
	for _, c := range []struct {
		name string
		in   bool
	}{{"web", true}, {"bell", true}, {"lamp", false}, {"attics", true}} {
		o := client.Options{URL: at["mqtts"], CAFile: server, ClientID: c.name, OnMessage: func(topics.Message) {}}
		o.CertFile, o.KeyFile = clients.sign(t, c.name, time.Now().Add(time.Hour))
		conn, err := client.Connect(t.Context(), o)
		if (err == nil) != c.in {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil {
			defer conn.Close()
		}
	}
}
