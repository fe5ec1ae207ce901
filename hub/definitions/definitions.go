// Package definitions holds the definitions of the services: those of the configuration,
// those that were defined at run time with their last versions, and those that are gone while
// something of their services is left.
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
	// files are those of the configuration, atRunTime the others. Where both have one of a
	// name, that of the configuration counts.
	files     map[string]services.Definition
	atRunTime map[string]services.Definition
	// versions are the last ones of those at run time, the newest first.
	versions State
	// configured are all that count. It is replaced, never changed. It has no name in common
	// with retired.
	configured map[string]services.Definition
	retired    map[string]services.Definition
	// bundled are those that count and have a bundle.
	bundled []*services.Definition
}

// New returns the definitions of a configuration.
func New(files []services.Definition) *Definitions {
	named := ByName(files)
	return &Definitions{files: named, configured: named, atRunTime: make(map[string]services.Definition), retired: make(map[string]services.Definition), versions: make(State)}
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
// are retired, unless they are defined at run time.
func (d *Definitions) Reload(files []services.Definition) {
	d.files = ByName(files)
	d.combine()
}

// combine decides which definitions count, and which are retired.
func (d *Definitions) combine() {
	next := maps.Clone(d.atRunTime)
	maps.Copy(next, d.files)
	d.configured, d.retired = next, d.RetiredBy(next)
	d.bundled = nil
	for _, def := range next {
		if def.Bundle != nil {
			d.bundled = append(d.bundled, &def)
		}
	}
}

// RetiredBy returns the definitions that would be retired with next as those that count.
func (d *Definitions) RetiredBy(next map[string]services.Definition) map[string]services.Definition {
	retired := d.All()
	maps.DeleteFunc(retired, func(name string, _ services.Definition) bool { _, stays := next[name]; return stays })
	return retired
}

// Configured returns the definitions that count by name. They must not be changed.
func (d *Definitions) Configured() map[string]services.Definition { return d.configured }

// Bundled returns the definitions that count whose programs are in the registry, in no order.
// They must not be changed.
func (d *Definitions) Bundled() []*services.Definition { return d.bundled }

// InFile reports whether the configuration defines a service, so that it cannot be changed at
// run time.
func (d *Definitions) InFile(name string) bool {
	_, is := d.files[name]
	return is
}

// Retired returns the names of the services that are not defined any more, sorted.
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

// Has reports whether a service is defined, or was and still stops.
func (d *Definitions) Has(name string) bool {
	_, is := d.configured[name]
	_, was := d.retired[name]
	return is || was
}

// Remove removes a retired service of which nothing is left.
func (d *Definitions) Remove(name string) { delete(d.retired, name) }
