package adoption

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
)

// maxPending bounds the words that a domain has not confirmed.
const maxPending = 4

// Words are the words of a domain, as its hub stores them. Each join gives the domain a new word, which it
// stores before it confirms. Two machines with one key, such as a copied SD card, soon have
// different words: the one that shows an older word is the copy, and is refused.
type Words struct {
	// Confirmed is the word that the domain is certain to have; "" before the first confirmation.
	Confirmed string `json:"confirmed,omitempty"`
	// Pending are later words, oldest first, that the domain may have stored or not.
	Pending []string `json:"pending,omitempty"`
}

// WordKey is the secret of a hub by which it knows its words and their order, also after it
// was restored from a backup: words that it gave since are newer than those that it stores.
type WordKey []byte

// The parts of a word, in hexadecimal digits: its number, a random part, and a MAC.
const (
	numberDigits = 16
	randomDigits = 16
	macDigits    = 32
	wordDigits   = numberDigits + randomDigits + macDigits // as long as an id may be
)

// New makes the next word of a domain.
func (k WordKey) New(id string, w Words) string { return k.NewFrom(id, w, 0) }

// NewFrom makes the next word of a domain, with at least a number: the hub does not know the words
// that it gave before.
func (k WordKey) NewFrom(id string, w Words, least uint64) string {
	var random [randomDigits / 2]byte
	rand.Read(random[:])
	body := fmt.Sprintf("%016x%x", max(w.last()+1, least), random)
	return body + k.mac(id, body)
}

// Newer reports whether this hub gave a word to a domain after those that it stores: a hub
// that was restored from a backup has forgotten it.
func (k WordKey) Newer(id, word string, w Words) bool {
	if len(k) == 0 || len(word) != wordDigits {
		return false
	}
	body := word[:numberDigits+randomDigits]
	if !hmac.Equal([]byte(word[len(body):]), []byte(k.mac(id, body))) {
		return false
	}
	return number(word) > w.last()
}

// last returns the number of the newest word.
func (w Words) last() uint64 {
	last := number(w.Confirmed)
	for _, word := range w.Pending {
		last = max(last, number(word))
	}
	return last
}

// mac returns the MAC of a word's beginning for a domain.
func (k WordKey) mac(id, body string) string {
	m := hmac.New(sha256.New, k)
	fmt.Fprintf(m, "dominion word 1\n%s\n%s", id, body)
	return hex.EncodeToString(m.Sum(nil))[:macDigits]
}

// number returns the number of a word; 0 for "", or a word without one.
func number(word string) uint64 {
	if len(word) != wordDigits {
		return 0
	}
	n, err := strconv.ParseUint(word[:numberDigits], 16, 63)
	if err != nil {
		return 0
	}
	return n
}

// Give returns the words after another one was given. They must be stored before it is sent.
func (w Words) Give(word string) Words {
	pending := append(slices.Clone(w.Pending), word)
	if len(pending) > maxPending {
		pending = pending[len(pending)-maxPending:]
	}
	return Words{Confirmed: w.Confirmed, Pending: pending}
}

// Valid reports whether a machine that shows a word may be the domain: it has the confirmed
// word, or one that was given since. Otherwise it is a copy or a restored image.
func (w Words) Valid(word string) bool {
	return word != "" && (word == w.Confirmed || slices.Contains(w.Pending, word))
}

// Confirm returns the words after the domain has confirmed one, or shown it at a join. Earlier
// words are not valid any more. confirmed is false for a word that is not valid.
func (w Words) Confirm(word string) (after Words, confirmed bool) {
	if !w.Valid(word) {
		return w, false
	}
	after = Words{Confirmed: word}
	if i := slices.Index(w.Pending, word); i >= 0 {
		after.Pending = slices.Clone(w.Pending[i+1:])
	} else {
		after.Pending = slices.Clone(w.Pending)
	}
	return after, true
}

// Established reports whether the domain has ever confirmed: until then it may be waiting again.
func (w Words) Established() bool { return w.Confirmed != "" }
