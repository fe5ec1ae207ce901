package definitions

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// MaxVersions is how many versions of a service are kept.
const MaxVersions = 10

// Version is a definition at run time, as it is stored.
type Version struct {
	// TOML is its text: [services.NAME] of this service alone.
	TOML string `json:"toml"`
	// Bundle is what its program is in the registry; nil: it is on the disks of the domains.
	Bundle *topics.Bundle `json:"bundle,omitempty"`
	At     topics.Time    `json:"at"`
	// By is the user who defined it; "": at the control socket.
	By string `json:"by,omitempty"`
}

// Base returns the revision of the definition.
func (v Version) Base() string {
	text := v.TOML
	if v.Bundle != nil {
		text += "\x00" + v.Bundle.Digest
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:6])
}

// State is what is stored of the definitions at run time: the versions of each service, the
// newest first, which is the one that counts.
type State map[string][]Version

// Change is a definition at run time.
type Change struct {
	Version
	Definition services.Definition
}

// Define defines services at run time, or changes such definitions. One that is the same as
// before is no new version.
func (d *Definitions) Define(all []Change) {
	for _, c := range all {
		name := c.Definition.Name
		d.atRunTime[name] = c.Definition
		before := d.versions[name]
		if len(before) > 0 && before[0].Base() == c.Base() {
			continue
		}
		kept := slices.Concat([]Version{c.Version}, before)
		d.versions[name] = kept[:min(len(kept), MaxVersions)]
	}
	d.combine()
}

// Undefine ends a definition at run time. It returns false where there is none.
func (d *Definitions) Undefine(name string) bool {
	if _, is := d.atRunTime[name]; !is {
		return false
	}
	delete(d.atRunTime, name)
	delete(d.versions, name)
	d.combine()
	return true
}

// Restore takes over what was stored, with the definitions of the versions that count.
func (d *Definitions) Restore(state State, defs []services.Definition) {
	d.versions = state
	if d.versions == nil {
		d.versions = make(State)
	}
	d.atRunTime = ByName(defs)
	d.combine()
}

// State returns what is to be stored. It must not be changed.
func (d *Definitions) State() State { return d.versions }

// Versions returns the versions of a service, the newest first.
func (d *Definitions) Versions(name string) []Version { return d.versions[name] }

// AtRunTime returns the definitions at run time, sorted by name; of those that a file defines
// too, the file's counts.
func (d *Definitions) AtRunTime() []services.Definition {
	var all []services.Definition
	for _, name := range slices.Sorted(maps.Keys(d.atRunTime)) {
		all = append(all, d.atRunTime[name])
	}
	return all
}

// Former returns the bundle that a service had before the one that counts: the newest of
// another content; nil: there is none.
func (d *Definitions) Former(name string) *topics.Bundle {
	def := d.configured[name]
	if def.Bundle == nil {
		return nil
	}
	for _, v := range d.versions[name] {
		if v.Bundle != nil && v.Bundle.Digest != def.Bundle.Digest {
			return v.Bundle
		}
	}
	return nil
}
