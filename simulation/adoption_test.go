package simulation

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/keys"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

// openKeys returns the keys of the hub; nil: it has none.
func (h *home) openKeys(state *store.Store) *keys.Keys {
	h.Helper()
	if !h.adopting {
		return nil
	}
	k, err := keys.Open(keys.Options{
		DataDir: h.cfg.DataDir, Dominion: state.ID(), Name: h.cfg.Name, Known: state.HasKeys(), Log: slog.New(slog.NewTextHandler(h.log, nil)),
		Names: func() (identity.Names, error) { return identity.MakeNames("hub", nil), nil },
	})
	if err != nil {
		h.Fatal(err)
	}
	return k
}

// configureAdoption writes what domain.toml says of adoption.
func (m *machine) configureAdoption(c *config.Domain) {
	if c.Adoption = m.adoption; m.token == "" {
		return
	}
	c.TokenFile = filepath.Join(m.dir, "token")
	if err := os.WriteFile(c.TokenFile, []byte(m.token+"\n"), 0o600); err != nil {
		m.home.Fatal(err)
	}
}

// identityFile returns the path of a file of the machine's identity.
func (m *machine) identityFile(name string) string {
	return filepath.Join(m.data(), identity.Directory, name)
}

// pinned reports whether the machine has stored a dominion.
func (m *machine) pinned() bool {
	_, err := os.Stat(m.identityFile("trust.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.home.Fatal(err)
	}
	return err == nil
}

// control sends a request through the control socket. The answer comes later, or never; nil:
// nobody waits for it.
func (h *home) control(verb string, ask topics.HubRequest, answer func(topics.Reply)) {
	if h.hub == nil {
		return
	}
	ask.Transaction = "t"
	request, _ := h.tree.Request(verb)
	h.hub.DeliverPrivate(topics.Message{Topic: request, Payload: topics.Encode(ask)}, func(m topics.Message) {
		r, err := topics.Decode[topics.Reply](m.Topic, m.Payload)
		if err != nil {
			h.Error(err)
		}
		if answer != nil {
			answer(r)
		}
	})
	synctest.Wait()
}

// answered returns the data of the answer to a request that is answered at once.
func answered[T any](h *home, verb string, ask topics.HubRequest) (v T) {
	h.Helper()
	h.control(verb, ask, func(r topics.Reply) {
		if r.Status != topics.StatusOK {
			h.Errorf("%s: %s", verb, r.Error)
			return
		}
		if err := json.Unmarshal(r.Data, &v); err != nil {
			h.Error(err)
		}
	})
	return v
}

// adopt begins to adopt a machine as a person does: by its code, with a token that was brought to
// it, or by the window.
func (h *home) adopt(m *machine, by adoption.Method) {
	h.Helper()
	switch by {
	case adoption.ByCode:
		code, err := adoption.OpenCode(m.identityFile(adoption.CodeFile))
		if err != nil {
			h.Fatal(err)
		}
		h.control(topics.VerbAdopt, topics.HubRequest{Domain: m.name, Code: code.String()}, nil)
	case adoption.ByToken:
		if m.token == "" {
			m.token = answered[[]topics.TokenView](h, topics.VerbToken, topics.HubRequest{Action: "create"})[0].Token
			m.stop()
			m.power()
		}
	case adoption.ByWindow:
		h.control(topics.VerbPermitJoin, topics.HubRequest{Duration: topics.Seconds(adoption.MaxWindow)}, nil)
	}
}

// TestAdoptionsWithPowerCuts cuts the power of the machine or of the hub at a random moment of
// each of some adoptions. Nothing is joined half: afterwards both sides know each other, or the
// machine waits and is adopted by the same means. In the end all are back by themselves,
// whatever is restarted.
func TestAdoptionsWithPowerCuts(t *testing.T) {
	methods := []adoption.Method{adoption.ByCode, adoption.ByToken, adoption.ByWindow}
	eachSeed(t, 3, func(t *testing.T, seed uint64) {
		inHome(t, options{seed: seed, network: newPost, adopting: true}, func(h *home) {
			for round := range uint64(6) {
				h.adoptWithPowerCut(round, methods[(seed+round)%uint64(len(methods))])
			}
			for _, m := range h.all() {
				m.stop()
			}
			h.stop(stopped)
			h.start()
			for _, m := range h.all() {
				m.power()
			}
			h.within(2*time.Minute, "all are back", func() bool {
				for _, m := range h.all() {
					if !h.adopted(m) {
						return false
					}
				}
				return true
			})
			if n := h.eventCount(topics.DomainCopied); n > 0 {
				h.Errorf("there were %d copies, and is none", n)
			}
			for _, v := range answered[[]topics.TokenView](h, topics.VerbToken, topics.HubRequest{Action: "list"}) {
				if v.UsesLeft != 0 || len(v.UsedBy) != 1 {
					h.Errorf("a token was not used once: %+v", v)
				}
			}
		})
	})
}

// adoptWithPowerCut adds a machine and has it adopted, with a power cut in between.
func (h *home) adoptWithPowerCut(round uint64, by adoption.Method) {
	h.Helper()
	m := newMachine(h, fmt.Sprintf("attic-%d", round))
	h.machines[m.name] = m
	if by == adoption.ByWindow {
		m.adoption = config.AdoptionOpen
	}
	m.power()
	h.within(time.Minute, m.name+" waits", func() bool { return h.waits(m) })
	h.adopt(m, by)
	// Most exchanges take some milliseconds, one in which a message is late some seconds. A
	// domain that is open looks around for five first.
	moment := []time.Duration{10 * time.Millisecond, 50 * time.Millisecond, 300 * time.Millisecond, 4 * time.Second}[h.random(round, "scale")%4]
	moment = time.Duration(h.random(round, "moment") % uint64(moment))
	if by == adoption.ByWindow && h.random(round, "settled")%3 > 0 {
		moment += 5 * time.Second
	}
	time.Sleep(moment)
	synctest.Wait()
	if h.random(round, "who")%2 == 0 {
		h.logf("the power of the hub is cut %v after the adoption of %s by %s began; it has pinned the hub: %v", moment, m.name, by, m.pinned())
		h.stop(unplugged)
		time.Sleep(time.Second)
		h.start()
	} else {
		h.logf("the power of %s is cut %v after its adoption by %s began; it has pinned the hub: %v", m.name, moment, by, m.pinned())
		m.cut()
		time.Sleep(time.Second)
		m.power()
	}
	h.within(4*time.Minute, "both know each other, or "+m.name+" waits", func() bool { return h.adopted(m) || h.waits(m) })
	h.within(20*time.Minute, m.name+" is adopted", func() bool {
		if h.waits(m) {
			h.adopt(m, by)
			time.Sleep(time.Minute)
		}
		return h.adopted(m)
	})
}

// state returns how the hub sees a machine, and how often it lists it.
func (h *home) state(m *machine) (state topics.DomainState, n int) {
	for _, d := range answered[[]topics.DomainView](h, topics.VerbDomains, topics.HubRequest{}) {
		if d.Name == m.name {
			state = d.State
			n++
		}
	}
	return state, n
}

// waits reports whether a machine waits for adoption, and knows no dominion.
func (h *home) waits(m *machine) bool {
	state, n := h.state(m)
	return n == 1 && state == topics.DomainIsWaiting && !m.pinned()
}

// adopted reports whether both sides know each other.
func (h *home) adopted(m *machine) bool {
	state, n := h.state(m)
	return n == 1 && state == topics.DomainIsOnline && m.pinned()
}
