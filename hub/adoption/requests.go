package adoption

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/identity"
	protocol "github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

// errNoKeys is the answer of a hub that has no keys.
var errNoKeys = errors.New("the hub has no keys, so it adopts nothing: see dominionctl status")

// Adopt takes a request to adopt the machine of a name, or of the first characters of its key, by
// its code; without a name the code decides which machine is meant. It is answered later, to,
// unless there is an error. user is slowed for wrong codes.
//
// A request without a name comes from an entity of Home Assistant, which reads no answer: it
// is refused in an event too.
func (a *Adoption) Adopt(ask topics.HubRequest, user string, to any, now time.Time) error {
	err := a.adopt(ask, user, to, now)
	if err != nil && ask.Domain == "" {
		a.event(topics.AdoptionRefused, "", "no machine was adopted: %v", err)
	}
	return err
}

func (a *Adoption) adopt(ask topics.HubRequest, user string, to any, now time.Time) error {
	if a.o.Keys == nil {
		return errNoKeys
	}
	if ask.Domain == "" && (ask.Code == "" || ask.Replace) {
		return errors.New(`the request needs "domain", or "code" alone`)
	}
	if ask.Code == "" && ask.Replace && a.replaceByCopy(ask.Domain) {
		a.out.Answers = append(a.out.Answers, Answer{To: to})
		return nil
	}
	all := a.candidates(ask.Domain)
	if len(all) == 0 {
		return a.nobody(ask.Domain, now)
	}
	if ask.Code == "" {
		return a.adoptCertified(ask, user, all, to, now)
	}
	code, err := protocol.ParseCode(ask.Code)
	if err != nil {
		return err
	}
	if err := a.wrong.Check(user, now); err != nil {
		return err
	}
	if err := a.mayOrder(); err != nil {
		return err
	}
	by := &order{name: ask.Domain, user: user, to: to, replace: ask.Replace, until: now.Add(orderTimeout), open: make(map[string]bool)}
	var refused error
	for _, w := range all {
		if refused = a.mayHave(w.Question, ask.Replace, now); refused != nil {
			continue
		}
		if o := a.offers[w.Question.KeyHash()]; o != nil && (o.busy || o.Proved()) {
			refused = fmt.Errorf("%s is being adopted", w.Question.Name)
			continue
		}
		by.open[w.Question.KeyHash()] = true
	}
	if len(by.open) == 0 {
		return refused
	}
	a.orders = append(a.orders, by)
	for _, w := range all {
		if q := w.Question; by.open[q.KeyHash()] {
			a.derive(q, code, by)
		}
	}
	return nil
}

// maxCandidates bounds for how many machines of one name a code is tried, and maxUnnamed for
// how many without a name: for each a key is derived of it.
const (
	maxCandidates = 8
	maxUnnamed    = 16
)

// candidates returns the machines that a person may mean: of too many those that have waited
// for longest. "" is every machine that waits.
func (a *Adoption) candidates(name string) []protocol.Applying {
	all, most := a.waiting.List(), maxUnnamed
	if name != "" {
		all, most = a.waiting.Named(name), maxCandidates
	}
	slices.SortStableFunc(all, func(x, y protocol.Applying) int { return x.Since.Compare(y.Since) })
	return all[:min(len(all), most)]
}

// derive computes the key of a code for a machine, and makes an offer by it.
func (a *Adoption) derive(q protocol.Question, code protocol.Code, by *order) {
	a.work(func() func(time.Time) {
		key := code.Key(q.Key)
		return func(now time.Time) {
			o := a.offers[q.KeyHash()]
			if !slices.Contains(a.orders, by) || o != nil && (o.busy || o.Proved()) {
				return
			}
			w, is := a.waiting.Get(q.KeyHash()) // it may have asked anew
			switch {
			case !is:
			case w.Question.Name != q.Name || w.Question.ID != q.ID:
				a.refused(&offer{Offer: &protocol.Offer{Question: q}, key: q.KeyHash(), order: by}, fmt.Errorf("it asks by another name or id now, %s: adopt it by that", w.Question.Name), now)
			default:
				a.offer(w.Question, by, key, now)
			}
		}
	})
}

// nobody is the answer where no machine of a name waits.
func (a *Adoption) nobody(name string, now time.Time) error {
	if r, is := a.revokedNames[name]; is && now.Sub(r.at) < revokedAsks {
		return fmt.Errorf("no machine %s waits for adoption: the one that asks has the key %s, which was revoked: run `domain reset` on it and start its agent, then adopt it as a new machine", name, r.label)
	}
	if m, is := a.named(name); is {
		return fmt.Errorf("%s is adopted already (key %s), and no machine waits under that name", m.Name, identity.Label(m.KeyHash))
	}
	var all []string
	for _, w := range a.waiting.List() {
		all = append(all, w.String())
	}
	if name == "" {
		return errors.New("no machine waits for adoption: `domain code` on it says whether it finds this hub")
	}
	if len(all) == 0 {
		return fmt.Errorf("no machine %.80q waits for adoption, and no other one: `domain code` on it says whether it finds this hub", name)
	}
	return fmt.Errorf("no machine %.80q waits for adoption; there wait: %s", name, strings.Join(all, ", "))
}

// PermitJoin opens the window, or closes it.
func (a *Adoption) PermitJoin(ask topics.HubRequest, now time.Time) error {
	if a.o.Keys == nil {
		return errNoKeys
	}
	switch ask.Action {
	case "", "open":
	case "close":
		if a.window.IsOpen(now) && !a.window.Always {
			a.window.Close()
			a.viewChanged = true
			a.event(topics.WindowClosed, "", "no domain is adopted without a code any more")
		}
		return nil
	default:
		return fmt.Errorf(`"action" is open or close, not %.40q`, ask.Action)
	}
	if err := a.window.Open(ask.Duration.Duration(), ask.Count, now); err != nil {
		return err
	}
	a.viewChanged = true
	a.event(topics.WindowOpened, "", "until %s the first domain that asks for it is adopted without a code, %d at most", a.window.Next().UTC().Format("15:04:05 MST"), max(ask.Count, 1))
	for _, w := range a.waiting.List() {
		if a.offers[w.Question.KeyHash()] == nil && !a.isUpgrade(w.Question) {
			a.begin(w.Question, sender{address: w.Address}, now)
		}
	}
	return nil
}

// Token carries out the verb token. addresses are where domains reach the hub.
func (a *Adoption) Token(ask topics.HubRequest, addresses []string, now time.Time) ([]topics.TokenView, error) {
	switch ask.Action {
	case "", "list":
		return a.tokens(), nil
	case "create":
		return a.createToken(ask, addresses, now)
	case "remove":
		after, removed := a.state.Tokens.Remove(ask.Token)
		if !removed || ask.Token == "" {
			return nil, fmt.Errorf("there is no token %.40q: dominionctl token list shows them", ask.Token)
		}
		a.state.Tokens, a.out.Store = after, true
		return a.tokens(), nil
	}
	return nil, fmt.Errorf(`"action" is create, list or remove, not %.40q`, ask.Action)
}

// createToken makes a token, and returns it as the one row of a list.
func (a *Adoption) createToken(ask topics.HubRequest, addresses []string, now time.Time) ([]topics.TokenView, error) {
	if a.o.Keys == nil {
		return nil, errNoKeys
	}
	use := protocol.ForDomain
	if ask.Use != "" {
		use = protocol.TokenUse(ask.Use)
	}
	if ask.Name != "" && !topics.ValidName(ask.Name) {
		return nil, fmt.Errorf("%.80q is not a valid domain name: use a-z, 0-9 and -", ask.Name)
	}
	uses, lifetime := ask.Count, ask.Duration.Duration()
	if uses == 0 {
		uses = 1
	}
	if lifetime == 0 {
		lifetime = protocol.DefaultTokenLifetime
	}
	t, err := protocol.NewToken(a.o.Authority, use, addresses...)
	if err != nil {
		return nil, err
	}
	after, r, err := a.state.Tokens.Add(t, ask.Name, uses, lifetime, now)
	if err != nil {
		return nil, err
	}
	a.state.Tokens, a.out.Store = after, true
	v := tokenView(r)
	v.Token = t.String()
	return []topics.TokenView{v}, nil
}

// tokens returns the tokens that people made.
func (a *Adoption) tokens() []topics.TokenView {
	all := []topics.TokenView{}
	for _, r := range a.state.Tokens.Records {
		if !r.Local {
			all = append(all, tokenView(r))
		}
	}
	return all
}

// tokenView returns a token as it is shown.
func tokenView(r protocol.TokenRecord) topics.TokenView {
	v := topics.TokenView{ID: r.ID, Name: r.Name, Use: string(r.Use), UsesLeft: r.UsesLeft, UsedBy: []topics.TokenUser{}}
	if !r.Expires.IsZero() {
		v.Expires = topics.At(r.Expires)
	}
	for _, u := range r.UsedBy {
		v.UsedBy = append(v.UsedBy, topics.TokenUser{Name: u.Name, Key: u.Key, At: topics.At(u.At)})
	}
	return v
}

// maxUsedLocal is how many used tokens of the hub's own machine are remembered, so that a
// second use is reported.
const maxUsedLocal = 4

// renewLocalToken makes another token for the hub's own machine. The former one is not valid
// any more.
func (a *Adoption) renewLocalToken(now time.Time) {
	if a.o.Keys == nil || a.localAddress == "" {
		return
	}
	records := slices.DeleteFunc(slices.Clone(a.state.Tokens.Records), func(r protocol.TokenRecord) bool { return r.Local && r.UsesLeft > 0 })
	for used := localCount(records); used > maxUsedLocal; used-- {
		i := slices.IndexFunc(records, func(r protocol.TokenRecord) bool { return r.Local })
		records = slices.Delete(records, i, i+1)
	}
	t, err := protocol.NewToken(a.o.Authority, protocol.ForDomain, a.localAddress)
	if err == nil {
		a.state.Tokens, err = protocol.Tokens{Records: records}.AddLocal(t)
	}
	if err != nil {
		a.event(topics.HubProblem, "", "cannot renew the token of this machine: %v", err)
		return
	}
	a.out.Store, a.out.LocalToken = true, &t
}

func localCount(records []protocol.TokenRecord) (n int) {
	for _, r := range records {
		if r.Local {
			n++
		}
	}
	return n
}

// remedy says what a person does about a machine that waits.
func (a *Adoption) remedy(q protocol.Question) string {
	if a.certified[q.KeyHash()] {
		return fmt.Sprintf("%s: `dominionctl adopt %s` takes it back, without a code", notInList, q.Name)
	}
	return fmt.Sprintf("`domain code` there shows its code, `%s adopt %s` takes it", a.o.dominionctl(), q.Name)
}

// Waiting returns the machines that wait for adoption, as others see them.
func (a *Adoption) Waiting() []topics.DomainView {
	var all []topics.DomainView
	for _, w := range a.waiting.List() {
		q := w.Question
		if a.isUpgrade(q) && a.refusals[q.KeyHash()] == "" {
			continue // it is a domain already
		}
		problem := "waits for adoption, key " + q.Label() + ": " + a.remedy(q)
		if why := a.refusals[q.KeyHash()]; why != "" {
			problem = "waits for adoption, key " + q.Label() + ": " + why
		}
		certified := a.certified[q.KeyHash()]
		if m, copied := a.copyOf(q); copied {
			problem = "is a copy of " + m.Name + ": it has its key, " + q.Label() + ", and an older word; " + a.copyRemedy(m)
		} else if a.distrusts(q) && !certified {
			problem += "; it is of this dominion and does not hear this hub: if that lasts, its authority is another one than this hub's, which was replaced while it was away, or this hub was restored from a backup of before `dominionctl authority rotate`"
		} else if q.Stranger != "" && !certified {
			problem += "; it belongs to " + q.Stranger + ", which it does not hear"
		}
		reason := ""
		if certified {
			reason = notInList
		}
		all = append(all, topics.DomainView{
			Name: q.Name, ID: q.ID, State: topics.DomainIsWaiting, Reason: reason, Address: w.Address, Key: q.Label(), Model: q.Model,
			Traits: []string{}, Services: []topics.Instance{}, Catalog: []string{}, Since: topics.At(w.Since), Problem: problem,
		})
	}
	return all
}

// Expire does what time has made due.
func (a *Adoption) Expire(now time.Time) {
	before := a.waiting.List()
	if gone := a.waiting.Expire(now); len(gone) > 0 {
		a.viewChanged = true
		for _, w := range before {
			key := w.Question.KeyHash()
			if _, still := a.waiting.Get(key); !still {
				delete(a.refusals, key)
				delete(a.transactions, key)
				delete(a.certified, key)
			}
		}
	}
	if a.window.Expire(now) {
		a.viewChanged = true
		a.event(topics.WindowClosed, "", "no domain is adopted without a code any more: the time is over")
	}
	for _, o := range a.offers {
		if !o.busy && (o.Expired(now) || !now.Before(o.Next().Add(orderTimeout))) {
			a.drop(o)
		}
	}
	for _, by := range slices.Clone(a.orders) {
		if !now.Before(by.until) {
			a.answer(by, nil, fmt.Errorf("%s has not answered in %v: is it still there, or does it slow codes after wrong ones (1 min at most)? `domain code` on it says what it finds", by.what(), orderTimeout))
		}
	}
	a.expireUnsigned(now)
	if ran := now.Sub(a.advancedAt); ran >= advanceInterval {
		a.advancedAt = now
		if a.expiring() {
			a.state.Tokens, _ = a.state.Tokens.Advance(ran, now)
			a.out.Store = true
		}
	}
}

// expiring reports whether there is a token with an end.
func (a *Adoption) expiring() bool {
	return slices.ContainsFunc(a.state.Tokens.Records, func(r protocol.TokenRecord) bool { return !r.Expires.IsZero() })
}

// Next returns when Expire has something to do; zero: not by itself.
func (a *Adoption) Next() (next time.Time) {
	sooner := func(at time.Time) {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	sooner(a.waiting.Next())
	sooner(a.window.Next())
	for _, o := range a.offers {
		if !o.busy && o.Transcript() != nil {
			at := o.Next()
			if o.Proved() {
				at = at.Add(orderTimeout)
			}
			sooner(at)
		}
	}
	for _, by := range a.orders {
		sooner(by.until)
	}
	if a.expiring() {
		sooner(a.advancedAt.Add(advanceInterval))
	}
	if a.charges() {
		sooner(a.chargedAt.Add(chargeInterval))
	}
	return next
}
