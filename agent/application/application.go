// Package application is how a domain lets itself be adopted: what it asks the hubs
// that it reaches, by which code, token or window, and which of their answers it takes.
//
// It carries package identity/adoption's half of the domain: messages in, messages out,
// the time handed in. It does no I/O and has no goroutine; what costs time, the key of a
// code, is computed by its user. It knows no other part of the agent. Only package agent
// imports it.
package application

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

// maxHeld bounds the answers that wait for the key of the code.
const maxHeld = 8

// Options are who applies, and where.
type Options struct {
	Applicant adoption.ApplicantOptions
	// Dominion is the name or id of the only dominion that may adopt; "": any.
	Dominion string
	// Open is true where the machine's own configuration always lets any dominion that
	// is open adopt it.
	Open bool
}

// Message is a message to a hub.
type Message struct {
	// To is where the hub is reached, as Answer was given it.
	To      string
	Payload []byte
}

// Application is what a domain asks until it is adopted. Make it with New.
type Application struct {
	o         Options
	applicant *adoption.Applicant
	codeKey   adoption.CodeKey
	token     *adoption.Token
	// openUntil is when the domain's own window closes; zero: it is closed.
	openUntil time.Time
	// held are answers by code that came before the code's key was computed, by where
	// they came from.
	held map[string]adoption.Answer
	// hubs are where the hubs of dominions that answered are reached.
	hubs map[string]string
	// problem is why the last answer was not taken, and refusal what a hub said that
	// refuses the domain: nobody has proved anything with it.
	problem, refusal string
}

// New returns an application.
func New(o Options) (*Application, error) {
	a := &Application{o: o, held: make(map[string]adoption.Answer), hubs: make(map[string]string)}
	var err error
	if a.applicant, err = adoption.NewApplicant(o.Applicant); err != nil {
		return nil, err
	}
	a.setMeans()
	return a, nil
}

// setMeans says to the applicant by what the domain lets itself be adopted now.
func (a *Application) setMeans() {
	a.applicant.SetMeans(adoption.Means{Code: a.codeKey, Token: a.token, Open: a.IsOpen()})
}

// IsOpen reports whether any dominion that is open may adopt the domain.
func (a *Application) IsOpen() bool { return a.o.Open || !a.openUntil.IsZero() }

// Question returns the payload that every hub is asked with.
func (a *Application) Question() ([]byte, error) {
	q, err := a.applicant.Question()
	if err != nil {
		return nil, err
	}
	return toHub(adoption.ToHub{Question: &q}), nil
}

// toHub returns the payload of a message to a hub.
func toHub(m adoption.ToHub) []byte {
	m.Transaction = topics.NewID()
	return topics.Encode(m)
}

// SetToken sets the token by which the domain joins; nil: it has none.
func (a *Application) SetToken(t *adoption.Token) {
	a.token, a.refusal = t, ""
	a.setMeans()
}

// SetOpen opens the domain's own window until a time.
func (a *Application) SetOpen(until time.Time) {
	a.openUntil = until
	a.setMeans()
}

// SetCodeKey sets the key of the code, and takes the answers that waited for it. nil is
// the key of a code that is not computed yet.
func (a *Application) SetCodeKey(k adoption.CodeKey, now time.Time) ([]Message, error) {
	a.codeKey = k
	a.setMeans()
	if k == nil {
		clear(a.held)
		return nil, nil
	}
	var out []Message
	var all error
	for from, m := range a.held {
		more, err := a.take(from, m, now)
		out, all = append(out, more...), errors.Join(all, err)
	}
	clear(a.held)
	return out, all
}

// WaitsForCodeKey reports whether a hub has answered by a code whose key must be computed.
func (a *Application) WaitsForCodeKey() bool { return len(a.held) > 0 && a.codeKey == nil }

// Refusal returns why a hub refuses the domain; "": none does. It is for people: any hub
// can say so.
func (a *Application) Refusal() string { return a.refusal }

// Problem returns why the last answer was not taken; "": there was none, or it was.
func (a *Application) Problem() string { return a.problem }

// Receive takes a message of a hub that is reached at from. It returns what is to be sent,
// and once the domain is adopted what must be stored before the Confirmation is.
func (a *Application) Receive(topic, from string, payload []byte, now time.Time) ([]Message, *adoption.Adopted, error) {
	m, err := adoption.DecodeToDomain(topic, payload)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case m.Error != "":
		a.refusal = readable(m.Error)
		return nil, nil, fmt.Errorf("the hub at %s refuses this domain: %s", from, a.refusal)
	case m.Completion != nil:
		adopted, err := a.applicant.Complete(*m.Completion, now)
		if err != nil {
			return nil, nil, err
		}
		return nil, &adopted, nil
	}
	out, err := a.take(from, *m.Answer, now)
	return out, nil, err
}

// maxRefusal is how much of a refusal people are shown, in bytes.
const maxRefusal = 500

// readable returns what a hub says, as one short line: any program in the network can be that
// hub, and people read this on a terminal.
func readable(said string) string {
	if len(said) > maxRefusal {
		said = said[:maxRefusal] + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(said, ""))
}

// take takes a hub's answer.
func (a *Application) take(from string, m adoption.Answer, now time.Time) ([]Message, error) {
	if d := a.o.Dominion; d != "" && d != m.Dominion && d != m.Name {
		err := fmt.Errorf("dominion %.64q answers, domain.toml wants %q: not joined", m.Name, d)
		a.problem = err.Error()
		return nil, err
	}
	if m.Method == adoption.ByCode && a.codeKey == nil {
		if _, again := a.held[from]; again || len(a.held) < maxHeld {
			a.held[from] = m
		}
		return nil, nil
	}
	if _, known := a.hubs[m.Dominion]; known || len(a.hubs) < maxHeld {
		a.hubs[m.Dominion] = from
	}
	p, err := a.applicant.Answer(m, from, now)
	if err != nil {
		a.problem = err.Error()
	}
	if errors.Is(err, adoption.ErrWrongCode) { // a person waits for what the question says of it now
		if q, failed := a.Question(); failed == nil {
			return []Message{{from, q}}, err
		}
	}
	if err != nil {
		return nil, err
	}
	a.problem = ""
	return proof(from, p), nil
}

// proof returns the message with a proof, if there is one.
func proof(to string, p *adoption.Proof) []Message {
	if p == nil {
		return nil
	}
	return []Message{{to, toHub(adoption.ToHub{Proof: p})}}
}

// Confirmation returns the last message. What Receive returned must have been stored.
func (a *Application) Confirmation() ([]byte, error) {
	c, err := a.applicant.Confirmation()
	if err != nil {
		return nil, err
	}
	return toHub(adoption.ToHub{Confirmation: &c}), nil
}

// Expire closes the domain's window, gives up a hub that does not go on, and decides for
// the only dominion that is open. An error says why it cannot decide.
func (a *Application) Expire(now time.Time) ([]Message, error) {
	if !a.openUntil.IsZero() && !now.Before(a.openUntil) {
		a.SetOpen(time.Time{})
	}
	if err := a.applicant.Expire(now); err != nil {
		return nil, err
	}
	p, err := a.applicant.Choose(now)
	if err != nil {
		a.problem = err.Error()
		return nil, err
	}
	return proof(a.hubs[a.applicant.Chosen()], p), nil
}

// Next returns when Expire has something to do; zero: not by itself.
func (a *Application) Next() time.Time {
	next := a.applicant.Next()
	if !a.openUntil.IsZero() && (next.IsZero() || a.openUntil.Before(next)) {
		next = a.openUntil
	}
	return next
}
