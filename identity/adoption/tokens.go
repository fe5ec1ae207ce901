package adoption

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Why a token is refused.
var (
	ErrTokenUnknown = errors.New("the hub has no such token: it has expired or was removed")
	ErrTokenUsed    = errors.New("the token has been used")
	ErrTokenUse     = errors.New("the token is for another use")
	ErrTokenName    = errors.New("the token is for another name")
)

// Limits of tokens.
const (
	// DefaultTokenLifetime is the default of token create --expires.
	DefaultTokenLifetime = 24 * time.Hour
	maxTokens            = 128
	maxUses              = 1000
)

// TokenRecord is what a hub stores of a token: nothing that lets join.
type TokenRecord struct {
	// ID names it in lists: the first digits of SHA-256 of its public key.
	ID string `json:"id"`
	// Name is the only name that it lets join; "" is any.
	Name   string            `json:"name,omitempty"`
	Use    TokenUse          `json:"use"`
	Public ed25519.PublicKey `json:"public"`
	// UsesLeft is how many more machines it lets join.
	UsesLeft int `json:"uses_left"`
	// Expires is when it ends by the hub's clock; zero: never.
	Expires time.Time `json:"expires,omitzero"`
	// Left is how much of its lifetime is left, counted while the hub runs.
	Left time.Duration `json:"left,omitempty"`
	// UsedBy are the machines that it let join.
	UsedBy []TokenUser `json:"used_by,omitempty"`
	// Local is true for the token of the hub's own machine.
	Local bool `json:"local,omitempty"`
}

// TokenUser is a machine that joined by a token.
type TokenUser struct {
	Name string    `json:"name"`
	Key  string    `json:"key"`
	At   time.Time `json:"at"`
}

// Tokens are the tokens of a hub, as it stores them. The methods that change something return
// what must be stored first.
type Tokens struct {
	Records []TokenRecord `json:"tokens"`
}

// AddLocal returns the tokens with one for the hub's own machine: it has one use and no end, as it
// is renewed after its use.
func (t Tokens) AddLocal(token Token) (Tokens, error) {
	public := token.PublicKey()
	r := TokenRecord{ID: tokenID(public), Use: token.Use, Public: public, UsesLeft: 1, Local: true}
	if token.Use != ForDomain {
		return t, errors.New("cannot create a token: the hub's own machine has a domain")
	}
	return Tokens{append(slices.Clone(t.Records), r)}, nil
}

// tokenID returns the name of a token in lists.
func tokenID(public ed25519.PublicKey) string {
	sum := sha256.Sum256(public)
	return hex.EncodeToString(sum[:4])
}

// Add returns the tokens with another one. A lifetime of zero never ends.
func (t Tokens) Add(token Token, name string, uses int, lifetime time.Duration, now time.Time) (Tokens, TokenRecord, error) {
	if uses < 1 || uses > maxUses || lifetime < 0 {
		return t, TokenRecord{}, fmt.Errorf("cannot create a token: use 1 to %d uses and a positive lifetime", maxUses)
	}
	if len(t.Records) >= maxTokens {
		return t, TokenRecord{}, fmt.Errorf("cannot create a token: there are %d; remove some", maxTokens)
	}
	public := token.PublicKey()
	r := TokenRecord{ID: tokenID(public), Name: name, Use: token.Use, Public: public, UsesLeft: uses, Left: lifetime}
	if lifetime > 0 {
		r.Expires = now.Add(lifetime).UTC().Round(0)
	}
	return Tokens{append(slices.Clone(t.Records), r)}, r, nil
}

// Remove returns the tokens without the one of an id.
func (t Tokens) Remove(id string) (Tokens, bool) {
	rest := slices.DeleteFunc(slices.Clone(t.Records), func(r TokenRecord) bool { return r.ID == id })
	return Tokens{rest}, len(rest) < len(t.Records)
}

// Check returns the record of a token by which a machine may join. pending is true for a key that the
// hub has stored as unconfirmed, and that is not revoked: if the token let it join, it may use it
// again, so that a power cut does not waste a token.
func (t Tokens) Check(public []byte, use TokenUse, name, keyHash string, pending bool, now time.Time) (TokenRecord, error) {
	i := t.index(public)
	if i < 0 || t.Records[i].expired(now) {
		return TokenRecord{}, ErrTokenUnknown
	}
	r := t.Records[i]
	if r.Use != use {
		return r, fmt.Errorf("%w: it is for a %s", ErrTokenUse, r.Use)
	}
	if r.Name != "" && r.Name != name {
		return r, fmt.Errorf("%w: %s", ErrTokenName, r.Name)
	}
	if pending && r.usedBy(keyHash) {
		return r, nil
	}
	if r.UsesLeft < 1 {
		last := r.UsedBy[len(r.UsedBy)-1]
		return r, fmt.Errorf("%w by %s (%.16s)", ErrTokenUsed, last.Name, last.Key)
	}
	return r, nil
}

// Use returns the tokens after a machine has joined by one of them. It must be stored with the
// machine, before its completion is sent.
func (t Tokens) Use(public []byte, name, keyHash string, now time.Time) Tokens {
	i := t.index(public)
	if i < 0 || t.Records[i].usedBy(keyHash) { // again after a power cut
		return t
	}
	after := Tokens{slices.Clone(t.Records)}
	r := &after.Records[i]
	r.UsesLeft--
	r.UsedBy = append(slices.Clone(r.UsedBy), TokenUser{Name: name, Key: keyHash, At: now.UTC().Round(0)})
	return after
}

func (t Tokens) index(public []byte) int {
	return slices.IndexFunc(t.Records, func(r TokenRecord) bool { return string(r.Public) == string(public) })
}

func (r TokenRecord) usedBy(keyHash string) bool {
	return slices.ContainsFunc(r.UsedBy, func(u TokenUser) bool { return u.Key == keyHash })
}

// expired reports whether a token has ended: by the hub's running time, or earlier by its clock.
func (r TokenRecord) expired(now time.Time) bool {
	return !r.Expires.IsZero() && (r.Left <= 0 || !now.Before(r.Expires))
}

// Advance returns the tokens after the hub has run for a while longer, without those that have
// ended, and which these are. Used ones stay until they end, so that a second use is reported.
func (t Tokens) Advance(ran time.Duration, now time.Time) (after Tokens, ended []TokenRecord) {
	for _, r := range t.Records {
		if !r.Expires.IsZero() {
			r.Left -= ran
		}
		if r.expired(now) {
			ended = append(ended, r)
		} else {
			after.Records = append(after.Records, r)
		}
	}
	return after, ended
}
