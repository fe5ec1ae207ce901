// Package definitions holds the definitions of the services: those of the configuration, and
// those that are gone from it while something of their services is left.
//
// It does no I/O and knows no other part of the hub. Package hub alone imports it, and calls
// it from its loop.
package definitions

import (
	"maps"
	"slices"

	"github.com/jmbarzee/dominion/services"
)

// Definitions holds the definitions. Make it with New.
type Definitions struct {
	// configured and retired have no name in common.
	configured map[string]services.Definition
	retired    map[string]services.Definition
}

// New returns the definitions of a configuration.
func New(configured []services.Definition) *Definitions {
	return &Definitions{configured: ByName(configured), retired: make(map[string]services.Definition)}
}

// ByName returns definitions by their name.
func ByName(defs []services.Definition) map[string]services.Definition {
	all := make(map[string]services.Definition, len(defs))
	for _, d := range defs {
		all[d.Name] = d
	}
	return all
}

// Reload takes over the definitions of another configuration. Those that are gone from it
// are retired.
func (d *Definitions) Reload(configured []services.Definition) {
	next := ByName(configured)
	d.configured, d.retired = next, d.RetiredBy(next)
}

// RetiredBy returns the definitions that would be retired with next as those of the
// configuration.
func (d *Definitions) RetiredBy(next map[string]services.Definition) map[string]services.Definition {
	retired := d.All()
	maps.DeleteFunc(retired, func(name string, _ services.Definition) bool { _, stays := next[name]; return stays })
	return retired
}

// Configured returns the definitions of the configuration by name. They must not be changed.
func (d *Definitions) Configured() map[string]services.Definition { return d.configured }

// Retired returns the names of the services that are gone from the configuration, sorted.
func (d *Definitions) Retired() []string { return slices.Sorted(maps.Keys(d.retired)) }

// RetiredDefinitions returns the definitions of those, by name. They must not be changed.
func (d *Definitions) RetiredDefinitions() map[string]services.Definition { return d.retired }

// All returns a copy of all definitions, retired ones too.
func (d *Definitions) All() map[string]services.Definition {
	all := maps.Clone(d.retired)
	maps.Copy(all, d.configured)
	return all
}

// Get returns the definition of a service, a retired one too; the zero value: there is none.
func (d *Definitions) Get(name string) services.Definition {
	if def, is := d.configured[name]; is {
		return def
	}
	return d.retired[name]
}

// Has reports whether a service is in the configuration, or was and still stops.
func (d *Definitions) Has(name string) bool {
	_, is := d.configured[name]
	_, was := d.retired[name]
	return is || was
}

// Remove removes a retired service of which nothing is left.
func (d *Definitions) Remove(name string) { delete(d.retired, name) }
