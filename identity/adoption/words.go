package adoption

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
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

// NewWord makes a word.
func NewWord() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
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
