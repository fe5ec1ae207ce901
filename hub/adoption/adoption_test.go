package adoption

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/identity"
	protocol "github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

const recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"

// keys are Keys without files.
type keys struct {
	authority *identity.Authority
	offering  protocol.HubOptions
	list      *identity.KeyList
}

func (k keys) Offering() protocol.HubOptions { return k.offering }

func (k keys) Certify(id string, key *ecdsa.PublicKey, now time.Time) ([]*x509.Certificate, error) {
	cert, err := k.authority.Issue(identity.Request{Subject: identity.Subject{Dominion: "home", Use: identity.DomainUse, Name: id}, Key: key, At: now})
	return []*x509.Certificate{cert}, err
}

func (k keys) SignedKeyList() []byte {
	message, err := k.list.Sign(k.authority)
	if err != nil {
		panic(err)
	}
	return message
}

func (k keys) IssuedTo(id, key string, certificate [][]byte, now time.Time) (issued, listed bool) {
	chain, err := identity.ParseChain(certificate)
	if err != nil {
		return false, false
	}
	p, err := identity.Verifier{Dominion: "home", Roots: []*x509.Certificate{k.authority.Root}, Keys: k.list}.Verify(chain, now, identity.DomainUse)
	return err == nil && p.Subject.Name == id && p.KeyHash == key, false
}

func (k keys) IsRevoked(key string) bool { return k.list.IsRevoked(key) }

// home is a hub with machines around it.
type home struct {
	t *testing.T
	*Adoption
	list     *identity.KeyList
	now      time.Time
	machines map[string]*machine // by hash of the key
	// disk is why nothing is stored; nil: everything is.
	disk    error
	events  []topics.Event
	answers []Answer
	local   *protocol.Token
	// lose has the next completions lost.
	lose bool
}

func newHome(t *testing.T, o Options) *home {
	now := time.Now()
	authority, err := identity.NewAuthority("home", now)
	if err != nil {
		t.Fatal(err)
	}
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := authority.Issue(identity.Request{Subject: identity.Subject{Dominion: "home", Use: identity.HubUse, Name: "home"}, Key: &key.PublicKey, At: now})
	if err != nil {
		t.Fatal(err)
	}
	hash, err := identity.HashKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	o.Dominion, o.Authority = "home", authority.RootHash()
	list := identity.KeyList{Dominion: "home"}.WithHub(identity.HubKey{Key: hash})
	o.Keys = keys{authority, protocol.HubOptions{Dominion: "home", Name: "home", Root: authority.Root, Key: key, Chain: []*x509.Certificate{cert}}, &list}
	o.Grant = func() []byte { return []byte(`{}`) }
	o.Embedded = true
	h := &home{t: t, Adoption: New(o), list: &list, now: now, machines: make(map[string]*machine)}
	h.Begin("127.0.0.1:1883", now)
	h.settle()
	return h
}

// settle carries out what the part returns until there is nothing, as the hub does.
func (h *home) settle() {
	for h.Pending() {
		out := h.Take()
		if out.Urgent {
			h.Stored(h.disk, h.now)
		}
		for _, m := range out.Revoked {
			*h.list = h.list.Revoke(identity.RevokedKey{Key: m.KeyHash}, h.now)
		}
		h.events = append(h.events, out.Events...)
		h.answers = append(h.answers, out.Answers...)
		if out.LocalToken != nil {
			h.local = out.LocalToken
		}
		for _, w := range out.Work {
			w()(h.now)
		}
		for _, m := range out.Messages {
			if one := h.machines[m.KeyHash]; one != nil {
				one.receive(m.Payload)
			}
		}
	}
}

// reported returns whether there was an event of a type, and forgets all.
func (h *home) reported(want topics.EventType, text string) {
	h.t.Helper()
	found := slices.ContainsFunc(h.events, func(e topics.Event) bool { return e.Type == want && strings.Contains(e.Message, text) })
	if !found {
		h.t.Errorf("no event %s with %q: %v", want, text, h.events)
	}
	h.events = nil
}

// machine is a domain that is not adopted.
type machine struct {
	home    *home
	key     *ecdsa.PrivateKey
	hash    string
	code    protocol.Code
	a       *protocol.Applicant
	id      string
	refusal string
	adopted *protocol.Adopted
}

func (h *home) machine(name, id string, key *ecdsa.PrivateKey, means protocol.Means) *machine {
	h.t.Helper()
	return h.asking(name, id, key, means, nil)
}

// returning is a domain that belongs to a dominion, and asks for adoption.
func (h *home) returning(name, id string, key *ecdsa.PrivateKey, of *protocol.Home) *machine {
	h.t.Helper()
	return h.asking(name, id, key, protocol.Means{}, of)
}

func (h *home) asking(name, id string, key *ecdsa.PrivateKey, means protocol.Means, of *protocol.Home) *machine {
	h.t.Helper()
	if key == nil {
		var err error
		if key, err = identity.NewKey(); err != nil {
			h.t.Fatal(err)
		}
	}
	m := h.newMachine(protocol.ApplicantOptions{Key: key, ID: id, Name: name, Home: of}, means)
	m.ask()
	return m
}

// newMachine returns a machine that has not asked.
func (h *home) newMachine(o protocol.ApplicantOptions, means protocol.Means) *machine {
	h.t.Helper()
	o.Protocol, o.Recipient = topics.Protocol, recipient
	a, err := protocol.NewApplicant(o)
	if err != nil {
		h.t.Fatal(err)
	}
	m := &machine{home: h, key: o.Key, a: a, id: o.ID, code: protocol.NewCode()}
	public, err := identity.EncodePublicKey(&o.Key.PublicKey)
	if err != nil {
		h.t.Fatal(err)
	}
	m.hash = identity.HashEncodedKey(public)
	means.Code = m.code.Key(public)
	a.SetMeans(means)
	h.machines[m.hash] = m
	return m
}

// ask publishes its question.
func (m *machine) ask() {
	m.home.t.Helper()
	q, err := m.a.Question()
	if err != nil {
		m.home.t.Fatal(err)
	}
	m.home.Receive(protocol.ToHub{Transaction: "t", Question: &q}, "", m.home.now)
	m.home.settle()
}

func (m *machine) receive(to protocol.ToDomain) {
	h := m.home
	switch {
	case to.Error != "":
		m.refusal = to.Error
	case to.Answer != nil:
		proof, err := m.a.Answer(*to.Answer, "hub", h.now)
		if err != nil {
			m.refusal = err.Error()
		}
		if proof != nil {
			h.Receive(protocol.ToHub{Proof: proof}, "", h.now)
		}
	case to.Completion != nil && !h.lose:
		adopted, err := m.a.Complete(*to.Completion, h.now)
		if err != nil {
			h.t.Error(err)
			return
		}
		m.adopted = &adopted
		c, err := m.a.Confirmation()
		if err != nil {
			h.t.Error(err)
		}
		h.Receive(protocol.ToHub{Confirmation: &c}, "", h.now)
	}
}

// choose has a machine that gathered answers of open dominions choose one.
func (m *machine) choose() {
	m.home.t.Helper()
	m.home.now = m.home.now.Add(5 * time.Second)
	proof, err := m.a.Choose(m.home.now)
	if err != nil {
		m.home.t.Fatal(err)
	}
	if proof != nil {
		m.home.Receive(protocol.ToHub{Proof: proof}, "", m.home.now)
		m.home.settle()
	}
}

// adoptWithoutCode is a person who knows none.
func (h *home) adoptWithoutCode(name string, replace bool) error {
	h.answers = nil
	err := h.Adopt(topics.HubRequest{Domain: name, Replace: replace}, "ann", name, h.now)
	h.settle()
	if err == nil && len(h.answers) == 1 {
		return h.answers[0].Err
	}
	if err == nil {
		return errWaits
	}
	return err
}

// adopt is a person who types a code.
func (h *home) adopt(name string, code protocol.Code, replace bool) error {
	h.answers = nil
	err := h.Adopt(topics.HubRequest{Domain: name, Code: code.String(), Replace: replace}, "ann", name, h.now)
	h.settle()
	if err == nil && len(h.answers) == 1 {
		return h.answers[0].Err
	}
	if err == nil {
		return errWaits
	}
	return err
}

var errWaits = errors.New("not answered yet")

func contains(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want %q", err, text)
	}
}

func TestCode(t *testing.T) {
	h := newHome(t, Options{})
	pi := h.machine("pi", "id-pi", nil, protocol.Means{})
	h.reported(topics.DomainWaiting, "pi")
	if w := h.Waiting(); len(w) != 1 || w[0].State != topics.DomainIsWaiting || w[0].Key != identity.Label(pi.hash) {
		t.Fatalf("%+v", w)
	}
	pi.ask()
	if len(h.events) > 0 {
		t.Errorf("reported again: %v", h.events)
	}
	contains(t, h.adopt("pj", pi.code, false), "there wait: pi")
	if err := h.adopt("pi", protocol.NewCode(), false); !errors.Is(err, errWaits) {
		t.Fatal(err) // the machine says nothing to a hub that has not the code
	}
	pi.ask() // and says later that it refused it
	contains(t, h.answers[0].Err, "the code is wrong")
	h.reported(topics.AdoptionRefused, "the code is wrong")
	contains(t, h.adopt("pi", pi.code, false), "wait")
	h.now = h.now.Add(2 * time.Second)
	if err := h.adopt("pi", pi.code, false); err != nil {
		t.Fatal(err)
	}
	h.reported(topics.DomainAdopted, "pi ("+identity.Label(pi.hash)+") was adopted by code")
	m := h.Members()["id-pi"]
	if m.Name != "pi" || m.KeyHash != pi.hash || m.Words.Confirmed != pi.adopted.Trust.Word || len(h.Waiting()) > 0 {
		t.Errorf("%+v, %v", m, h.Waiting())
	}
}

// Of two machines of one name the code decides which is meant.
func TestTwoOfOneName(t *testing.T) {
	h := newHome(t, Options{})
	one := h.machine("pi", "id-1", nil, protocol.Means{})
	two := h.machine("pi", "id-2", nil, protocol.Means{})
	if err := h.adopt("pi", two.code, false); err != nil {
		t.Fatal(err)
	}
	if two.adopted == nil || one.adopted != nil {
		t.Error("the wrong one was adopted")
	}
	contains(t, h.adopt("pi", one.code, false), "belongs to another key")
}

func TestToken(t *testing.T) {
	h := newHome(t, Options{})
	views, err := h.Token(topics.HubRequest{Action: "create"}, []string{"192.168.1.2"}, h.now)
	if err != nil || len(views) != 1 {
		t.Fatal(views, err)
	}
	token, err := protocol.ParseToken(views[0].Token)
	if err != nil {
		t.Fatal(err)
	}
	pi := h.machine("pi", "id-pi", nil, protocol.Means{Token: &token})
	if pi.adopted == nil {
		t.Fatal("not adopted:", pi.refusal)
	}
	h.reported(topics.DomainAdopted, "token "+views[0].ID)
	thief := h.machine("laptop", "id-thief", nil, protocol.Means{Token: &token})
	if thief.adopted != nil || !strings.Contains(thief.refusal, "used") {
		t.Errorf("%q", thief.refusal)
	}
	h.reported(topics.AdoptionRefused, "used by pi")
	list, err := h.Token(topics.HubRequest{Action: "list"}, nil, h.now)
	if err != nil || len(list) != 1 || list[0].UsesLeft != 0 || list[0].UsedBy[0].Name != "pi" || list[0].Token != "" {
		t.Errorf("%+v, %v", list, err)
	}
	stranger, _ := protocol.NewToken([32]byte{1}, protocol.ForDomain, "192.168.1.3")
	if other := h.machine("tv", "id-tv", nil, protocol.Means{Token: &stranger}); other.refusal != "" {
		t.Error("a hub answers for a token of another dominion:", other.refusal)
	}
	hubs, _ := h.Token(topics.HubRequest{Action: "create", Use: "hub"}, nil, h.now)
	forHub, _ := protocol.ParseToken(hubs[0].Token)
	if one := h.machine("nas", "id-nas", nil, protocol.Means{Token: &forHub}); one.adopted != nil {
		t.Error("a domain joined by a token for a hub")
	}
	h.now = h.now.Add(25 * time.Hour)
	h.Expire(h.now)
	if list, _ := h.Token(topics.HubRequest{}, nil, h.now); len(list) > 0 {
		t.Errorf("%+v", list)
	}
}

// A completion that was lost with the power wastes no token: the machine asks again.
func TestPowerCut(t *testing.T) {
	h := newHome(t, Options{})
	views, _ := h.Token(topics.HubRequest{Action: "create"}, nil, h.now)
	token, _ := protocol.ParseToken(views[0].Token)
	h.lose = true
	first := h.machine("pi", "id-pi", nil, protocol.Means{Token: &token})
	if m := h.Members()["id-pi"]; m.KeyHash != first.hash || m.Words.Established() {
		t.Fatalf("%+v", m)
	}
	h.lose = false
	restarted := New(Options{State: h.State(), Dominion: "home", Authority: h.o.Authority, Keys: h.o.Keys, Grant: h.o.Grant})
	h.Adoption = restarted
	again := h.machine("pi", "id-pi", first.key, protocol.Means{Token: &token})
	if again.adopted == nil || !h.Members()["id-pi"].Words.Established() {
		t.Error(again.refusal)
	}
}

// Nothing is completed that is not on disk.
func TestFullDisk(t *testing.T) {
	h := newHome(t, Options{})
	h.disk = errors.New("no space left")
	pi := h.machine("pi", "id-pi", nil, protocol.Means{})
	contains(t, h.adopt("pi", pi.code, false), "no space left")
	if pi.adopted != nil {
		t.Error("adopted")
	}
}

// The hub's own machine joins by a token that is renewed after each use.
func TestLocalToken(t *testing.T) {
	h := newHome(t, Options{})
	first := h.local
	if first == nil || !slices.Equal(first.Addresses, []string{"127.0.0.1:1883"}) {
		t.Fatal(first)
	}
	if one := h.machine("nas", "id-nas", nil, protocol.Means{Token: first}); one.adopted == nil {
		t.Fatal(one.refusal)
	}
	if h.local == first {
		t.Error("not renewed")
	}
	if two := h.machine("two", "id-2", nil, protocol.Means{Token: first}); two.adopted != nil {
		t.Error("used twice")
	}
	if two := h.machine("two", "id-3", nil, protocol.Means{Token: h.local}); two.adopted == nil {
		t.Error(two.refusal)
	}
	if list, _ := h.Token(topics.HubRequest{}, nil, h.now); len(list) > 0 {
		t.Errorf("listed: %+v", list)
	}
}

func TestWindow(t *testing.T) {
	h := newHome(t, Options{})
	pi := h.machine("pi", "id-pi", nil, protocol.Means{Open: true})
	shy := h.machine("shy", "id-shy", nil, protocol.Means{})
	h.reported(topics.DomainWaiting, "pi")
	if err := h.PermitJoin(topics.HubRequest{Duration: topics.Seconds(11 * time.Minute)}, h.now); err == nil {
		t.Error("too long")
	}
	if err := h.PermitJoin(topics.HubRequest{}, h.now); err != nil || !h.JoinWindow(h.now).Open {
		t.Fatal(err)
	}
	h.settle()
	h.reported(topics.WindowOpened, "")
	late := h.machine("late", "id-late", nil, protocol.Means{Open: true})
	pi.choose()
	if pi.adopted == nil || h.JoinWindow(h.now).Open {
		t.Error(pi.refusal)
	}
	h.reported(topics.DomainAdopted, "`dominionctl forget pi` undoes it")
	late.choose()
	if late.adopted != nil || shy.adopted != nil {
		t.Error("more than one was adopted")
	}
	if err := h.PermitJoin(topics.HubRequest{Duration: topics.Seconds(time.Minute)}, h.now); err != nil {
		t.Fatal(err)
	}
	h.now = h.now.Add(time.Minute)
	h.Expire(h.now)
	h.settle()
	h.reported(topics.WindowClosed, "time is over")
}

func TestOpen(t *testing.T) {
	h := newHome(t, Options{Open: true})
	for _, name := range []string{"a", "b"} {
		m := h.machine(name, "id-"+name, nil, protocol.Means{Open: true})
		m.choose()
		if m.adopted == nil {
			t.Error(name, m.refusal)
		}
	}
}

// A name belongs to its key until it is forgotten or replaced.
func TestNames(t *testing.T) {
	h := newHome(t, Options{})
	pi := h.machine("pi", "id-pi", nil, protocol.Means{})
	if err := h.adopt("pi", pi.code, false); err != nil {
		t.Fatal(err)
	}
	other := h.machine("pi", "id-2", nil, protocol.Means{})
	contains(t, h.adopt("pi", other.code, false), "belongs to another key")
	if err := h.adopt("pi", other.code, true); err != nil {
		t.Fatal(err)
	}
	h.reported(topics.DomainRevoked, identity.Label(pi.hash))
	if !h.list.IsRevoked(pi.hash) || h.Members()["id-2"].Name != "pi" || len(h.Members()) != 1 {
		t.Errorf("%v, %v", h.list, h.Members())
	}
	if h.Revoke(pi.hash, h.now) {
		t.Error("revoked twice")
	}
	if !h.Forget("pi", h.now) || len(h.Members()) > 0 {
		t.Error("not forgotten")
	}
	again := h.machine("pi", "id-2", other.key, protocol.Means{})
	contains(t, errors.New(again.refusal), "was revoked")
	contains(t, h.adopt("pi", again.code, false), "no machine")
	third := h.machine("pi", "id-3", nil, protocol.Means{})
	if err := h.adopt("pi", third.code, false); err != nil {
		t.Fatal(err)
	}
	if !h.Revoke(third.hash, h.now) || len(h.Members()) > 0 {
		t.Error("the domain of a revoked key is left")
	}
	h.settle()
	h.reported(topics.DomainRevoked, identity.Label(third.hash))
}

// A machine that has lost its data_dir has another key: under the id that its services carry, or
// another one. It waits, is told the one remedy by whatever it asks, and is taken back by its code
// and --replace; the former key is revoked. Nobody takes the id of a machine of another name.
func TestLostData(t *testing.T) {
	for _, id := range []string{"id-pi", "id-2"} {
		h := newHome(t, Options{Open: true})
		pi := h.machine("pi", "id-pi", nil, protocol.Means{})
		if err := h.adopt("pi", pi.code, false); err != nil {
			t.Fatal(err)
		}
		again := h.machine("pi", id, nil, protocol.Means{Open: true})
		const remedy = "`dominionctl adopt pi CODE --replace`"
		contains(t, errors.New(again.refusal), remedy)
		contains(t, h.adopt("pi", again.code, false), remedy)
		if w := h.Waiting(); len(w) != 1 || !strings.Contains(w[0].Problem, remedy) {
			t.Errorf("%s: it waits as %+v", id, w)
		}
		if err := h.adopt("pi", again.code, true); err != nil {
			t.Fatal(id, err)
		}
		if m := h.Members()[id]; m.KeyHash != again.hash || len(h.Members()) != 1 || !h.list.IsRevoked(pi.hash) || h.list.IsRevoked(again.hash) || h.Forgotten(id) {
			t.Errorf("%s: members %+v, list %v", id, h.Members(), h.list)
		}
		h.reported(topics.DomainRevoked, identity.Label(pi.hash))
		tv := h.machine("tv", id, nil, protocol.Means{})
		contains(t, h.adopt("tv", tv.code, true), "`dominionctl forget pi`")
	}
}

// A machine that shows a certificate of the dominion, and is not in the list, waits with that reason,
// and is taken back without a code: the hub was restored from a backup, as its status says until
// a newer key list is found. A revoked key, a certificate of another machine or authority, and one
// that is adopted get nothing by it.
func TestCertificateOfOurs(t *testing.T) {
	h := newHome(t, Options{})
	pi := h.machine("pi", "id-pi", nil, protocol.Means{})
	if err := h.adopt("pi", pi.code, false); err != nil {
		t.Fatal(err)
	}
	delete(h.State().Members, "id-pi") // as before a backup
	h.events = nil
	home := func(m *machine) *protocol.Home {
		v, err := m.adopted.Trust.Verifier(nil)
		if err != nil {
			t.Fatal(err)
		}
		return &protocol.Home{Trust: m.adopted.Trust, Verifier: v, Chain: m.adopted.Chain}
	}
	contains(t, h.MayJoin(topics.HubRequest{ID: "id-pi", Name: "pi", Word: pi.adopted.Trust.Word}, "pi", true, h.now), topics.NotAdoptedPrefix)
	again := h.returning("pi", "id-pi", pi.key, home(pi))
	w := h.Waiting()
	if len(w) != 1 || w[0].Reason != "certificate of ours, not in the list" || !strings.Contains(w[0].Problem, "`dominionctl adopt pi` takes it back, without a code") {
		t.Fatalf("it waits as %+v", w)
	}
	h.reported(topics.DomainWaiting, "certificate of ours, not in the list")
	if text := h.Restored(h.now); !strings.Contains(text, "revoked again") || !strings.Contains(text, "`dominionctl secret set NAME`") || !strings.Contains(text, "shown until ") || h.Restored(h.now.Add(8*24*time.Hour)) != "" {
		t.Errorf("status: %q", h.Restored(h.now))
	}
	if err := h.adoptWithoutCode("pi", false); err != nil {
		t.Fatal(err)
	}
	if again.adopted == nil || h.Members()["id-pi"].KeyHash != pi.hash || h.Members()["id-pi"].Method != protocol.ByCertificate || len(h.Waiting()) != 0 {
		t.Errorf("adopted %v, members %+v, waiting %+v", again.adopted != nil, h.Members(), h.Waiting())
	}
	h.reported(topics.DomainAdopted, "certificate")
	h.KeyListFound(h.now)
	if text := h.Restored(h.now); strings.Contains(text, "revoked again") || !strings.Contains(text, "users, secrets and definitions are those of the backup") {
		t.Error("with a newer key list:", text)
	}

	t.Log("one that is adopted")
	h.returning("pi", "id-pi", pi.key, home(again))
	if w := h.Waiting(); len(w) != 1 || w[0].Reason != "" {
		t.Errorf("it waits as %+v", w)
	}
	contains(t, h.adoptWithoutCode("pi", false), "the code of pi is missing")

	t.Log("the certificate of another machine, under its own id and under that of the other")
	other := h.machine("tv", "id-tv", nil, protocol.Means{})
	for _, id := range []string{"id-tv", "id-pi"} {
		h.returning("tv", id, other.key, home(pi))
		contains(t, h.adoptWithoutCode("tv", false), "the code of tv is missing")
	}

	t.Log("it was revoked")
	if !h.Forget("pi", h.now) {
		t.Fatal("not forgotten")
	}
	h.settle()
	out := h.returning("pi", "id-pi", pi.key, home(pi))
	contains(t, errors.New(out.refusal), "was revoked")
	if err := h.adoptWithoutCode("pi", false); err == nil || len(h.Members()) > 0 {
		t.Error("adopted again", err)
	}
}

// A machine that this hub has adopted, and that asks as one of this dominion, does not trust this hub: status says
// why that may be. One of another dominion, or with another key, is not of this one.
func TestMemberThatDistrustsTheHub(t *testing.T) {
	h := newHome(t, Options{Name: "home"})
	pi := h.machine("pi", "id-pi", nil, protocol.Means{})
	if err := h.adopt("pi", pi.code, false); err != nil {
		t.Fatal(err)
	}
	const why, away = "before `dominionctl authority rotate`", "which it does not hear"
	for _, c := range []struct {
		key      *ecdsa.PrivateKey
		stranger string
		want     string
		not      string
	}{
		{pi.key, "home", why, away},
		{pi.key, "cabin", "it belongs to cabin, " + away, why},
		{nil, "home", "it belongs to home, " + away, why},
	} {
		key := c.key
		if key == nil {
			var err error
			if key, err = identity.NewKey(); err != nil {
				t.Fatal(err)
			}
		}
		h.newMachine(protocol.ApplicantOptions{Key: key, ID: "id-pi", Name: "pi", Stranger: c.stranger}, protocol.Means{}).ask()
		w := h.Waiting()
		i := slices.IndexFunc(w, func(v topics.DomainView) bool { return strings.Contains(v.Problem, c.want) })
		if i < 0 || strings.Contains(w[i].Problem, c.not) {
			t.Errorf("as one of %s: it waits as %+v", c.stranger, w)
		}
	}
}

// A newer word than the hub has given shows that it was restored from a backup, unless the hub knows
// that it has lost its words.
func TestNewerWordOfARestoredHub(t *testing.T) {
	for _, lost := range []bool{false, true} {
		h := newHome(t, Options{WordKey: []byte("secret")})
		pi := h.machine("pi", "id-pi", nil, protocol.Means{})
		if err := h.adopt("pi", pi.code, false); err != nil {
			t.Fatal(err)
		}
		m := h.State().Members["id-pi"]
		m.WordsLost = lost
		h.State().Members["id-pi"] = m
		word := protocol.WordKey("secret").NewFrom("id-pi", m.Words, 100)
		if h.Joined(topics.HubRequest{ID: "id-pi", Name: "pi", Word: word}, h.now) == "" {
			t.Fatal("not joined")
		}
		if restored := h.Restored(h.now) != ""; restored == lost {
			t.Errorf("words lost %v: restored %v", lost, restored)
		}
		if h.Members()["id-pi"].WordsLost {
			t.Error("it still counts as lost")
		}
	}
}

func TestJoin(t *testing.T) {
	h := newHome(t, Options{})
	pi := h.machine("pi", "id-pi", nil, protocol.Means{})
	if err := h.adopt("pi", pi.code, false); err != nil {
		t.Fatal(err)
	}
	ask := topics.HubRequest{ID: "id-pi", Name: "pi", Session: "s", Word: pi.adopted.Trust.Word}
	for user, admin := range map[string]bool{"tv": false, "": false} {
		contains(t, h.MayJoin(ask, user, admin, h.now), "must show its certificate")
	}
	contains(t, h.MayJoin(topics.HubRequest{ID: "id-x", Name: "pi"}, "pi", false, h.now), "belongs to the key")
	contains(t, h.MayJoin(topics.HubRequest{ID: "id-x", Name: "tv", Word: "w"}, "tv", false, h.now), "domain reset")
	contains(t, h.MayJoin(topics.HubRequest{ID: "id-x", Name: "tv"}, "tv", false, h.now), topics.AdoptionRequired)
	if err := h.MayJoin(ask, "pi", false, h.now); err != nil {
		t.Fatal(err)
	}
	word := h.Joined(ask, h.now)
	if word == "" || word == ask.Word {
		t.Fatal(word)
	}
	if err := h.MayJoin(ask, "pi", false, h.now); err != nil {
		t.Error("the answer may have been lost:", err)
	}
	h.Confirm(topics.HubRequest{ID: "id-pi", Confirm: word}, h.now)
	copied := ask
	copied.Address = "192.168.1.9"
	contains(t, h.MayJoin(copied, "pi", false, h.now), "domain reset")
	h.settle()
	h.reported(topics.DomainCopied, "192.168.1.9")
	if err := h.MayJoin(copied, "pi", false, h.now); err == nil {
		t.Error("a copy joined")
	}
	h.settle()
	if len(h.events) > 0 {
		t.Errorf("reported again: %v", h.events)
	}
	h.now = h.now.Add(joinSettles) // until then it may be a late question of the domain itself
	h.newMachine(protocol.ApplicantOptions{Key: pi.key, ID: "id-pi", Name: "pi", Stranger: "home"}, protocol.Means{}).ask()
	if w := h.Waiting(); len(w) != 1 || !strings.Contains(w[0].Problem, "is a copy of pi") || !strings.Contains(w[0].Problem, "--replace") || strings.Contains(w[0].Problem, "belongs to") {
		t.Errorf("the copy asks for adoption: %+v", w)
	}
	h.settle()
	h.events = nil
	if err := h.adopt("pi", "", true); err != nil {
		t.Fatal(err)
	}
	if err := h.MayJoin(copied, "pi", false, h.now); err != nil {
		t.Error(err)
	}
	contains(t, h.MayJoin(topics.HubRequest{ID: "id-pi", Name: "pi", Word: word}, "pi", false, h.now), "older word")

	// A machine that comes under a free name is renamed.
	copied.Name = "pia"
	if err := h.MayJoin(copied, "pi", false, h.now); err != nil {
		t.Fatal(err)
	}
	h.Take()
	h.Joined(copied, h.now)
	if h.Members()["id-pi"].Name != "pia" || !h.Take().Domains {
		t.Error("not renamed")
	}
}

// A domain that asked while its hub was away waits no more once it has joined; one that
// was forgotten is not shown as waiting, and is told what to do.
func TestAMemberDoesNotWait(t *testing.T) {
	h := newHome(t, Options{})
	pi := h.machine("pi", "id-pi", nil, protocol.Means{})
	if err := h.adopt("pi", pi.code, false); err != nil {
		t.Fatal(err)
	}
	again := h.machine("pi", "id-pi", pi.key, protocol.Means{})
	if len(h.Waiting()) != 1 {
		t.Fatalf("waiting: %v", h.Waiting())
	}
	h.Joined(topics.HubRequest{ID: "id-pi", Name: "pi", Word: pi.adopted.Trust.Word}, h.now)
	if len(h.Waiting()) != 0 {
		t.Errorf("a domain that has joined waits: %v", h.Waiting())
	}
	h.settle()
	h.events = nil
	h.Forget("pi", h.now)
	h.settle()
	again.ask()
	if len(h.Waiting()) != 0 || !strings.Contains(again.refusal, "domain reset") {
		t.Errorf("a forgotten domain: waiting %v, told %q", h.Waiting(), again.refusal)
	}
}

// A domain that has joined does not wait, also where its question comes after its join, or it asked by
// a key that it has not any more. One that asks later has lost its hub again.
func TestQuestionsEndWithTheJoin(t *testing.T) {
	h := newHome(t, Options{})
	pi := h.machine("pi", "id-pi", nil, protocol.Means{})
	if err := h.adopt("pi", pi.code, false); err != nil {
		t.Fatal(err)
	}
	again := h.machine("pi", "id-pi", pi.key, protocol.Means{})
	former := h.machine("pi", "id-pi", nil, protocol.Means{})
	other := h.machine("pi", "id-other", nil, protocol.Means{})
	if len(h.Waiting()) != 3 {
		t.Fatalf("waiting: %v", h.Waiting())
	}
	h.Joined(topics.HubRequest{ID: "id-pi", Name: "pi", Word: pi.adopted.Trust.Word}, h.now)
	h.settle()
	again.ask()
	if w := h.Waiting(); len(w) != 1 || w[0].ID != "id-other" || len(h.transactions) != 1 {
		t.Errorf("waiting beside a domain that has joined: %v, %d transactions", w, len(h.transactions))
	}
	delete(h.machines, former.hash)
	h.now = h.now.Add(joinSettles)
	again.ask()
	if len(h.Waiting()) != 2 {
		t.Error("a domain that lost its hub again does not wait")
	}
	for range 6 { // one asks on, the others do not
		h.now = h.now.Add(5 * time.Second)
		h.Expire(h.now)
		other.ask()
	}
	if w := h.Waiting(); len(w) != 1 || w[0].ID != "id-other" {
		t.Errorf("waiting: %v", w)
	}
}

// A machine that was reset and adopted is not refused for the key that it had before.
func TestRevokedKeyOfAResetMachine(t *testing.T) {
	h := newHome(t, Options{})
	pi := h.machine("pi", "id-pi", nil, protocol.Means{})
	if err := h.adopt("pi", pi.code, false); err != nil {
		t.Fatal(err)
	}
	h.Forget("pi", h.now)
	h.settle()
	if key := h.RevokedKey("id-pi"); key != identity.Label(pi.hash) {
		t.Errorf("revoked: %q", key)
	}
	pi.ask()
	contains(t, h.adopt("pi", pi.code, false), "which was revoked")
	reset := h.machine("pi", "id-new", nil, protocol.Means{})
	if err := h.adopt("pi", reset.code, false); err != nil {
		t.Fatal(err)
	}
	contains(t, h.adopt("pi", reset.code, false), "is adopted already")
	if h.RevokedKey("id-new") != "" {
		t.Error("the new key is shown as revoked")
	}
}

// A question that somebody else changed is not shown.
func TestForgedQuestion(t *testing.T) {
	h := newHome(t, Options{})
	pi := h.machine("pi", "id-pi", nil, protocol.Means{})
	q, err := pi.a.Question()
	if err != nil {
		t.Fatal(err)
	}
	q.Name = "tv"
	h.Receive(protocol.ToHub{Question: &q}, "", h.now)
	h.settle()
	if w := h.Waiting(); len(w) != 1 || w[0].Name != "pi" {
		t.Errorf("%+v", w)
	}
}

// What waits is bounded in time, and a person gets an answer.
func TestExpiry(t *testing.T) {
	h := newHome(t, Options{})
	pi := h.machine("pi", "id-pi", nil, protocol.Means{})
	delete(h.machines, pi.hash) // it is switched off
	if err := h.adopt("pi", pi.code, false); !errors.Is(err, errWaits) {
		t.Fatal(err)
	}
	for range 10 {
		next := h.Next()
		if next.IsZero() {
			break
		}
		h.now = next
		h.Expire(h.now)
		h.settle()
	}
	if len(h.answers) != 1 || h.answers[0].Err == nil || len(h.Waiting()) > 0 || len(h.offers)+len(h.orders) > 0 {
		t.Errorf("%v %v", h.answers, h.Waiting())
	}
	if !h.Next().IsZero() {
		t.Error("it wakes for nothing")
	}
}

// A hub without keys adopts nothing, and its domains join as before.
func TestWithoutKeys(t *testing.T) {
	a := New(Options{})
	a.Begin("", time.Now())
	a.Receive(protocol.ToHub{Question: &protocol.Question{}}, "", time.Now())
	if err := a.Adopt(topics.HubRequest{Domain: "pi", Code: "x"}, "", nil, time.Now()); err == nil {
		t.Error("adopts")
	}
	if err := a.MayJoin(topics.HubRequest{ID: "i", Name: "pi"}, "", false, time.Now()); err != nil || a.Joined(topics.HubRequest{ID: "i"}, time.Now()) != "" {
		t.Error(err)
	}
}

// Whoever asks with ever new keys, or for ever other machines, makes the hub remember no
// more than of those that wait.
func TestStrangersLeaveNothing(t *testing.T) {
	h := newHome(t, Options{Open: true})
	h.lose = true
	for range 100 {
		h.now = h.now.Add(time.Millisecond)
		key, err := identity.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		a, err := protocol.NewApplicant(protocol.ApplicantOptions{Key: key, Protocol: topics.Protocol, ID: "id", Name: "pi", Recipient: recipient})
		if err != nil {
			t.Fatal(err)
		}
		a.SetMeans(protocol.Means{Open: true})
		q, err := a.Question()
		if err != nil {
			t.Fatal(err)
		}
		h.Receive(protocol.ToHub{Transaction: strings.Repeat("x", 1000), Question: &q}, "", h.now)
		h.settle()
	}
	waiting := len(h.Waiting())
	if waiting > 4 || len(h.transactions) > waiting || len(h.refusals) > waiting || len(h.offers) > waiting {
		t.Errorf("%d wait; remembered are %d transactions, %d refusals, %d offers", waiting, len(h.transactions), len(h.refusals), len(h.offers))
	}
}

// A domain takes no other name that belongs to somebody, such as a user of the broker.
func TestRenamedToTheNameOfAnother(t *testing.T) {
	taken := errors.New("the name belongs to a user")
	h := newHome(t, Options{Open: true, Taken: func(name, _ string, _ time.Time) error {
		if name == "ann" {
			return taken
		}
		return nil
	}})
	pi := h.machine("pi", "id-pi", nil, protocol.Means{Open: true})
	pi.choose()
	word := h.Members()["id-pi"].Words.Confirmed
	for name, want := range map[string]error{"pi": nil, "kitchen": nil, "ann": taken} {
		if err := h.MayJoin(topics.HubRequest{ID: "id-pi", Name: name, Word: word}, "pi", false, h.now); !errors.Is(err, want) {
			t.Errorf("as %s: %v", name, err)
		}
	}
	ann := h.machine("ann", "id-ann", nil, protocol.Means{Open: true})
	if ann.refusal != taken.Error() {
		t.Errorf("%q", ann.refusal)
	}
}

// An open window does not let strangers fill the disk: the number of domains is bounded.
func TestNoFurtherDomain(t *testing.T) {
	h := newHome(t, Options{Open: true})
	for n := range maxMembers {
		id := fmt.Sprint("id-", n)
		h.state.Members[id] = protocol.Member{ID: id, Name: id, KeyHash: id}
	}
	one := h.machine("pi", "id-pi", nil, protocol.Means{Open: true})
	if len(h.Members()) != maxMembers || !strings.Contains(one.refusal, "forget some") {
		t.Errorf("%d domains, %q", len(h.Members()), one.refusal)
	}
	delete(h.state.Members, "id-0")
	two := h.machine("pi", "id-pi", nil, protocol.Means{Open: true})
	two.choose()
	if two.adopted == nil {
		t.Error("not adopted:", two.refusal)
	}
}

// Without a name the code decides which machine is meant. What is refused then is an event, as
// nobody reads the answer; neither answer nor event repeats the code.
func TestCodeAlone(t *testing.T) {
	h := newHome(t, Options{})
	ask := func(code string) error {
		h.answers = nil
		err := h.Adopt(topics.HubRequest{Code: code}, "ada", nil, h.now)
		h.settle()
		if err == nil && len(h.answers) > 0 {
			return h.answers[0].Err
		}
		if err == nil {
			return errWaits
		}
		return err
	}
	contains(t, h.Adopt(topics.HubRequest{}, "ada", nil, h.now), `"domain"`)
	contains(t, ask("K7QF-2M9X-4T1R"), "no machine waits")
	h.reported(topics.AdoptionRefused, "no machine waits")
	one := h.machine("attic", "id-1", nil, protocol.Means{})
	two := h.machine("cellar", "id-2", nil, protocol.Means{})
	three := h.machine("cellar", "id-3", nil, protocol.Means{})
	contains(t, ask("nonsense"), "12 letters and digits")
	h.reported(topics.AdoptionRefused, "12 letters and digits")

	wrong := protocol.NewCode()
	if err := ask(wrong.String()); !errors.Is(err, errWaits) {
		t.Fatal(err)
	}
	for _, m := range []*machine{one, two, three} {
		m.ask()
	}
	contains(t, h.answers[0].Err, "the next one is taken in 1s")
	for _, e := range h.events {
		if strings.Contains(e.Message, wrong.String()) || strings.Contains(e.Message, string(wrong)) {
			t.Errorf("the code is repeated: %s", e.Message)
		}
	}
	h.reported(topics.AdoptionRefused, "the code is wrong; the next one is taken in 1s")
	contains(t, ask(three.code.String()), "wait")
	h.now = h.now.Add(2 * time.Second)
	if err := ask(three.code.String()); err != nil {
		t.Fatal(err)
	}
	if three.adopted == nil || one.adopted != nil || two.adopted != nil {
		t.Error("the wrong one was adopted")
	}
}

// What others see is published when it changes, and at most once a second: strangers decide
// how often they come.
func TestView(t *testing.T) {
	h := newHome(t, Options{})
	view := func(due bool) topics.Adoption {
		t.Helper()
		v, is := h.PublishView(h.now)
		if is != due {
			t.Fatalf("due: %v, want %v", is, due)
		}
		return v
	}
	if v := view(true); v.Window.Open || v.Waiting == nil || len(v.Waiting) > 0 {
		t.Errorf("%+v", v)
	}
	pi := h.machine("pi", "id-pi", nil, protocol.Means{Open: true})
	view(false)
	if at := h.ViewNext(); !at.Equal(h.now.Add(viewInterval)) {
		t.Errorf("next at %v", at.Sub(h.now))
	}
	h.now = h.now.Add(viewInterval)
	v := view(true)
	if len(v.Waiting) != 1 || v.Waiting[0].Name != "pi" || v.Waiting[0].Key != identity.Label(pi.hash) || v.Waiting[0].Since.IsZero() {
		t.Errorf("%+v", v)
	}
	pi.ask()
	h.now = h.now.Add(viewInterval)
	view(false) // nothing else
	if !h.ViewNext().IsZero() {
		t.Error("it wakes for nothing")
	}
	if err := h.PermitJoin(topics.HubRequest{Count: 2}, h.now); err != nil {
		t.Fatal(err)
	}
	until := topics.At(h.now.Add(protocol.DefaultWindow))
	if v := view(true); !v.Window.Open || !v.Window.Until.Equal(until.Time) || v.Window.Left != 2 {
		t.Errorf("%+v", v.Window)
	}
	h.settle()
	pi.choose()
	h.now = h.now.Add(viewInterval)
	if v := view(true); len(v.Waiting) > 0 || v.Window.Left != 1 {
		t.Errorf("%+v", v)
	}
	h.now = h.now.Add(protocol.DefaultWindow)
	h.Expire(h.now)
	if v := view(true); v.Window != (topics.JoinWindow{}) {
		t.Errorf("%+v", v.Window)
	}
	h.TouchView()
	view(true) // another broker
	if always := newHome(t, Options{Open: true}).JoinWindow(h.now); !always.Open || !always.Until.IsZero() || always.Left != 0 {
		t.Errorf("%+v", always)
	}
}

// A machine that was forgotten cannot be adopted with its key, by no code: who tries it reads what
// to do, and a machine of a unit is named with sudo.
func TestForgottenIsNotOffered(t *testing.T) {
	h := newHome(t, Options{Sudo: true})
	pi := h.machine("pi", "id-pi", nil, protocol.Means{})
	h.reported(topics.DomainWaiting, "`sudo dominionctl adopt pi` takes it")
	if err := h.adopt("pi", pi.code, false); err != nil {
		t.Fatal(err)
	}
	h.Forget("pi", h.now)
	h.settle()
	h.events = nil
	again := h.machine("pi", "id-pi", pi.key, protocol.Means{})
	if !strings.Contains(again.refusal, "domain reset") || len(h.Waiting()) > 0 {
		t.Errorf("%q, %v", again.refusal, h.Waiting())
	}
	contains(t, h.adopt("pi", again.code, false), "run `domain reset` on it")
	h.now = h.now.Add(revokedAsks)
	contains(t, h.adopt("pi", again.code, false), "no machine")
}

// A machine that asks by another name while its code is being tried gets what was asked for its former
// name under no other one: --replace would have it take the place of a domain that nobody named.
func TestAnotherNameWhileItsCodeIsTried(t *testing.T) {
	h := newHome(t, Options{})
	pi := h.machine("pi", "id-pi", nil, protocol.Means{})
	if err := h.adopt("pi", pi.code, false); err != nil {
		t.Fatal(err)
	}
	tv := h.machine("tv", "id-tv", nil, protocol.Means{})
	thief := h.newMachine(protocol.ApplicantOptions{Key: tv.key, ID: tv.id, Name: "pi"}, protocol.Means{})
	q, err := thief.a.Question()
	if err != nil {
		t.Fatal(err)
	}
	thief.a.SetMeans(protocol.Means{Code: tv.code.Key(q.Key)})
	h.Receive(protocol.ToHub{Transaction: "t", Question: &q}, "", h.now) // it is verified beside the loop
	contains(t, h.adopt("tv", tv.code, true), "by another name")
	if m := h.Members()["id-pi"]; m.KeyHash != pi.hash || h.list.IsRevoked(pi.hash) || len(h.Members()) != 1 {
		t.Errorf("members %+v, list %v", h.Members(), h.list)
	}
	h.now = h.now.Add(time.Minute)
	contains(t, h.adopt("pi", tv.code, false), "belongs to another key")
}

// Who sees question and answer can send a proof, but not one that the machine has signed: that ends no
// adoption, and slows nobody who typed a code.
func TestProofOfSomebodyElse(t *testing.T) {
	h := newHome(t, Options{})
	pi := h.machine("pi", "id-pi", nil, protocol.Means{})
	delete(h.machines, pi.hash) // the answer is late
	if err := h.adopt("pi", pi.code, false); !errors.Is(err, errWaits) {
		t.Fatal(err)
	}
	for _, signature := range [][]byte{nil, make([]byte, 64)} {
		h.Receive(protocol.ToHub{Proof: &protocol.Proof{Transcript: h.offers[pi.hash].Transcript(), Proof: make([]byte, 32), Signature: signature}}, "", h.now)
		h.settle()
		if len(h.answers) > 0 || h.offers[pi.hash] == nil {
			t.Fatalf("answered %+v", h.answers)
		}
	}
	h.machines[pi.hash] = pi
	pi.ask()
	if len(h.answers) != 1 || h.answers[0].Err != nil || pi.adopted == nil {
		t.Errorf("answered %+v: %s", h.answers, pi.refusal)
	}
}

// A domain that joins without end has the hub write no more words than is bounded, and goes on joining
// by the one that it has.
func TestWordsAreRateLimited(t *testing.T) {
	h := newHome(t, Options{})
	pi := h.machine("pi", "id-pi", nil, protocol.Means{})
	if err := h.adopt("pi", pi.code, false); err != nil {
		t.Fatal(err)
	}
	given, ask := 0, topics.HubRequest{ID: "id-pi", Name: "pi", Word: pi.adopted.Trust.Word}
	for n := range 100 {
		if err := h.MayJoin(ask, "pi", false, h.now); err != nil {
			t.Fatal(err)
		}
		h.Take()
		word := h.Joined(ask, h.now)
		if out := h.Take(); word != "" {
			ask.Word = word
			given++
		} else if n > maxWords && (out.Minor || out.Store) {
			t.Error("something is stored of a join without a word")
		}
	}
	if given != maxWords {
		t.Errorf("%d words were given", given)
	}
	if h.now = h.now.Add(time.Minute); h.Joined(ask, h.now) == "" {
		t.Error("none is given after a minute")
	}
}
