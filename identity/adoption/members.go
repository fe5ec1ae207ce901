package adoption

import (
	"time"
)

// HubState is what a hub stores of adoptions.
type HubState struct {
	// Members are the domains that were adopted, by id.
	Members map[string]Member `json:"members,omitempty"`
	Tokens  Tokens            `json:"tokens,omitzero"`
	// Unsigned are the domains that joined before they had a key; nil: the hub has not had
	// keys yet.
	Unsigned *Unsigned `json:"unsigned,omitempty"`
	// Forgotten are the hashes of the keys of domains that were forgotten, by id.
	Forgotten map[string]string `json:"forgotten,omitempty"`
	// Restored is when it turned out that the hub was restored from a backup; zero: it was not.
	// ListFound is set once a key list that is newer than that of the backup was taken over.
	Restored  time.Time `json:"restored,omitzero"`
	ListFound bool      `json:"list_found,omitempty"`
}

// Unsigned are domains that joined before they had a key.
type Unsigned struct {
	// Names are theirs when they were recorded, by id. One that is adopted is in it no more.
	Names map[string]string `json:"names,omitempty"`
	// Left is for how much longer of the hub's running time they may join without signatures.
	Left time.Duration `json:"left,omitempty"`
	// Required reports that nobody may join without signatures any more.
	Required bool `json:"required,omitempty"`
}

// Member is a domain that was adopted.
type Member struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Key is its public key, as in Question.
	Key []byte `json:"key"`
	// KeyHash is the hash of Key.
	KeyHash string `json:"key_hash"`
	// Recipient is the age recipient that secrets are sealed to, as in Question.
	Recipient string    `json:"recipient,omitempty"`
	Words     Words     `json:"words"`
	Method    Method    `json:"method"`
	At        time.Time `json:"at"`
	// WordsLost is set until the next join where the hub has lost the words that it gave last.
	WordsLost bool `json:"words_lost,omitempty"`
	// Token is the id of the token that let it join; "": none did.
	Token string `json:"token,omitempty"`
}

// Transcript returns SHA-256 of the transcript, which the domain's messages name.
func (o *Offer) Transcript() []byte { return o.transcript }

// Proved reports whether the domain has proved itself.
func (o *Offer) Proved() bool { return o.proved }
