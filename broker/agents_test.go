package broker_test

import (
	"crypto/tls"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/client"
)

// The client identifiers of a domain are for its user alone, whoever used them
// first; one who occupies those of a machine that has not joined yet keeps it
// off no longer than until that one comes.
func TestIdentifiersOfAgentsAreTheirDomains(t *testing.T) {
	h := newOwnersHome(t)
	h.cfg.Users = append(h.cfg.Users, broker.User{Name: "root", Role: broker.RoleAdmin, PasswordFile: h.cfg.Users[0].PasswordFile})
	synctest.Test(t, func(t *testing.T) {
		h.start(t)
		defer func() { stop(t, h.b) }()
		lets := func(id, user string, want bool) {
			t.Helper()
			if got := h.lets(t, id, user, 0); got != want {
				t.Errorf("%s with %s: let in %v", user, id, got)
			}
		}
		for range 2 {
			lets("domain-a", "pi-b", true) // the hub has said nothing: first come
			lets("domain-a-join", "pi-b", true)
			lets("domain-r", "root", true)
		}
		h.b.SetAgents(map[string]broker.Agent{
			"a": {Domain: "pi-a", User: "pi-a"},
			"o": {Domain: "old", User: "old"},            // a user that is gone
			"n": {Domain: "pi-b", User: ""},              // joined without a user
			"s": {Domain: "shed", User: "root"},          // an agent with an admin's password
			"c": {Domain: "pi-b", User: "pi-a-the-user"}, // so does the name of the user alone
		})
		for _, suffix := range []string{"", "-join"} {
			lets("domain-a"+suffix, "pi-b", false)
			lets("domain-a"+suffix, "pi-a", true)
			lets("domain-a"+suffix, "pi-b", false)
			lets("domain-o"+suffix, "pi-b", true)
			lets("domain-n"+suffix, "pi-b", true)
			lets("domain-s"+suffix, "pi-b", false)
			lets("domain-c"+suffix, "pi-b", true)
			lets("domain-s"+suffix, "root", true)
		}
		lets("domain-r", "pi-b", false) // an admin's, of no domain

		// Of a machine that has not joined yet.
		squatter := connectProbe(t, h.b, connectOptions{id: "domain-x-join", user: "pi-b"})
		lets("domain-x-join", "pi-a", true)
		if !squatter.ended() {
			t.Error("two have one client identifier")
		}
		h.b.SetAgents(map[string]broker.Agent{"x": {Domain: "pi-a", User: "pi-a"}})
		lets("domain-x", "pi-b", false)
		lets("domain-x-join", "pi-b", false)
		agent := connectProbe(t, h.b, connectOptions{id: "domain-x", user: "pi-a"})
		lets("domain-x", "pi-b", false)
		if agent.lastReason(packets.Connack) != 0 || agent.ended() {
			t.Error("the agent was pushed out")
		}
		agent.leave()
	})
}

// An adopted domain has its client identifiers whichever way it comes: by its certificate, and
// without a user over the loopback of the hub's own machine, where such clients are admins. No other
// domain has them meanwhile.
func TestAnAgentKeepsItsIdentifiersOnEveryWay(t *testing.T) {
	server, serverKey := certificate(t)
	pair, err := tls.LoadX509KeyPair(server, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	clients := newAuthority(t)
	owners := make(map[string]broker.Owner)
	for _, name := range []string{"laptop", "pi"} {
		owners[name] = broker.Owner{Name: name, Use: "domain"}
	}
	b, at := listen(t, broker.Config{
		Listen: "127.0.0.1:0", ListenTLS: "127.0.0.1:0", Identity: issuer{pair, owners}, DataDir: t.TempDir(),
		Users: []broker.User{{Name: "ada", PasswordHash: hashOf(t, "a"), Role: broker.RoleAdmin}},
	})
	b.SetDomains(map[string]bool{"laptop": true, "pi": true})
	b.SetAgents(map[string]broker.Agent{"1": {Domain: "laptop", User: "laptop"}})
	connect := func(user, id string) (*client.Conn, error) {
		o := client.Options{URL: at["mqtt"], ClientID: id}
		if user == "ada" {
			o.User, o.Password = "ada", "a"
		} else if user != "" {
			o.URL, o.CAFile = at["mqtts"], server
			o.CertFile, o.KeyFile = clients.sign(t, user, time.Now().Add(time.Hour))
		}
		return client.Connect(t.Context(), o)
	}
	for _, id := range []string{"domain-1", "domain-1-join"} {
		for _, user := range []string{"laptop", "", "laptop", "ada", "laptop", ""} {
			c, err := connect(user, id) // takes over what is connected
			if err != nil {
				t.Fatalf("%s as %q: %v", id, user, err)
			}
			defer c.Close()
			if other, err := connect("pi", id); err == nil {
				other.Close()
				t.Errorf("%s of %q: another domain is let in", id, user)
			}
		}
	}
	// It joined without a user: it has its identifiers also while it is not connected.
	b.SetAgents(map[string]broker.Agent{"1": {Domain: "laptop"}, "2": {Domain: "shed"}})
	for _, id := range []string{"domain-1", "domain-1-join"} {
		b.Forget(id)
		if other, err := connect("pi", id); err == nil {
			other.Close()
			t.Errorf("%s: another domain is let in", id)
		}
	}
	c, err := connect("pi", "domain-2")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
