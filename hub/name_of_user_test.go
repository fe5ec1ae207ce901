package hub_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/hub"
	"github.com/jmbarzee/dominion/hub/store"
	protocol "github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

// usersBroker is an embedded broker with the user ann, and records whose things were ended.
type usersBroker struct {
	ownBroker
	ended *[]string
}

func (usersBroker) Forget(string) bool { return true }

func (b usersBroker) EndUser(user string, _ bool) { *b.ended = append(*b.ended, user) }

// What ends a domain does not end what a user of its name has, who is no domain: a machine
// may have chosen that name, or the user came later. An adopted domain does not take such a name.
func TestADomainIsNoUserOfItsName(t *testing.T) {
	var ended []string
	setup := func(s *store.Store, o *hub.Options) {
		users := func(ask topics.HubRequest) (topics.Access, error) {
			if ask.User == "ann" {
				return topics.Access{Role: "device"}, nil
			}
			return topics.Access{Role: "domain"}, nil
		}
		o.Broker = usersBroker{ownBroker{access: users}, &ended}
		s.Change(func(s *store.State) {
			s.Adoption.Members = map[string]protocol.Member{}
			for _, name := range []string{"ann", "pi"} {
				s.Adoption.Members["id-"+name] = protocol.Member{ID: "id-" + name, Name: name, KeyHash: strings.Repeat("0", 64), Words: protocol.Words{Confirmed: "word"}}
			}
		})
	}
	inHome(t, "", func(h *home) {
		h.stop()
		h.setup = setup
		h.start()
		h.ask(topics.VerbJoin, `{"transaction":"j","id":"id-ann","name":"ann","session":"s","word":"word"}`)
		if r := h.ask(topics.VerbJoin, `{"transaction":"j","id":"id-pi","name":"ann2","session":"s","word":"word"}`); r.Status != topics.StatusOK {
			t.Error("not renamed:", r.Error)
		}
		for _, name := range []string{"ann", "ann2"} {
			if r := h.ask(topics.VerbForget, `{"domain":"`+name+`"}`); r.Error != "" {
				t.Error(r.Error)
			}
		}
		if !slices.Equal(ended, []string{"ann2"}) {
			t.Errorf("all that these users have was ended: %v", ended)
		}
	})
}
