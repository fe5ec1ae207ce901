package planner

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// unfitness is why a domain cannot run a service as both are described, and what
// becomes of a copy that is there all the same. The zero value is fit.
type unfitness struct {
	reason string
	ends   ending
}

// ending is when a copy on an unfit domain ends.
type ending int

const (
	endsNow          ending = iota // it must not be there
	endsWhenServed                 // when its replacement serves, or none can come
	endsWhenReplaced               // when its replacement serves; it stays while none can come
)

// unfit is an ordered table: the first row that fits decides. It depends on
// the definition and the domain only: the result is valid until one of them changes.
func unfit(def *services.Definition, d *Domain) unfitness {
	name := def.Name
	switch {
	case d.Micro:
		return unfitness{d.Name + " is a microdomain and runs what is built into it", endsNow}
	case d.Problem != "":
		return unfitness{d.Name + " " + d.Problem, endsNow}
	case missingTrait(def.Traits, d.Traits) != "":
		return unfitness{d.Name + " does not offer the trait " + missingTrait(def.Traits, d.Traits), endsNow}
	case len(def.Domains) > 0 && !slices.Contains(def.Domains, d.Name):
		return unfitness{"it is pinned to " + list(def.Domains), endsWhenServed}
	}
	switch version, held := d.Catalog[name]; {
	case !held && def.Bundle != nil:
		return unfitness{RefusesBundle(def, d), endsWhenReplaced}
	case !held:
		return unfitness{fmt.Sprintf("%s has no usable %s in its services_dir", d.Name, name), endsWhenReplaced}
	case def.Version.Contains(version):
	case version == "" || services.IsContentVersion(version):
		return unfitness{fmt.Sprintf("%s has %s without a version, %s is asked for", d.Name, name, def.Version), endsWhenReplaced}
	default:
		return unfitness{fmt.Sprintf("%s has %s %s, %s is asked for", d.Name, name, version, def.Version), endsWhenReplaced}
	}
	if needs, has := float64(def.Needs.Memory), float64(d.Machine.Memory); has > 0 && needs > has {
		return unfitness{fmt.Sprintf("%s has %s of memory, %s needs %s", d.Name, size(has), name, size(needs)), endsWhenReplaced}
	}
	return unfitness{lackingSecret(def, d), endsWhenReplaced}
}

// RefusesBundle returns why a domain cannot be given the bundle of a service; "" if it can.
func RefusesBundle(def *services.Definition, d *Domain) string {
	if d.Platform == "" || d.Accept == "" {
		return fmt.Sprintf("%s does not tell its platform: upgrade its agent, or copy %s into its services_dir", d.Name, def.Name)
	}
	if d.Accept != topics.AcceptDeploy && d.Accept != topics.AcceptUpgrade {
		return fmt.Sprintf("%s takes no programs from its dominion: it has accept = %q in its domain.toml, deploying needs %q", d.Name, d.Accept, topics.AcceptDeploy)
	}
	if _, found := def.Bundle.For(d.Platform); !found {
		return fmt.Sprintf("%s is %s, and %s %s is for %s", d.Name, d.Platform, def.Name, def.Bundle.Version, strings.Join(def.Bundle.Platforms(), ", "))
	}
	return ""
}

// lackingSecret returns why a domain cannot be given the secrets of a service; "" if it
// can.
func lackingSecret(def *services.Definition, d *Domain) string {
	names := topics.SecretNames(def.Environment)
	if len(names) == 0 {
		return ""
	}
	if d.NoSecrets != "" {
		return d.NoSecrets
	}
	for _, name := range names {
		if !d.Secrets[name] {
			return fmt.Sprintf("the secret %s is missing: `dominionctl secret set %s` sets it", name, name)
		}
	}
	return ""
}

// unavailable returns why a domain that could run a service is assigned nothing now,
// "" where it can be.
func unavailable(d *Domain) string {
	if d.Draining {
		return d.Name + " is draining"
	}
	if d.State != topics.DomainIsOnline {
		return d.Name + " is " + string(d.State)
	}
	return ""
}

func missingTrait(needed, offered []string) string {
	for _, t := range needed {
		if !slices.Contains(offered, t) {
			return t
		}
	}
	return ""
}

// Unmet describes the dependency that a service would have to wait for if it were
// started now; "" where it could start.
func (p *Planner) Unmet(name string) string {
	if p.defs[name] == nil {
		return ""
	}
	for _, dep := range p.defs[name].Dependencies {
		builtIn := slices.ContainsFunc(p.subject(dep.Service).cells, func(c *cell) bool { _, runs := c.builtIn(); return runs })
		if p.overrides[dep.Service].Switch == topics.Off && !builtIn { // it may not have stopped yet
			return fmt.Sprintf("waits for %s, which is switched off", dep.Service)
		}
	}
	return p.unmet(name)
}

// unmet describes the dependency that a service has to wait for before it starts
// anywhere, "" when each runs and is healthy, or has finished.
func (h *home) unmet(name string) string {
	for _, dep := range h.defs[name].Dependencies {
		best, def := "", h.defs[dep.Service]
		for _, c := range h.read(dep.Service).cells {
			d, i := c.site, c.instance
			if d.Gone || d.State == topics.DomainIsLost || !c.observed {
				continue
			}
			if i.State != topics.Finished && !i.State.Listed() && !i.Done {
				continue // there is no instance
			}
			switch {
			case i.State == topics.Finished && !i.Done:
				best = fmt.Sprintf("waits for %s, which ended on %s without success", dep.Service, d.Name)
			case i.usable() && def != nil && def.Oneshot:
				best = fmt.Sprintf("waits for %s, which has not ended yet on %s", dep.Service, d.Name)
			case !i.usable() && !i.Done:
				best = fmt.Sprintf("waits for %s, which is %s on %s", dep.Service, describe(i), d.Name)
			case !dep.Version.Contains(i.Version):
				best = fmt.Sprintf("waits for %s %s; %s runs %s", dep.Service, dep.Version, d.Name, orUnknown(i.Version))
			default:
				best = "met"
			}
			if best == "met" {
				break
			}
		}
		switch {
		case best == "met":
			continue
		case best != "":
			return best
		case !h.on[dep.Service]:
			return fmt.Sprintf("waits for %s, which is %s", dep.Service, h.why[dep.Service])
		default:
			return fmt.Sprintf("waits for %s, which does not run yet", dep.Service)
		}
	}
	return ""
}

func describe(i Instance) string {
	if i.State == topics.Running {
		return string(i.Health)
	}
	return string(i.State)
}

// usableBy counts the wanted dependents whose range contains a version of a service:
// where versions differ, the one that most can use is preferred.
func (h *home) usableBy(name, version string) int {
	n := 0
	for _, t := range h.dependents[name] {
		h.read(t)
		for _, dep := range h.defs[t].Dependencies {
			if dep.Service == name && h.on[t] && dep.Version.Contains(version) {
				n++
			}
		}
	}
	return n
}

func orUnknown(version string) string {
	if version == "" {
		return "an unknown version"
	}
	return version
}

func list(names []string) string {
	const most = 16 // a reason is written for each domain
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	if more := len(names) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), more)
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}
