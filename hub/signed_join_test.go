package hub_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// joinAs publishes a request to join, and returns the answer; false: there is none.
func (o *orderedHome) joinAs(payload []byte) (message string, answered bool) {
	request, response := o.tree.Request(topics.VerbJoin)
	o.publish(response, "", true)
	o.publish(request, string(payload), false)
	time.Sleep(time.Second)
	message = o.last(response)
	return message, message != ""
}

// A domain that has a key joins by what that has signed alone; the grant is signed by the hub,
// and a join that comes again is answered by the same one.
func TestJoinsAreSigned(t *testing.T) {
	inOrderedHome(t, func(o *orderedHome) {
		k := o.kitchen
		ask := topics.HubRequest{Transaction: "t2", ID: k.id, Name: "kitchen", Session: "s", Word: k.word, Number: k.key.number + 1}
		join := k.key.join(ask)
		other := newSigningDomain(t, k.id)
		other.dominion = k.key.dominion
		elsewhere := *k.key
		elsewhere.dominion = "another"
		body, _ := signed.Unverified(join)
		for name, forged := range map[string][]byte{
			"unsigned":                 topics.Encode(ask),
			"by another key":           other.join(ask),
			"of another dominion":      elsewhere.join(ask),
			"altered":                  bytes.Replace(join, []byte(`"session":"s"`), []byte(`"session":"x"`), 1),
			"signed as a status":       k.key.sign(topics.DomainStatus, body),
			"names twice":              k.key.sign(topics.Request, append(body[:len(body)-1:len(body)-1], `,"NAME":"attic"}`...)),
			"a number that was used":   k.key.join(topics.HubRequest{Transaction: "other", ID: k.id, Name: "kitchen", Session: "s", Word: k.word, Number: k.key.number}),
			"without a number":         k.key.sign(topics.Request, topics.Encode(topics.HubRequest{Transaction: "t", ID: k.id, Name: "kitchen", Session: "s", Word: k.word})),
			"under the id of another":  k.key.join(topics.HubRequest{Transaction: "t", ID: o.attic.id, Name: "attic", Session: "mine"}),
			"confirmation, not signed": topics.Encode(topics.HubRequest{ID: k.id, Name: "kitchen", Session: "s", Confirm: k.word}),
		} {
			time.Sleep(2 * time.Minute) // reports are rate limited
			before := o.count(topics.MessageRefused)
			message, answered := o.joinAs(forged)
			if r, err := topics.Decode[topics.Reply]("", []byte(message)); answered && (err != nil || r.Status != topics.StatusError) {
				t.Errorf("%s: answered %s", name, message)
			}
			if name != "under the id of another" && o.count(topics.MessageRefused) == before {
				t.Errorf("%s: nothing is reported", name)
			}
		}
		message, _ := o.joinAs(join)
		r := verified[topics.Reply](o, topics.ResponseTo, message)
		g, err := topics.Decode[topics.Grant]("", r.Data)
		if err != nil || r.Transaction != "t2" || g.Dominion != k.key.dominion || g.Word == "" || g.Word == k.word || g.Run == "" || g.Hub == nil || g.Hub.Key != o.hub.KeyHash {
			t.Fatalf("granted %s, %v", message, err)
		}
		if again, _ := o.joinAs(join); again != message {
			t.Errorf("the same join again: %s", again)
		}
		// The agent is started anew: joins of its former session are void.
		k.leave()
		ask.Session, ask.Number, ask.Word = "s2", 1, g.Word
		if m, _ := o.joinAs(k.key.join(ask)); !signed.IsSigned([]byte(m)) {
			t.Errorf("the next session: %s", m)
		}
		ask.Session, ask.Number = "s", 99
		if m, answered := o.joinAs(k.key.join(ask)); answered {
			t.Errorf("a former session joins: %s", m)
		}
	})
}

// The hub raises its epoch above that of an order which a domain shows, if its own key signed
// that; nothing else raises it.
func TestEpochFollowsSignedOrdersAlone(t *testing.T) {
	inOrderedHome(t, func(o *orderedHome) {
		k := o.kitchen
		orders := o.orders(topics.DomainServicesSet, "kitchen")
		own := verified[topics.StartCommand](o, topics.DomainServicesSet, orders[len(orders)-1])
		epoch := o.status().Epoch
		shown := func(key *signingDomain, c topics.StartCommand) string {
			return string(key.sign(topics.DomainServicesSet, topics.Encode(c)))
		}
		number := uint64(10)
		join := func(last string) {
			number++
			message, _ := o.joinAs(k.key.join(topics.HubRequest{Transaction: "t", ID: k.id, Name: "kitchen", Session: "s", Word: k.word, Number: number, Last: last}))
			r := verified[topics.Reply](o, topics.ResponseTo, message)
			if g, err := topics.Decode[topics.Grant]("", r.Data); err != nil || g.Epoch != o.status().Epoch {
				t.Errorf("granted %+v beside epoch %d, %v", g, o.status().Epoch, err)
			} else {
				k.granted(g)
			}
		}
		ahead := own
		ahead.Epoch, ahead.Run = epoch+500, "former"
		hubKey := &signingDomain{t: t, key: o.hubKey, id: k.id, dominion: k.key.dominion}
		for name, last := range map[string]string{
			"its own order":        orders[len(orders)-1],
			"signed by the domain": shown(k.key, ahead),
			"not signed":           string(topics.Encode(ahead)),
			"altered":              strings.Replace(shown(hubKey, ahead), `"epoch":`, `"epoch":1`, 1),
			"nonsense":             "x",
		} {
			join(last)
			if got := o.status().Epoch; got != epoch {
				t.Fatalf("%s: epoch %d, it was %d", name, got, epoch)
			}
		}
		join(shown(hubKey, ahead))
		if got := o.status().Epoch; got != epoch+501 {
			t.Errorf("epoch %d after an order of %d", got, ahead.Epoch)
		}
		time.Sleep(5 * time.Second)
		orders = o.orders(topics.DomainServicesSet, "kitchen")
		if c := verified[topics.StartCommand](o, topics.DomainServicesSet, orders[len(orders)-1]); c.Epoch != epoch+501 || c.Generation != 1 {
			t.Errorf("ordered epoch %d generation %d", c.Epoch, c.Generation)
		}
	})
}

// What was recorded of a former session of a domain and joins nothing, such as the confirmation of
// a word, does not make its present session a former one.
func TestFormerSessionIsNotResumed(t *testing.T) {
	inOrderedHome(t, func(o *orderedHome) {
		k := o.kitchen
		for name, recorded := range map[string]topics.HubRequest{
			"a confirmation":   {Confirm: "w0"},
			"a renewal":        {Transaction: "renewal", Renew: true},
			"keys of services": {Transaction: "keys", ServiceKeys: map[string][]byte{"web": {1}}},
		} {
			recorded.ID, recorded.Name, recorded.Session, recorded.Number = k.id, "kitchen", "former", 7
			if message, answered := o.joinAs(k.key.join(recorded)); answered && signed.IsSigned([]byte(message)) {
				t.Errorf("%s is answered: %s", name, message)
			}
			ask := topics.HubRequest{Transaction: "after " + name, ID: k.id, Name: "kitchen", Session: "s", Word: k.word}
			message, _ := o.joinAs(k.key.join(ask))
			if !signed.IsSigned([]byte(message)) {
				t.Errorf("after %s kitchen cannot join: %s; events %s", name, message, o.story())
			}
		}
	})
}

// A join that was recorded long ago is valid, and not taken: who repeats it without end has no more of
// them verified than of those whose signature is wrong.
func TestFloodOfRecordedJoins(t *testing.T) {
	inOrderedHome(t, func(o *orderedHome) {
		request, response := o.tree.Request(topics.VerbJoin)
		verified := 0
		o.mu.Lock()
		before := o.home.answered
		o.home.answered = func(m topics.Message) { // with the lock
			if before(m); m.Topic == response {
				verified++
			}
		}
		o.mu.Unlock()
		recorded := o.kitchen.key.join(topics.HubRequest{Transaction: "t", ID: o.kitchen.id, Name: "kitchen", Session: "former", Word: "w0", Number: 7})
		for range 200 {
			o.home.hub.Deliver(topics.Message{Topic: request, Payload: recorded, QoS: 1})
			time.Sleep(time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		o.mu.Lock()
		if verified < 10 || verified > 100 {
			t.Errorf("of 200 %d were verified", verified)
		}
		o.mu.Unlock()
		if message, _ := o.joinAs(o.kitchen.key.join(topics.HubRequest{Transaction: "t2", ID: o.kitchen.id, Name: "kitchen", Session: "s", Word: o.kitchen.word})); !signed.IsSigned([]byte(message)) {
			t.Errorf("kitchen cannot join: %s", message)
		}
	})
}

// A domain does not have the hub write certificates to its disk without end, and keeps nobody else from
// one.
func TestRenewalsAreRateLimited(t *testing.T) {
	inOrderedHome(t, func(o *orderedHome) {
		renew := func() {
			o.joinAs(o.kitchen.key.join(topics.HubRequest{Transaction: topics.NewID(), ID: o.kitchen.id, Name: "kitchen", Session: "s", Renew: true}))
		}
		for range 30 {
			renew()
		}
		if n := o.count(topics.CertificateRenewed); n != 10 {
			t.Errorf("%d certificates in half a minute", n)
		}
		time.Sleep(time.Minute)
		if renew(); o.count(topics.CertificateRenewed) != 11 {
			t.Errorf("none after a minute: %s", o.story())
		}
	})
}

// A restored hub takes over a newer key list, also while a user shows it others without end.
func TestKeyListBesideAFlood(t *testing.T) {
	inOrderedHome(t, func(o *orderedHome) {
		request, _ := o.tree.Request(topics.VerbJoin)
		shows := func(user, list string) {
			o.home.hub.Deliver(topics.Message{Topic: request, Payload: topics.Encode(topics.HubRequest{ID: "id-of-" + user, Name: user, KeyList: list}), QoS: 1, User: user})
			o.last("") // waits
		}
		for range 50 {
			shows("mallory", "nonsense")
		}
		newer := o.keys.KeyList()
		newer.Number += 5
		var message []byte
		err := o.keys.With(func(own *identity.Hub) (err error) {
			message, err = newer.Sign(own.Authority)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if shows("attic", string(message)); o.keys.KeyList().Number < newer.Number {
			t.Errorf("list %d is not taken: %s", newer.Number, o.story())
		}
	})
}
