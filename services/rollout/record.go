package rollout

import (
	"reflect"

	"github.com/jmbarzee/dominion/topics"
)

// Record is what must be persisted of how a service changed: a hub that starts goes on
// from it. It may hold secrets: the environment of a service is in its spec.
type Record struct {
	// Stable is the last spec with which all instances got healthy; nil: none yet.
	Stable *topics.Spec `json:"stable,omitempty"`
	// Refused is the identity of the spec that did not get healthy; "": none.
	Refused string `json:"refused,omitempty"`
	// Why is why it was refused, for people.
	Why string `json:"why,omitempty"`
	// Excused are the domains where the instance was in trouble before it was changed.
	Excused []string `json:"excused,omitempty"`
	// Versions are those that did not get healthy, and why.
	Versions map[string]string `json:"versions,omitempty"`
	// Approved are the versions that a person wants, where updates are manual.
	Approved []string `json:"approved,omitempty"`
	// Attempt counts how often a person tried again.
	Attempt int `json:"attempt,omitempty"`
}

// IsZero reports whether there is nothing to persist.
func (r Record) IsZero() bool { return reflect.ValueOf(r).IsZero() }
