package broker_test

import (
	"testing"

	"github.com/jmbarzee/dominion/broker"
)

// A broker is open to all where another machine gets in without a user although
// there are users, whether of the configuration or made at run time.
func TestOpenToAll(t *testing.T) {
	const everywhere, loopback = "0.0.0.0:0", "127.0.0.1:0"
	me := []broker.User{{Name: "me", Role: broker.RoleAdmin, PasswordHash: "$2a$04$Pq4Vp1cYJ0Y0k8vT9XnO7uX2mY2m5m0q1eKxQ8k4m0Q0vXl9v5b5e"}}
	for name, c := range map[string]struct {
		cfg  broker.Config
		want bool
	}{
		"users and everybody":        {broker.Config{Listen: everywhere, AllowAnonymous: true, Users: me}, true},
		"by WebSocket":               {broker.Config{ListenWS: everywhere, AllowAnonymous: true, Users: me}, true},
		"everybody":                  {broker.Config{Listen: everywhere, AllowAnonymous: true}, false},
		"users":                      {broker.Config{Listen: everywhere, Users: me}, false},
		"this machine, of everybody": {broker.Config{Listen: loopback, AllowAnonymous: true, Users: me}, false},
	} {
		b := start(t, c.cfg)
		if err := b.Listen(); err != nil {
			t.Fatal(err)
		}
		if b.OpenToAll(false) != c.want {
			t.Errorf("%s: open to all is %v", name, !c.want)
		}
		if httpAlone := c.cfg.AllowAnonymous && c.cfg.Users != nil; b.OpenToAll(true) != httpAlone {
			t.Errorf("%s, and HTTP: open to all is %v", name, !httpAlone)
		}
		if err := b.Reload(c.cfg.Users, false, nil); err != nil || b.OpenToAll(true) {
			t.Errorf("%s: open to all after allow_anonymous was taken back (%v)", name, err)
		}
	}
	b := start(t, broker.Config{Listen: everywhere, AllowAnonymous: true, DataDir: t.TempDir()})
	if err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	if err := b.AddUser(me[0]); err != nil || !b.OpenToAll(false) {
		t.Errorf("a user made at run time: %v", err)
	}
}
