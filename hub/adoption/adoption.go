// Package adoption owns which domains a hub has adopted and by which key, and how further
// ones are: those that wait, the offers that were made to them, the codes that people typed,
// tokens, the window, and the words by which a copied disk is found.
//
// It does no I/O, has no goroutine and knows no other part of the hub: messages and requests
// in; messages, answers, events and work out, which Take returns. What takes long
// (argon2id, signatures, certificates) is Work, which runs beside the loop and whose result
// is handed in by the loop. Package hub alone imports it, and calls it from its loop.
//
// # Files
//
//	adoption.go   what is kept of adoptions
//	complete.go   from the proof of a machine to its confirmation; revocation
//	join.go       who may join in a name; words, copies
//	offers.go     what machines are offered, and why they may not have it
//	orders.go     adopting by code: refusals, answers to who asked
//	questions.go  questions of machines that are not adopted
//	replay.go     joins that were taken already
//	requests.go   requests of people: codes, tokens, the window; what is due
//	returning.go  domains with a certificate of ours that are not in the list; a restored hub
//	unsigned.go   domains that joined before they had a key
//	view.go       how machines that wait are shown
package adoption

import (
	"crypto/ecdsa"
	"crypto/x509"
	"fmt"
	"math"
	"time"

	protocol "github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/internal/ratelimit"
	"github.com/jmbarzee/dominion/topics"
)

// What others can make the hub remember or compute is bounded.
const (
	// maxVerifying is how many questions wait for their signature to be verified.
	maxVerifying = 32
	// maxOrders is how many requests to adopt wait for their machines.
	maxOrders = 16
	// orderTimeout is how long such a request waits.
	orderTimeout = 30 * time.Second
	// maxForgotten is of how many domains it is remembered that they were forgotten.
	maxForgotten = 4096
	// maxMembers is how many domains are adopted.
	maxMembers = 4096
	// maxRevokedNames is of how many names it is remembered that a machine with a revoked key
	// asks, and revokedAsks for how long after its last question.
	maxRevokedNames = 64
	revokedAsks     = 30 * time.Second
	// joinSettles is for how long after its join a question of a domain is not taken: it was sent before,
	// while the domain could not reach its hub.
	joinSettles = 15 * time.Second
	// maxCopies is of how many domains copies are remembered.
	maxCopies = 256
	// maxWords is how many words a domain is given in a minute.
	maxWords = 20
	// advanceInterval is how often the running time is charged to tokens.
	advanceInterval = time.Minute
)

// Options are what an Adoption needs of the rest of the hub.
type Options struct {
	// State is what an earlier run stored.
	State protocol.HubState
	// Dominion is the id of the dominion, Name its name.
	Dominion, Name string
	// Authority is SHA-256 of the public key of the authority.
	Authority [32]byte
	// WordKey is the hub's secret for the words of domains.
	WordKey protocol.WordKey
	// Open is [identity] adoption = "open": a window without an end.
	Open bool
	// Sudo reports that dominionctl needs sudo on the hub's machine, for people who are told
	// what to type.
	Sudo bool
	// Embedded reports that the broker says who publishes.
	Embedded bool
	// Keys are the keys of the dominion; nil: nobody is adopted. It is called beside the loop.
	Keys Keys
	// Grant returns the grant that an answer carries, in JSON.
	Grant func() []byte
	// Taken returns why a machine that has not a key may not have a name, because another one without a
	// key has it; nil: it may.
	Taken func(name, id string, now time.Time) error
	// Joined returns the names of the domains that have joined, by id. It is asked when the hub has
	// keys for the first time.
	Joined func() map[string]string
	// Upgrade returns why a question does not come from the one machine that is the domain, as far as
	// the broker's user and heartbeats tell; ErrNotYet: that cannot be told yet.
	Upgrade func(q protocol.Question, user string, now time.Time) error
}

// dominionctl returns how people call it on the hub's machine.
func (o Options) dominionctl() string {
	if o.Sudo {
		return "sudo dominionctl"
	}
	return "dominionctl"
}

// Keys are the keys of the dominion. Its methods may be called from any goroutine.
type Keys interface {
	// Offering returns what an offer is signed with.
	Offering() protocol.HubOptions
	// Certify issues the certificate of a domain.
	Certify(id string, key *ecdsa.PublicKey, now time.Time) ([]*x509.Certificate, error)
	// SignedKeyList returns the key list as a message, and IsRevoked whether it revokes a key.
	SignedKeyList() []byte
	IsRevoked(key string) bool
	// IssuedTo reports whether a certificate is of the dominion and counts, for a domain's id and
	// the hash of its key, and whether the hub remembers that it has issued it.
	IssuedTo(id, key string, certificate [][]byte, now time.Time) (issued, listed bool)
}

// Adoption holds the adoptions. Make it with New.
type Adoption struct {
	o       Options
	state   protocol.HubState
	waiting protocol.Waiting
	window  protocol.Window
	// wrong slows those who type wrong codes.
	wrong protocol.Limiter
	// offers are by the hash of the domain's key.
	offers map[string]*offer
	orders []*order
	// transactions are of the last message of each waiting machine, by hash of its key.
	transactions map[string]string
	// localAddress is where a domain of the hub's own machine reaches the broker.
	localAddress string
	// refusals are why waiting machines were refused last, by hash of the key.
	refusals map[string]string
	// certified are waiting machines that have shown a certificate of the dominion, by hash of the
	// key.
	certified map[string]bool
	// revokedNames are the machines that ask with a key that was revoked, by name.
	revokedNames map[string]revokedAsker
	// copies are by the id of the domain whose key they have.
	copies map[string]copied
	// joins are by the id of the domain.
	joins map[string]joins
	// wordsGiven bounds the words that each domain is given: each is written to the disk at once.
	wordsGiven *ratelimit.Window
	// storing are the offers whose domains are to be stored before they are completed.
	storing   []*offer
	verifying int
	// advancedAt is until when the running time was charged to tokens, and chargedAt to domains
	// without a key.
	advancedAt, chargedAt time.Time
	// viewChanged reports that others are to see something else, and viewAt is when at the
	// earliest.
	viewChanged bool
	viewAt      time.Time
	out         Effects
}

// sender is who sent a message.
type sender struct {
	// address is where it came from; "": that is not known.
	address string
	// user is the broker's user; applicant is set where there is neither one nor a certificate.
	user      string
	applicant bool
}

// copied is a machine with a domain's key and an older word.
type copied struct {
	word, address string
	at            time.Time
}

// revokedAsker is a machine that asks with a key that was revoked.
type revokedAsker struct {
	label string
	at    time.Time
}

// Effects are what the hub carries out, in the order of the fields.
type Effects struct {
	// Store reports that State has changed, and Urgent that it must be on disk before Stored
	// is called. Minor is a change of words alone, which is on disk before a grant with a new
	// one is sent, and can wait otherwise.
	Store, Urgent, Minor bool
	// Members reports, beside Store, that who is adopted has changed.
	Members bool
	// Domains reports that other domains have certificates than before. Revoked are those whose
	// key is not accepted any more; another one may have the name already.
	Domains bool
	Revoked []protocol.Member
	// Ended are the ids of domains from which nothing is taken any more.
	Ended []string
	// Events are to be reported.
	Events []topics.Event
	// Messages are for machines that are not adopted.
	Messages []Message
	// Answers are for those who asked.
	Answers []Answer
	// Work is to be done beside the loop, in order.
	Work []Work
	// LocalToken is to be written to the files for the hub's own machine; nil: none is.
	LocalToken *protocol.Token
}

// Message is for a machine that is not adopted.
type Message struct {
	// KeyHash is the last level of its topic.
	KeyHash string
	Payload protocol.ToDomain
}

// Answer is for whoever made a request.
type Answer struct {
	// To is as it was handed in.
	To  any
	Err error
	// Data is of the answer; nil: there is none.
	Data any
}

// Work takes long and touches nothing of the loop. What it returns is called in the loop.
type Work func() (done func(now time.Time))

// New returns the adoptions of a hub that begins.
func New(o Options) *Adoption {
	a := &Adoption{
		o: o, state: o.State,
		offers: make(map[string]*offer), transactions: make(map[string]string),
		refusals: make(map[string]string), certified: make(map[string]bool), copies: make(map[string]copied),
		revokedNames: make(map[string]revokedAsker), joins: make(map[string]joins), wordsGiven: ratelimit.New(math.MaxInt),
	}
	if a.state.Forgotten == nil {
		a.state.Forgotten = make(map[string]string)
	}
	if a.state.Members == nil {
		a.state.Members = make(map[string]protocol.Member)
	}
	a.window.Always = o.Open && o.Keys != nil
	return a
}

// Begin makes what a start needs: the token of the hub's own machine, where a domain reaches
// the broker at localAddress; "": there is none.
func (a *Adoption) Begin(localAddress string, now time.Time) {
	a.advancedAt, a.localAddress, a.viewChanged = now, localAddress, true
	a.renewLocalToken(now)
	a.recordUnsigned(now)
	a.out.Domains = true
}

// State returns what is to be stored. It must not be changed.
func (a *Adoption) State() protocol.HubState { return a.state }

// Take returns what is to be carried out since the last call.
func (a *Adoption) Take() Effects {
	out := a.out
	a.out = Effects{}
	return out
}

// Pending reports whether Take returns something.
func (a *Adoption) Pending() bool {
	o := &a.out
	return o.Store || o.Minor || o.Domains || o.LocalToken != nil || len(o.Ended)+len(o.Events)+len(o.Messages)+len(o.Answers)+len(o.Work) > 0
}

// Members returns the domains that were adopted, by id. It must not be changed.
func (a *Adoption) Members() map[string]protocol.Member { return a.state.Members }

// named returns the domain of a name that was adopted.
func (a *Adoption) named(name string) (protocol.Member, bool) {
	for _, m := range a.state.Members {
		if m.Name == name {
			return m, true
		}
	}
	return protocol.Member{}, false
}

// put changes a domain that was adopted.
func (a *Adoption) put(m protocol.Member) {
	before, is := a.state.Members[m.ID]
	if !is || before.Name != m.Name || before.KeyHash != m.KeyHash || Unfinished(before) != Unfinished(m) {
		a.out.Domains = true
	}
	a.state.Members[m.ID] = m
	delete(a.state.Forgotten, m.ID)
	if before.Words.Established() && before.Name == m.Name && before.KeyHash == m.KeyHash {
		a.out.Minor = true
	} else {
		a.out.Store, a.out.Members = true, true
	}
}

// event reports something.
func (a *Adoption) event(t topics.EventType, domain, format string, values ...any) {
	a.out.Events = append(a.out.Events, topics.Event{Type: t, Domain: domain, Message: fmt.Sprintf(format, values...)})
}

// send sends a message to a machine that is not adopted.
func (a *Adoption) send(key string, m protocol.ToDomain) {
	m.Transaction = a.transactions[key]
	a.out.Messages = append(a.out.Messages, Message{key, m})
}

// work adds work.
func (a *Adoption) work(w Work) { a.out.Work = append(a.out.Work, w) }
