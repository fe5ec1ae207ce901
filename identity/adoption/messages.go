// Package adoption is the protocol by which a hub and a domain learn each other's key: by a code
// that a person carries, by a token, or by a window that is open on both sides.
//
// Five messages make an adoption:
//
//	domain → hub   Question      who asks; sent until it is answered
//	hub → domain   Answer        who answers, with a proof of the code or a signature by the authority
//	domain → hub   Proof         the same from the domain; nothing is sent to a hub that proved nothing
//	hub → domain   Completion    the domain's certificate, the key list, the word
//	domain → hub   Confirmation  the domain has stored them
//
// The hub stores the domain as unconfirmed before it sends the completion, and the domain stores
// what it has pinned before it sends the confirmation. After a power cut at any step
// either both know each other or the domain waits again.
//
// Applicant is the domain's side and Offer the hub's. Both are without I/O, goroutine and
// clock: messages in, messages out, the time handed in. They are carried at
// request/join and response/join/<hash of the domain's key>.
//
// # Files
//
//	applicant.go  the domain's side
//	code.go       codes
//	limiter.go    wrong codes: how often one may try
//	members.go    states of an adoption as the hub stores them
//	messages.go   the messages and their checks
//	offer.go      the hub's side
//	token.go      a token: its content and text
//	tokens.go     the tokens of a hub: lifetime, uses, number
//	waiting.go    domains that wait: how many, how long
//	window.go     the window: how long it is open
//	words.go      the word by which a hub knows a domain again
package adoption

import (
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// Method is by what a hub and a domain adopt each other.
type Method string

// The methods.
const (
	ByCode   Method = "code"
	ByToken  Method = "token"
	ByWindow Method = "window"
	// ByUpgrade is that of a domain which joined the dominion before it had a key. Nothing but
	// the connection says that it is that one, so hub and domain take it at most once, and
	// nobody who has been adopted otherwise.
	ByUpgrade Method = "upgrade"
	// ByCertificate adopts a domain again that has a certificate of the dominion, which its hub does
	// not know any more: it was restored from a backup.
	ByCertificate Method = "certificate"
)

// MaxMessage is the most bytes of a message of an applicant.
const MaxMessage = 4096

const nonceSize = 32

// Question is a domain's question to join. Its first seven fields are in the transcript; the others are
// hints, and nobody relies on them.
type Question struct {
	Protocol  string `json:"protocol" type:"protocol" doc:"version of this contract"`
	ID        string `json:"id" type:"id" doc:"UUID of the domain"`
	Name      string `json:"name" type:"name" doc:"name of the domain"`
	Key       []byte `json:"key" doc:"base64 of its public key: SubjectPublicKeyInfo in DER, ECDSA P-256"`
	Recipient string `json:"recipient" type:"word" doc:"age X25519 recipient that secrets are sealed to"`
	Ephemeral []byte `json:"ephemeral" doc:"base64 of a key for this exchange: an uncompressed point of P-256"`
	Nonce     []byte `json:"nonce" doc:"base64 of 32 random bytes"`

	Session  string   `json:"session,omitempty" type:"id" doc:"random for each run of the agent"`
	Token    []byte   `json:"token,omitempty" doc:"base64 of the public key of the token by which it asks"`
	Open     bool     `json:"open,omitempty" doc:"true: it joins the one dominion whose window is open"`
	Upgrade  string   `json:"upgrade,omitempty" type:"id" doc:"id of the dominion that it joined before it had a key, and that may take it over"`
	Stranger string   `json:"stranger,omitempty" type:"name" doc:"name of the dominion that it belongs to and does not hear"`
	Refused  []byte   `json:"refused,omitempty" doc:"base64 of SHA-256 of the transcript of an answer whose code was wrong"`
	Address  string   `json:"address,omitempty" type:"address" doc:"of the machine, for people"`
	Model    string   `json:"model,omitempty" type:"line" doc:"of the machine, for people"`
	Problems []string `json:"problems,omitempty" type:"text" doc:"why it could not join, for people"`
	// Certificate is of a domain that belongs to a dominion.
	Certificate [][]byte `json:"certificate,omitempty" doc:"base64 of its certificate (DER) and its issuers without the authority, of a domain that is adopted and asks all the same"`

	// Signature is by the key, of all the above: nobody else can replace a domain's question by
	// his own.
	Signature []byte `json:"signed" doc:"base64 of a signature by the domain's key, r and s"`
}

// Answer is a hub's answer to a question.
type Answer struct {
	Question    []byte   `json:"question" doc:"nonce of the question"`
	Dominion    string   `json:"dominion" type:"id" doc:"id of the dominion"`
	Authority   []byte   `json:"authority" doc:"base64 of the authority's certificate (DER)"`
	Certificate [][]byte `json:"certificate" doc:"base64 of the hub's certificate and its issuers without the authority"`
	Ephemeral   []byte   `json:"ephemeral" doc:"base64 of a key for this exchange: an uncompressed point of P-256"`
	Nonce       []byte   `json:"nonce" doc:"base64 of 32 random bytes"`
	Grant       []byte   `json:"grant" doc:"base64 of the grant, in JSON"`

	Method    Method `json:"method" type:"word" doc:"code, token, window, upgrade or certificate"`
	Proof     []byte `json:"proof,omitempty" doc:"code: base64 of the HMAC by the code's key"`
	Signature []byte `json:"signed" doc:"base64 of a signature by the hub's key, r and s"`
	Name      string `json:"name,omitempty" type:"name" doc:"name of the dominion, for people"`
}

// Proof is a domain's answer to a hub that has proved itself.
type Proof struct {
	Transcript []byte `json:"transcript" doc:"base64 of SHA-256 of the transcript"`
	Proof      []byte `json:"proof,omitempty" doc:"code: base64 of the HMAC by the code's key"`
	Token      []byte `json:"token,omitempty" doc:"token: base64 of the Ed25519 signature by the token's key"`
	Signature  []byte `json:"signed" doc:"base64 of a signature by the domain's key, r and s"`
}

// Completion is what a domain that has proved itself gets.
type Completion struct {
	Transcript  []byte   `json:"transcript" doc:"base64 of SHA-256 of the transcript"`
	Certificate [][]byte `json:"certificate" doc:"base64 of the domain's certificate and its issuers without the authority"`
	Keys        []byte   `json:"keys" doc:"base64 of the key list, as at hub/keys"`
	Word        string   `json:"word" type:"id" doc:"word that the domain shows at its next join"`
	Signature   []byte   `json:"signed" doc:"base64 of a signature by the hub's key, r and s"`
}

// Confirmation says that a domain has stored the completion.
type Confirmation struct {
	Transcript []byte `json:"transcript" doc:"base64 of SHA-256 of the transcript"`
	Word       string `json:"word" type:"id" doc:"the word that it has stored"`
	Signature  []byte `json:"signed" doc:"base64 of a signature by the domain's key, r and s"`
}

// ToHub is the payload of request/join of a domain that is not adopted: one of the three messages.
type ToHub struct {
	Transaction  string        `json:"transaction" type:"text" doc:"repeated in the response"`
	Question     *Question     `json:"question,omitempty" doc:"who asks"`
	Proof        *Proof        `json:"proof,omitempty" doc:"to a hub that has proved itself"`
	Confirmation *Confirmation `json:"confirmation,omitempty" doc:"the completion is stored"`
}

// ToDomain is the payload of response/join/<hash of the key>: one of the two messages, or an error.
type ToDomain struct {
	Transaction string      `json:"transaction" type:"text" doc:"of the request"`
	Answer      *Answer     `json:"answer,omitempty" doc:"a hub that proves itself"`
	Completion  *Completion `json:"completion,omitempty" doc:"to a domain that has proved itself"`
	Error       string      `json:"error,omitempty" type:"text" doc:"why the domain is refused"`
}

// IsAdoption reports whether a payload of request/join is of a domain that is not adopted, without
// verifying anything.
func IsAdoption(payload []byte) bool {
	if len(payload) > MaxMessage {
		return false
	}
	var v struct {
		Question, Proof, Confirmation json.RawMessage
	}
	return json.Unmarshal(payload, &v) == nil && (v.Question != nil || v.Proof != nil || v.Confirmation != nil)
}

// DecodeToHub reads what a domain sends. Exactly one of its messages is there.
func DecodeToHub(topic string, payload []byte) (ToHub, error) {
	if len(payload) > MaxMessage {
		return ToHub{}, fmt.Errorf("cannot read %s: %d bytes are more than %d", topic, len(payload), MaxMessage)
	}
	v, err := decode[ToHub](topic, payload)
	if err != nil {
		return ToHub{}, err
	}
	if count(v.Question != nil, v.Proof != nil, v.Confirmation != nil) != 1 {
		return ToHub{}, fmt.Errorf("cannot read %s: it must have one of question, proof and confirmation", topic)
	}
	if v.Question != nil {
		if _, err := v.Question.check(); err != nil {
			return ToHub{}, fmt.Errorf("cannot read %s: %w", topic, err)
		}
	}
	return v, nil
}

// DecodeToDomain reads what a hub sends. Exactly one of its messages, or an error, is there.
func DecodeToDomain(topic string, payload []byte) (ToDomain, error) {
	v, err := decode[ToDomain](topic, payload)
	if err != nil {
		return ToDomain{}, err
	}
	if count(v.Answer != nil, v.Completion != nil, v.Error != "") != 1 {
		return ToDomain{}, fmt.Errorf("cannot read %s: it must have one of answer, completion and error", topic)
	}
	return v, nil
}

func count(conditions ...bool) (n int) {
	for _, c := range conditions {
		if c {
			n++
		}
	}
	return n
}

// decode reads a payload that has no name twice.
func decode[T any](topic string, payload []byte) (T, error) {
	if err := signed.CheckNames[T](payload); err != nil {
		var zero T
		return zero, fmt.Errorf("cannot read %s: %w", topic, err)
	}
	return topics.Decode[T](topic, payload)
}

// check returns the domain's key, or an error for a question that no agent sends.
func (q Question) check() (*ecdsa.PublicKey, error) {
	switch {
	case q.Protocol == "" || !topics.SameMajor(q.Protocol):
		return nil, fmt.Errorf("field protocol: %.20q, this program speaks %s: bring both to the same version", q.Protocol, topics.Protocol)
	case !topics.ValidID(q.ID):
		return nil, fmt.Errorf("field id: %.80q is not an id", q.ID)
	case !topics.ValidName(q.Name):
		return nil, fmt.Errorf("field name: %.80q is not a name", q.Name)
	case len(q.Nonce) != nonceSize:
		return nil, fmt.Errorf("field nonce: it has %d bytes, want %d", len(q.Nonce), nonceSize)
	case !strings.HasPrefix(q.Recipient, "age1") || len(q.Recipient) > 128:
		return nil, fmt.Errorf("field recipient: %.80q is not a recipient of age", q.Recipient)
	}
	if _, err := signed.ParseEphemeral(q.Ephemeral); err != nil {
		return nil, fmt.Errorf("field ephemeral: %w", err)
	}
	key, err := identity.ParsePublicKey(q.Key)
	if err != nil {
		return nil, fmt.Errorf("field key: %w", err)
	}
	return key, nil
}

// digest returns what the domain signs of a question.
func (q Question) digest() []byte {
	open := []byte{0}
	if q.Open {
		open[0] = 1
	}
	parts := [][]byte{
		[]byte(q.Protocol), []byte(q.ID), []byte(q.Name), q.Key, []byte(q.Recipient), q.Ephemeral, q.Nonce,
		[]byte(q.Session), q.Token, open, []byte(q.Upgrade), []byte(q.Stranger), q.Refused, []byte(q.Address), []byte(q.Model),
	}
	for _, p := range q.Problems {
		parts = append(parts, []byte(p))
	}
	parts = append(parts, q.Certificate...)
	return hashParts(parts...)
}

// Verify returns an error if the question was not signed by its key. Call it beside the loop, before
// the question is shown or answered: otherwise anybody could replace a domain's question.
func (q Question) Verify() error {
	key, err := q.check()
	if err != nil {
		return err
	}
	if !signed.VerifyBytes(key, labelled(questionLabel, q.digest()), q.Signature) {
		return fmt.Errorf("cannot take the question of %s: %w", q.Name, ErrProof)
	}
	return nil
}

// KeyHash returns the hash of the domain's key: the last level of the topic at which it is answered.
func (q Question) KeyHash() string { return identity.HashEncodedKey(q.Key) }

// Topics returns the topic at which a domain asks, and that at which it is answered, by the
// hash of its key.
func Topics(tree topics.Tree, keyHash string) (question, answer string) {
	question, answers := tree.Request(topics.VerbJoin)
	return question, answers + "/" + keyHash
}

// Label returns what hub and domain show people to tell machines apart.
func (q Question) Label() string { return identity.Label(q.KeyHash()) }

// Why an adoption does not go on.
var (
	// ErrWrongCode means that the other side does not have the code.
	ErrWrongCode = errors.New("the code is wrong")
	// ErrTooSoon means that the asker had wrong codes, and has to wait.
	ErrTooSoon = errors.New(strings.TrimSpace(topics.WaitPrefix))
	// ErrNotAsked means that a message does not belong to what this side has sent.
	ErrNotAsked = errors.New("it belongs to no question of this side")
	// ErrMethod means that a domain does not join by the method of an answer.
	ErrMethod = errors.New("this side does not adopt by this method")
	// ErrProof means that a proof or signature is not valid.
	ErrProof = errors.New("its proof is not valid")
	// ErrSender means that a proof is not signed by the key of the domain: somebody else sent it.
	ErrSender = errors.New("it is not of the machine that asked")
	// ErrOtherAuthority means that a hub is not of the authority that a token names.
	ErrOtherAuthority = errors.New("the hub is not of the authority that the token names")
	// ErrTwoOpen means that more than one dominion is open, so that none can be chosen.
	ErrTwoOpen = errors.New("more than one dominion in reach is open")
)
