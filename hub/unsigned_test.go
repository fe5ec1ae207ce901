package hub_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// upgradingDomain is attic with a key.
type upgradingDomain struct {
	*orderedHome
	applicant *adoption.Applicant
	completed bool
}

// newUpgradingDomain returns attic as it asks in a run of its agent.
func (o *orderedHome) newUpgradingDomain(session string) *upgradingDomain {
	o.Helper()
	key, err := identity.NewKey()
	if err != nil {
		o.Fatal(err)
	}
	a, err := adoption.NewApplicant(adoption.ApplicantOptions{
		Key: key, Protocol: topics.Protocol, ID: o.attic.id, Name: "attic", Recipient: ageRecipient, Session: session, Upgrade: o.home.hub.ID(),
	})
	if err != nil {
		o.Fatal(err)
	}
	return &upgradingDomain{orderedHome: o, applicant: a}
}

// send delivers a message of the domain as one of a user of the broker.
func (d *upgradingDomain) send(user string, m adoption.ToHub) {
	d.home.hub.Deliver(topics.Message{Topic: "dominion/request/join", Payload: topics.Encode(m), QoS: 1, User: user})
	d.last("") // waits
}

// ask sends its question, and carries on what follows from it.
func (d *upgradingDomain) ask(user string) {
	d.Helper()
	q, err := d.applicant.Question()
	if err != nil {
		d.Fatal(err)
	}
	_, answers := adoption.Topics(d.tree, q.KeyHash())
	var got []adoption.ToDomain
	d.mu.Lock()
	before := d.home.answered
	d.home.answered = func(m topics.Message) { // with the lock
		before(m)
		if m.Topic == answers {
			v, err := adoption.DecodeToDomain(m.Topic, m.Payload)
			if err != nil {
				d.Error(err)
			}
			got = append(got, v)
		}
	}
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.home.answered = before
	}()
	next := func() (v adoption.ToDomain) {
		time.Sleep(time.Second)
		d.last("")
		d.mu.Lock()
		defer d.mu.Unlock()
		if len(got) > 0 {
			v, got = got[0], got[1:]
		}
		return v
	}
	d.send(user, adoption.ToHub{Question: &q})
	v := next()
	if v.Answer == nil {
		return
	}
	proof, err := d.applicant.Answer(*v.Answer, "hub", time.Now())
	if err != nil {
		d.Fatal(err)
	}
	d.send(user, adoption.ToHub{Proof: proof})
	if v = next(); v.Completion == nil {
		d.Fatalf("not completed: %+v", v)
	}
	if _, err := d.applicant.Complete(*v.Completion, time.Now()); err != nil {
		d.Fatal(err)
	}
	if _, signs := d.signedFor("attic"); signs {
		d.Error("its orders are signed before it has stored the authority")
	}
	refused := d.count(topics.MessageRefused)
	status := topics.Domain{ID: d.attic.id, Name: "attic", Session: "s", Protocol: topics.Protocol, Services: []topics.Instance{}, Catalog: []topics.CatalogRow{}}
	d.publish("dominion/domain/attic/status", string(topics.Encode(status)), true)
	d.publish("dominion/domain/attic/heartbeat", string(topics.Encode(topics.Heartbeat{ID: d.attic.id, Session: "s", Seq: 500})), false)
	if d.count(topics.MessageRefused) > refused {
		d.Errorf("what it publishes before that is refused: %s", d.event(topics.MessageRefused).Message)
	}
	c, err := d.applicant.Confirmation()
	if err != nil {
		d.Fatal(err)
	}
	d.send(user, adoption.ToHub{Confirmation: &c})
	d.completed = true
}

// signedFor returns the last start command of a domain, and whether it is signed.
func (o *orderedHome) signedFor(domain string) (string, bool) {
	all := o.orders(topics.DomainServicesSet, domain)
	last := all[len(all)-1]
	return last, signed.IsSigned([]byte(last))
}

// The key of a domain that joined before it had one is taken of the run of the agent that has
// joined, of no user but its own, and while no other machine beats by its id. Its orders are
// signed once it has confirmed that.
func TestUpgradeOfADomain(t *testing.T) {
	inOrderedHome(t, func(o *orderedHome) {
		refused := func(text string) bool {
			return strings.Contains(o.event(topics.AdoptionRefused).Message, text)
		}
		reply := o.ask(topics.VerbJoin, string(topics.Encode(topics.HubRequest{Transaction: "t", ID: o.attic.id, Name: "attic", Session: "s"})))
		var grant topics.Grant
		if err := json.Unmarshal(reply.Data, &grant); err != nil || !grant.Upgrade {
			t.Fatalf("granted %s, %v", reply.Data, err)
		}
		d := o.newUpgradingDomain("another run")
		if d.ask(""); d.completed || o.count(topics.AdoptionRefused) > 0 {
			t.Error("a run that has not joined is taken over, or reported")
		}
		d = o.newUpgradingDomain("s")
		if d.ask("mallory"); d.completed || !refused("mallory") {
			t.Error("a user of another name is taken over")
		}
		o.home.hub.Deliver(topics.Message{Topic: "dominion/domain/attic/heartbeat", Payload: topics.Encode(topics.Heartbeat{ID: o.attic.id, Session: "copy", Seq: 9})})
		if d.ask(""); d.completed || !refused("another machine beats") {
			t.Error("one of two machines is taken over")
		}
		time.Sleep(time.Minute)
		if d.ask(""); !d.completed {
			t.Fatalf("it is not taken over: %s", o.event(topics.AdoptionRefused).Message)
		}
		time.Sleep(time.Second)
		if text := o.event(topics.DomainAdopted).Message; o.count(topics.DomainAdopted) != 1 || !strings.Contains(text, "by upgrade") {
			t.Errorf("%d adoptions, %s", o.count(topics.DomainAdopted), text)
		}
		if last, signs := o.signedFor("attic"); !signs {
			t.Errorf("its orders are not signed: %s", last)
		}
	})
}

// Once keys are required nothing is taken from a domain without one: it does not join, and is lost.
func TestRequire(t *testing.T) {
	inOrderedHome(t, func(o *orderedHome) {
		o.publish("dominion/request/identity", `{"action":"require"}`, false)
		if r := get[topics.Reply](o.home, "dominion/response/identity"); r.Status == topics.StatusOK {
			t.Error("anybody requires keys")
		}
		if r := o.ask(topics.VerbIdentity, `{"action":"forbid"}`); !strings.Contains(r.Error, "is require") {
			t.Errorf("%+v", r)
		}
		if r := o.ask(topics.VerbIdentity, `{"action":"require"}`); r.Status != topics.StatusOK {
			t.Fatalf("%+v", r)
		}
		time.Sleep(time.Minute)
		var views []topics.DomainView
		if err := json.Unmarshal(o.ask(topics.VerbDomains, `{}`).Data, &views); err != nil {
			t.Fatal(err)
		}
		for _, v := range views {
			switch {
			case v.Name == "kitchen" && (v.Unsigned || v.State != topics.DomainIsOnline):
				t.Errorf("kitchen: %+v", v)
			case v.Name == "attic" && (!v.Unsigned || v.State != topics.DomainIsLost || !strings.Contains(v.Problem, topics.AdoptionRequired)):
				t.Errorf("attic: %+v", v)
			}
		}
		if err := o.attic.join(); err == nil || !strings.HasPrefix(err.Error(), topics.AdoptionRequired) {
			t.Errorf("attic joins: %v", err)
		}
	})
}
