package broker_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/jmbarzee/dominion/broker"
)

// ownersHome is a broker that is started again and again on one data directory.
type ownersHome struct {
	cfg broker.Config
	b   *broker.Broker
}

func newOwnersHome(t *testing.T) *ownersHome {
	password := write(t, "p", "p\n")
	h := &ownersHome{cfg: broker.Config{DataDir: t.TempDir()}}
	for _, name := range []string{"ada", "bob", "pi-a", "pi-b"} {
		role := broker.RoleDevice
		if strings.HasPrefix(name, "pi-") {
			role = broker.RoleDomain
		}
		h.cfg.Users = append(h.cfg.Users, broker.User{Name: name, Role: role, PasswordFile: password})
	}
	return h
}

func (h *ownersHome) start(t *testing.T) { h.b = start(t, h.cfg) }

func (h *ownersHome) file(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(h.cfg.DataDir, "owners.json"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(b)), "")
}

// lets reports whether a user is let in by an identifier, and stays for a time.
func (h *ownersHome) lets(t *testing.T, id, user string, stays time.Duration) bool {
	t.Helper()
	p := connectProbe(t, h.b, connectOptions{id: id, user: user})
	in := p.lastReason(packets.Connack) < 0x80
	time.Sleep(stays)
	p.leave()
	return in
}

// Who used a client identifier first has it over a restart too, with no session
// kept; until an admin frees it, or the user is removed.
func TestIdentifiersBelongToTheirUsersForGood(t *testing.T) {
	h := newOwnersHome(t)
	synctest.Test(t, func(t *testing.T) {
		h.start(t)
		h.lets(t, "domain-1", "pi-a", 2*time.Minute) // for long
		for range 2 {                                // twice
			h.lets(t, "lamp", "ada", 0)
		}
		h.lets(t, "ctl-1234", "bob", 0) // once, for a moment
		h.lets(t, "nobodys", "", 2*time.Minute)
		stop(t, h.b)
		if got := h.file(t); got != `{"ada":["lamp"],"pi-a":["domain-1"]}` {
			t.Errorf("written: %s", got)
		}

		h.start(t)
		if h.lets(t, "domain-1", "pi-b", 0) || h.lets(t, "lamp", "bob", 0) {
			t.Error("after a restart another user has a client identifier")
		}
		if !h.lets(t, "domain-1", "pi-a", 0) || !h.lets(t, "lamp", "ada", 0) || !h.lets(t, "nobodys", "bob", 0) {
			t.Error("its user, or one with an identifier of nobody, is not let in")
		}
		if !h.b.Forget("lamp") || h.b.Forget("unknown") {
			t.Error("lamp is not known, or something else is")
		}
		if !h.lets(t, "lamp", "bob", 0) {
			t.Error("one that was freed is not free")
		}
		h.lets(t, "lamp", "bob", 0)
		stop(t, h.b)
		if got := h.file(t); got != `{"bob":["lamp"],"pi-a":["domain-1"]}` {
			t.Errorf("written: %s", got)
		}

		h.cfg.Users = h.cfg.Users[:3] // without pi-b
		h.cfg.Users[2].Name = "pi-c"  // and pi-a
		h.start(t)
		if !h.lets(t, "domain-1", "pi-c", 0) {
			t.Error("what a user left who is gone is not free")
		}
		stop(t, h.b)
	})
}

// It is written soon, then once an hour at most, and what is remembered of a
// user is bounded.
func TestIdentifiersAreWrittenRarely(t *testing.T) {
	h := newOwnersHome(t)
	synctest.Test(t, func(t *testing.T) {
		h.start(t)
		written := func() string { synctest.Wait(); return h.file(t) }
		h.lets(t, "lamp", "ada", 75*time.Second)
		if got := written(); got != `{"ada":["lamp"]}` {
			t.Errorf("after a minute: %s", got)
		}
		h.lets(t, "radio", "ada", 50*time.Minute)
		if got := written(); got != `{"ada":["lamp"]}` {
			t.Errorf("within the hour: %s", got)
		}
		time.Sleep(15 * time.Minute)
		if got := written(); got != `{"ada":["lamp","radio"]}` {
			t.Errorf("after an hour: %s", got)
		}
		// a user who makes up identifiers without end
		stays := connectProbe(t, h.b, connectOptions{id: "stays", user: "ada"})
		for i := range 1500 {
			for range 2 {
				h.lets(t, fmt.Sprintf("id-%04d", i), "ada", 0)
			}
		}
		for range 2 {
			h.lets(t, strings.Repeat("x", 300), "ada", 0)
		}
		time.Sleep(2 * time.Hour)
		got := written()
		if n := strings.Count(got, `"`) / 2; n != 1001 || !strings.Contains(got, "id-1499") || strings.Contains(got, "id-0400") || !strings.Contains(got, `"stays"`) || strings.Contains(got, "xxx") {
			t.Errorf("%d names are written: %.300s", n, got)
		}
		stays.leave()
		stop(t, h.b)
		// a file that a person broke
		if err := os.WriteFile(filepath.Join(h.cfg.DataDir, "owners.json"), []byte(`{"":["a"],"ada":["b","b",""],"bob":["b"],"gone":["c"]}`), 0o600); err != nil {
			t.Fatal(err)
		}
		h.start(t)
		if !h.lets(t, "b", "ada", 0) || h.lets(t, "b", "bob", 0) || !h.lets(t, "c", "bob", 0) || !h.lets(t, "a", "bob", 0) {
			t.Error("a file that was edited")
		}
		stop(t, h.b)
	})
}

// To forget a client ends its connection, its session and what waits there.
func TestForget(t *testing.T) {
	h := newOwnersHome(t)
	synctest.Test(t, func(t *testing.T) {
		h.start(t)
		lamp := connectProbe(t, h.b, connectOptions{id: "lamp", user: "ada", keep: true})
		lamp.subscribe("to/lamp")
		if !h.b.Forget("lamp") || !lamp.ended() || len(h.b.Sessions()) != 0 {
			t.Errorf("it is still there: %v", h.b.Sessions())
		}
		lamp = connectProbe(t, h.b, connectOptions{id: "lamp", user: "ada", keep: true})
		lamp.subscribe("to/lamp")
		lamp.leave()
		h.b.Publish(retained("to/lamp", "letter"))
		h.b.Forget("lamp")
		stop(t, h.b)
		h.start(t)
		if n := len(h.b.Sessions()); n != 0 {
			t.Errorf("%d sessions after a restart", n)
		}
		if other := connectProbe(t, h.b, connectOptions{id: "lamp", user: "bob", keep: true}); other.lastReason(packets.Connack) != 0 || other.given("to/lamp letter") {
			t.Error("its identifier is not free, or its letters are there")
		} else {
			other.leave()
		}
		stop(t, h.b)
	})
}
