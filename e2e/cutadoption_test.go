package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// The power of the domain or of the hub is cut at each message of an adoption by token: when
// it has come to the machine between them, and the other side has not got it. After the
// restart the domain is adopted by itself, once, by the same token.
func TestPowerCutWhileAdoptedByToken(t *testing.T) {
	for _, side := range []string{"domain", "hub"} {
		t.Run(side, func(t *testing.T) {
			onEachBroker(t, func(t *testing.T, home *Home) { cutWhileAdoptedByToken(t, home, side) })
		})
	}
}

func cutWhileAdoptedByToken(t *testing.T, home *Home, side string) {
	cut := newCuts(t, home)
	steps := []string{"question", "answer", "proof", "completion", "confirmation"}
	if side == "hub" && home.external != nil {
		steps = steps[3:] // a hub without its proof makes the domain wait for 30 s: once is enough
	}
	for _, step := range steps {
		t.Log("at the " + step)
		token := strings.TrimSpace(home.control("token", "create").Stdout)
		file := filepath.Join(t.TempDir(), "token")
		home.must(os.WriteFile(file, []byte(token+"\n"), 0o600))
		d := cut.newMachine(step, fmt.Sprintf("token_file = %q\n", file))
		cut.at(step, side, d, nil)
		cut.adoptedOnce(d)
	}
	var tokens []topics.TokenView
	home.must(json.Unmarshal([]byte(home.control("token", "list", "--json").Stdout), &tokens))
	for _, v := range tokens {
		if v.UsesLeft != 0 || len(v.UsedBy) != 1 {
			t.Errorf("a token was not used once: %+v", v)
		}
	}
}

// The same by code. After the restart the domain is adopted, or it waits and shows a code, by
// which it is adopted.
func TestPowerCutWhileAdoptedByCode(t *testing.T) {
	for _, side := range []string{"domain", "hub"} {
		t.Run(side, func(t *testing.T) { cutWhileAdoptedByCode(t, onEmbedded(t), side) })
	}
}

func cutWhileAdoptedByCode(t *testing.T, home *Home, side string) {
	cut := newCuts(t, home)
	steps := []string{"answer", "proof", "completion", "confirmation"}
	if side == "hub" {
		steps = steps[2:]
	}
	for _, name := range steps {
		t.Log("at the " + name)
		d := cut.newMachine(name, "")
		var asked sync.WaitGroup
		cut.at(name, side, d, func() {
			home.awaitState(name, topics.DomainIsWaiting)
			code := d.code()
			asked.Go(func() { home.control("adopt", name, code, "--timeout", "5s") }) // the hub's own power may be cut
		})
		asked.Wait()
		eventually(t, name+" is adopted, or waits with a code", func() bool {
			if home.domains()[name].State == topics.DomainIsOnline {
				return true
			}
			r := d.Exec(nil, programs.domain, "-config", d.file(), "code")
			return r.Code == 0 && home.control("adopt", name, strings.TrimSpace(r.Stdout), "--timeout", "40s").Code == 0
		})
		cut.adoptedOnce(d)
	}
}

// cuts cuts the power of one side of an adoption.
type cuts struct {
	*middleman
	hub   *Process
	agent *Process
}

// newCuts starts a hub that domains reach through a machine in the middle: on the embedded
// broker without TLS, as otherwise an adopted domain would not talk to it.
func newCuts(t *testing.T, home *Home) *cuts {
	t.Helper()
	if home.external != nil {
		home.adoptionHub("")
	} else {
		home.Configure("")
	}
	c := &cuts{hub: home.startAskingHub()}
	home.awaitHub()
	if home.external != nil {
		c.middleman = home.middleman(t)
	} else {
		c.middleman = &middleman{home: home, relay: home.newRelay("switch", home.Hub.Address()+":1883", nil)}
	}
	return c
}

// at starts a domain and cuts the power of one side when a message of its adoption comes.
func (c *cuts) at(step, side string, d *Domain, adopt func()) {
	c.t.Helper()
	before := c.messages.len()
	c.set(func(r *relayed) bool { return r.kind() != step })
	c.agent = d.startAsking()
	if adopt != nil {
		adopt()
	}
	c.await(before, step)
	if side == "hub" {
		c.hub.Kill()
	} else {
		c.agent.Kill()
	}
	c.set(nil)
	c.cut()
	if side == "hub" {
		c.hub = c.home.startAskingHub()
		c.home.awaitHub()
	} else {
		c.agent = d.startAsking()
	}
}

// adoptedOnce fails unless both sides have the domain, once.
func (c *cuts) adoptedOnce(d *Domain) {
	c.t.Helper()
	c.home.awaitState(d.Name, topics.DomainIsOnline)
	var all []topics.DomainView
	c.home.must(json.Unmarshal([]byte(c.home.control("domains", "--json").Stdout), &all))
	n := 0
	for _, v := range all {
		if v.Name == d.Name {
			n++
		}
	}
	if n != 1 || !d.pinned() {
		c.t.Errorf("%s is listed %d times, has pinned: %v", d.Name, n, d.pinned())
	}
	c.agent.Stop()
}
