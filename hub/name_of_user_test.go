package hub_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/hub"
	"github.com/jmbarzee/dominion/hub/store"
	protocol "github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

// usersBroker is an embedded broker with the user ann, and records whose things were ended:
// users, and the agents of domains by id.
type usersBroker struct {
	ownBroker
	ended *[]string
}

func (b usersBroker) EndDomain(id string) { *b.ended = append(*b.ended, "id "+id) }

func (b usersBroker) EndUser(user string, _ bool) { *b.ended = append(*b.ended, user) }

// What ends a domain does not end what a user of its name has, who is no domain: a machine
// may have chosen that name, or the user came later. An adopted domain does not take such a name.
func TestADomainIsNoUserOfItsName(t *testing.T) {
	var ended []string
	own := map[string]*signingDomain{"ann": newSigningDomain(t, "id-ann"), "pi": newSigningDomain(t, "id-pi")}
	setup := func(s *store.Store, o *hub.Options) {
		users := func(ask topics.HubRequest) (topics.Access, error) {
			role, is := map[string]string{"ann": "device", "kitchen": "domain"}[ask.User]
			if !is {
				return topics.Access{}, errors.New("there is no such user")
			}
			return topics.Access{Role: role}, nil
		}
		o.Keys = openKeys(t, t.TempDir(), s)
		o.Broker = usersBroker{ownBroker{access: users}, &ended}
		dominion := s.ID()
		s.Change(func(s *store.State) {
			for _, name := range []string{"kitchen", "attic", "old"} { // of before there were keys
				s.Domains[name] = store.Domain{ID: "id-" + name, Lost: true}
			}
			s.Adoption.Members = map[string]protocol.Member{}
			for name := range own {
				own[name].dominion = dominion
				s.Adoption.Members["id-"+name] = own[name].member(name, "word")
			}
		})
	}
	inHome(t, "", func(h *home) {
		h.stop()
		h.setup = setup
		h.start()
		// A join is answered once it is on disk, with those that come in the same moment.
		join := func(id, name, word string) topics.Reply {
			request, response := h.tree.Request(topics.VerbJoin)
			ask := topics.HubRequest{Transaction: id + name, ID: id, Name: name, Session: "s", Word: word}
			h.publish(request, string(own[strings.TrimPrefix(id, "id-")].join(ask)), false)
			time.Sleep(5 * time.Second)
			r := get[topics.Reply](h, response)
			if r.Transaction != id+name {
				t.Errorf("no answer to %s as %s, the last one is %+v", id, name, r)
			}
			return r
		}
		const word = "word"
		join("id-ann", "ann", word)
		for _, name := range []string{"kitchen", "attic"} { // machines without a key
			join("id-"+name, name, "")
		}
		time.Sleep(time.Hour) // they are away
		for name, want := range map[string]string{"ann": topics.StatusError, "kitchen": topics.StatusError, "attic": topics.StatusOK} {
			if r := join("id-pi", name, word); r.Status != want {
				t.Errorf("renamed to %s: %+v", name, r)
			}
		}
		if r := join("id-pi", "ann2", word); r.Status != topics.StatusOK {
			t.Error("not renamed:", r.Error)
		}
		join("id-old", "old", "")
		time.Sleep(time.Hour) // away, and its broker may not know yet
		for _, name := range []string{"ann", "ann2", "old"} {
			if r := h.ask(topics.VerbForget, `{"domain":"`+name+`"}`); r.Error != "" {
				t.Error(r.Error)
			}
		}
		if want := []string{"id id-ann", "ann2", "id id-pi", "id id-old"}; !slices.Equal(ended, want) {
			t.Errorf("all that these have was ended: %v, want %v", ended, want)
		}
	})
}
