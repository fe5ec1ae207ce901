package hub

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/definitions"
	"github.com/jmbarzee/dominion/hub/questions"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// definitionsFile has the definitions at run time, in data_dir.
const definitionsFile = "definitions.json"

// Bundles are the bundles in the hub's registry.
type Bundles interface {
	// Resolve returns the bundle of a version. It is called beside the loop.
	Resolve(service, version string) (topics.Bundle, error)
	// Permit sets what a domain may read, by its name.
	Permit(domain string, digests []string)
	// Retain removes the versions of services that are not named, by digest. It is called
	// beside the loop.
	Retain(digests map[string][]string, now time.Time) error
}

// errNoRegistry is the answer of a hub that has no registry.
var errNoRegistry = errors.New("the hub has no registry for bundles: it has no keys, or no HTTPS ([http] listen_tls); see dominionctl status")

// restoreDefinitions takes over the definitions at run time of an earlier run.
func (h *Hub) restoreDefinitions() {
	state := store.ReadNote[definitions.State](h.store, definitionsFile, h.log)
	var defs []services.Definition
	for name, versions := range state {
		if len(versions) == 0 {
			continue
		}
		d, err := config.StoredDefinition(versions[0].TOML, name)
		if err != nil {
			h.log.Error("a definition at run time cannot be read: apply it again", "service", name, "error", err)
			continue
		}
		d.Bundle = versions[0].Bundle
		defs = append(defs, d)
	}
	h.defs.Restore(state, defs)
}

// errTooMuchWork is the answer where too much waits to be done beside the loop.
var errTooMuchWork = errors.New("the hub has too much to do: try again in a minute")

// apply defines services at run time, or says what would come of it. It is answered later: the
// text is read and its bundles are looked up beside the loop.
func (h *Hub) apply(ask topics.HubRequest, user string, to later, now time.Time) error {
	if ask.TOML == "" {
		if ask.Service == "" {
			return errors.New(`the request needs "toml": one or more [services.NAME]`)
		}
		err := h.undefine(ask.Service, user, now)
		to.reply(topics.Applied{Services: []topics.DefinitionView{}}, err)
		return nil
	}
	if h.work.Len() >= maxWork {
		return errTooMuchWork
	}
	var others []services.Definition
	for _, d := range h.defs.Configured() {
		others = append(others, d)
	}
	prefix, bundles := h.tree.Prefix(), h.bundles
	h.work.Put(func() func(time.Time) {
		changes, err := readChanges(ask.TOML, prefix, others, bundles)
		return func(now time.Time) {
			if err == nil {
				err = h.define(ask, changes, user, to, now)
			}
			if err != nil {
				to.reply(nil, err)
			}
		}
	})
	return nil
}

// readChanges reads the text of an apply, and looks up its bundles.
func readChanges(text, prefix string, others []services.Definition, bundles Bundles) ([]definitions.Change, error) {
	defs, err := config.ParseDefinitions(text, prefix, others)
	if err != nil {
		return nil, err
	}
	texts, err := config.SplitDefinitions(text)
	if err != nil {
		return nil, err
	}
	var all []definitions.Change
	for _, d := range defs {
		c := definitions.Change{Definition: d, Version: definitions.Version{TOML: texts[d.Name]}}
		if d.Bundle != nil {
			if bundles == nil {
				return nil, errNoRegistry
			}
			b, err := bundles.Resolve(d.Name, d.Bundle.Version)
			if err != nil {
				return nil, fmt.Errorf("the bundle of %s: %w; push it first, or `dominionctl deploy`", d.Name, err)
			}
			c.Definition.Bundle, c.Version.Bundle = &b, &b
		}
		all = append(all, c)
	}
	return all, nil
}

// define puts definitions in force that were read, or asks what would come of them.
func (h *Hub) define(ask topics.HubRequest, changes []definitions.Change, user string, to later, now time.Time) error {
	for i := range changes {
		c := &changes[i]
		c.At, c.By = topics.At(now), user
		name := c.Definition.Name
		if h.defs.InFile(name) {
			return fmt.Errorf("%s is defined in %s, which alone changes it: take it out there and reload the hub, or choose another name", name, h.cfg.File)
		}
		before := h.defs.Versions(name)
		if ask.Base != "" && (len(before) == 0 || before[0].Base() != ask.Base) {
			return fmt.Errorf("the definition of %s is not the one that was edited: %s; read it again and apply your change to it", name, changedBy(before))
		}
	}
	if ask.Plan {
		return h.askForecast(ask, changes, to, now)
	}
	h.defs.Define(changes)
	if err := h.store.WriteNote(definitionsFile, h.defs.State()); err != nil {
		h.log.Error("the definitions at run time are not stored", "error", err)
		h.afterDefinitions(changes, user)
		return fmt.Errorf("in force, but not stored, so that a restart of the hub loses it: %w", err)
	}
	h.afterDefinitions(changes, user)
	to.reply(topics.Applied{Services: viewsOf(changes)}, nil)
	return nil
}

// changedBy describes the last change of a definition.
func changedBy(versions []definitions.Version) string {
	if len(versions) == 0 {
		return "there is none any more"
	}
	who := versions[0].By
	if who == "" {
		who = "the control socket"
	}
	return fmt.Sprintf("%s changed it at %s", who, versions[0].At.Time.Format(time.DateTime))
}

// afterDefinitions has everything planned that follows from definitions that changed.
func (h *Hub) afterDefinitions(changes []definitions.Change, user string) {
	for _, c := range changes {
		what := c.Definition.Name + " was defined"
		if c.Definition.Bundle != nil {
			what = fmt.Sprintf("%s %s was deployed", c.Definition.Name, c.Definition.Bundle.Version)
		}
		if user != "" {
			what += " by " + user
		}
		h.events.Add(topics.Event{Type: topics.ServiceDefined, Service: c.Definition.Name, Message: what})
	}
	h.configureLeases() // before an exclusive service is ordered
	h.changed.TouchAll()
	h.followFigures()
	h.updateWatch()
	h.retainBundles()
}

// askForecast has the answer be what the definitions would do.
func (h *Hub) askForecast(ask topics.HubRequest, changes []definitions.Change, to later, now time.Time) error {
	next := h.defs.All()
	for name := range h.defs.RetiredDefinitions() {
		delete(next, name)
	}
	for _, c := range changes {
		next[c.Definition.Name] = c.Definition
	}
	applied := topics.Applied{Services: viewsOf(changes)}
	return h.pending.questions.Put(questions.Question{
		Verb: topics.VerbPlan, Ask: topics.HubRequest{Transaction: ask.Transaction}, Next: next, Asker: to.answer.Topic,
		Reply: to.answer, Publish: to.publish, Until: now.Add(questions.Timeout),
		Wrap: func(lines []topics.PlanLine) any { applied.Plan = lines; return applied },
	})
}

// viewsOf returns definitions as they are answered.
func viewsOf(changes []definitions.Change) []topics.DefinitionView {
	var all []topics.DefinitionView
	for _, c := range changes {
		all = append(all, topics.DefinitionView{Service: c.Definition.Name, Base: c.Base(), TOML: c.TOML})
	}
	return all
}

// undefine ends a definition at run time: the service stops, and its topics are cleared.
func (h *Hub) undefine(name, user string, now time.Time) error {
	if h.defs.InFile(name) {
		return fmt.Errorf("%s is defined in %s: take it out there and reload the hub", name, h.cfg.File)
	}
	if !h.defs.Undefine(name) {
		return fmt.Errorf("no service %q is defined at run time", name)
	}
	h.changed.TouchAll()
	h.retainBundles()
	if err := h.store.WriteNote(definitionsFile, h.defs.State()); err != nil {
		return fmt.Errorf("%s ends, but that is not stored, so that a restart of the hub brings it back: %w", name, err)
	}
	return nil
}

// definition returns the definition of a service.
func (h *Hub) definition(name string) (any, error) {
	if err := h.checkService(name); err != nil {
		return nil, err
	}
	if h.defs.InFile(name) {
		return topics.DefinitionView{Service: name, Source: h.cfg.File}, nil
	}
	versions := h.defs.Versions(name)
	if len(versions) == 0 {
		return nil, fmt.Errorf("%s is not defined any more", name)
	}
	return topics.DefinitionView{Service: name, Base: versions[0].Base(), TOML: versions[0].TOML}, nil
}

// serviceVersions returns the last versions of a service, the newest first.
func (h *Hub) serviceVersions(name string) (any, error) {
	if err := h.checkService(name); err != nil {
		return nil, err
	}
	all := []topics.ServiceVersion{}
	for i, v := range h.defs.Versions(name) {
		one := topics.ServiceVersion{At: v.At, By: v.By, Current: i == 0 && !h.defs.InFile(name), Base: v.Base()}
		if v.Bundle != nil {
			one.Version, one.Digest = v.Bundle.Version, v.Bundle.Digest
		}
		all = append(all, one)
	}
	return all, nil
}

// rollback defines a service as it was with a former version.
func (h *Hub) rollback(ask topics.HubRequest, user string, to later, now time.Time) error {
	if err := h.checkService(ask.Service); err != nil {
		return err
	}
	versions := h.defs.Versions(ask.Service)
	at := slices.IndexFunc(versions, func(v definitions.Version) bool {
		if v.Bundle == nil || versions[0].Bundle != nil && v.Bundle.Digest == versions[0].Bundle.Digest {
			return false
		}
		return ask.Version == "" || v.Bundle.Version == ask.Version
	})
	if at < 0 {
		if ask.Version != "" {
			return fmt.Errorf("%s has no former version %s: `dominionctl versions %s` lists them", ask.Service, ask.Version, ask.Service)
		}
		return fmt.Errorf("%s has no former version: nothing else was deployed of it", ask.Service)
	}
	former := versions[at]
	d, err := config.StoredDefinition(former.TOML, ask.Service)
	if err != nil {
		return fmt.Errorf("the definition of version %s cannot be read: %w", former.Bundle.Version, err)
	}
	d.Bundle = former.Bundle
	ask.Base, ask.Plan = "", false
	return h.define(ask, []definitions.Change{{Version: definitions.Version{TOML: former.TOML, Bundle: former.Bundle}, Definition: d}}, user, to, now)
}

// retainBundles has the registry remove what neither a version nor an order names.
func (h *Hub) retainBundles() {
	if h.bundles == nil {
		return
	}
	keep := make(map[string][]string)
	for name, versions := range h.defs.State() {
		for _, v := range versions {
			if v.Bundle != nil {
				keep[name] = append(keep[name], v.Bundle.Digest)
			}
		}
	}
	for name, bundles := range h.ops.rollouts.Bundles() {
		keep[name] = append(keep[name], bundles...)
	}
	bundles := h.bundles
	h.work.Put(func() func(time.Time) {
		err := bundles.Retain(keep, time.Now())
		return func(time.Time) {
			if err != nil {
				h.log.Warn("old bundles stay in the registry", "error", err)
			}
		}
	})
}

// formerBundle returns the bundle to which a domain goes back by itself: the one that was
// healthy last, where it is another one than it is assigned.
func (h *Hub) formerBundle(service string, assigned *topics.Bundle) *topics.Bundle {
	if assigned == nil {
		return nil
	}
	if stable := h.store.Rollout(service).Stable; stable != nil && stable.Bundle != nil && stable.Bundle.Digest != assigned.Digest {
		return stable.Bundle
	}
	if former := h.defs.Former(service); former != nil && former.Digest != assigned.Digest {
		return former
	}
	return nil
}

// permitBundles lets a domain read the bundles that a start command for it names.
func (h *Hub) permitBundles(d *domain, specs map[string]topics.Spec) {
	if h.bundles == nil {
		return
	}
	var digests []string
	for _, s := range specs {
		for _, b := range []*topics.Bundle{s.Bundle, s.Former} {
			if b == nil {
				continue
			}
			if v, found := b.For(d.Status.Platform); found {
				digests = append(digests, b.Digest, v.Manifest, v.Layer)
			}
		}
	}
	h.bundles.Permit(d.Name, digests)
}
