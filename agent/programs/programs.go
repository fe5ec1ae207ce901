// Package programs decides what each service of a domain runs from: its directory in
// services_dir, or a bundle that the hub has deployed. It holds a new bundle back until it is
// whole on the disk, so that nothing that runs is stopped before its successor can start, and it
// goes back to the bundle that was healthy last where no hub is heard.
//
// It does no I/O and has no goroutine: it asks and orders by the functions of Options, and is
// driven by one loop. It decides neither which services run (that is the start command's) nor how
// a process is kept running (supervisor). Only agent imports it.
//
// # Files
//
//	fetches.go   bundles that are pulled: how many, how often
//	healthy.go   which bundle was healthy last, and going back to it
//	programs.go  what each service runs from
//	show.go      what is reported of services that wait for a bundle
package programs

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Options are what Programs asks and orders.
type Options struct {
	// Platform is that of this machine.
	Platform string
	// Accept returns how far the domain trusts its dominion.
	Accept func() string
	// Local reports whether services_dir has a service.
	Local func(service string) bool
	// Find returns the directory of a bundle that is ready to run; false: it is not on the disk,
	// or is still to be built.
	Find func(service string, v topics.BundleVariant) (dir string, found bool)
	// Begin has a bundle pulled and made ready beside the loop. Done ends it.
	Begin func(Fetch)
	// StartTimeout returns within which time a service must be healthy that the supervisor was
	// given; its own service.toml may say it.
	StartTimeout func(service string) time.Duration
	// Report publishes an event.
	Report func(kind topics.EventType, service, message string)
	// Store stores what New takes.
	Store func(map[string]Record)
}

// Record is what is stored of a service.
type Record struct {
	// Healthy is the spec whose bundle was healthy last.
	Healthy *topics.Spec `json:"healthy,omitempty"`
	// Reverted is the revision that this domain went back from; "": from none.
	Reverted string `json:"reverted,omitempty"`
}

// Programs is what the services of a domain run from. Make it with New.
type Programs struct {
	o       Options
	records map[string]Record
	// ordered are the specs of the start command, running those that the supervisor was given.
	ordered, running map[string]topics.Spec
	// switched is since when a service has the bundle that it was ordered.
	switched map[string]time.Time
	// since is since when a service waits for its first bundle.
	since map[string]time.Time
	// known are directories of bundles that are on the disk, by layer.
	known map[string]string
	// local are the services with a bundle that services_dir has, too.
	local map[string]bool
	// fetches are by layer.
	fetches map[string]*fetch
	// started is set once the first start command was applied.
	started bool
	// unused is set when bundles may be on the disk that nothing needs.
	unused bool
}

// New returns the Programs of a domain with what was stored.
func New(o Options, records map[string]Record) *Programs {
	p := &Programs{
		o: o, records: make(map[string]Record), ordered: make(map[string]topics.Spec), running: make(map[string]topics.Spec),
		switched: make(map[string]time.Time), since: make(map[string]time.Time), known: make(map[string]string), fetches: make(map[string]*fetch), unused: true,
	}
	maps.Copy(p.records, records)
	return p
}

// Adopt notes the specs of what runs at the start of the agent.
func (p *Programs) Adopt(specs map[string]topics.Spec) { maps.Copy(p.running, specs) }

// Order takes the services of a start command, and returns what the supervisor is given.
func (p *Programs) Order(specs map[string]topics.Spec, now time.Time) map[string]topics.Spec {
	p.ordered = maps.Clone(specs)
	p.unused = true
	for name, r := range p.records {
		switch s, ordered := specs[name]; {
		case !ordered || s.Bundle == nil:
			p.change(name, Record{})
		case r.Reverted != "" && r.Reverted != s.Revision: // it may be ordered again later
			r.Reverted = ""
			p.change(name, r)
		}
	}
	for _, all := range []map[string]time.Time{p.switched, p.since} {
		maps.DeleteFunc(all, func(name string, _ time.Time) bool { _, ordered := specs[name]; return !ordered })
	}
	return p.Decide(now)
}

// Decide returns what the supervisor is given now.
func (p *Programs) Decide(now time.Time) map[string]topics.Spec {
	running := make(map[string]topics.Spec, len(p.ordered))
	p.local = make(map[string]bool)
	wanted := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(p.ordered)) {
		s := p.ordered[name]
		if s.Bundle != nil && p.o.Local(name) {
			p.local[name] = true
		}
		if s, runs := p.choose(name, s, wanted, now); runs {
			running[name] = s
		}
	}
	p.running, p.started = running, true
	p.want(wanted, now)
	return running
}

// Reconsider reports whether services_dir has another service of those with a bundle than at the
// last decision.
func (p *Programs) Reconsider() bool {
	for name, s := range p.ordered {
		if s.Bundle != nil && p.o.Local(name) != p.local[name] {
			return true
		}
	}
	return false
}

// choose returns what a service runs from now; false: from nothing, as it waits for its bundle.
// The layer that it waits for is added to wanted.
func (p *Programs) choose(name string, s topics.Spec, wanted map[string]bool, now time.Time) (topics.Spec, bool) {
	if s.Bundle == nil || p.o.Local(name) || p.Refuse(name, s) != "" {
		delete(p.since, name)
		return s, true
	}
	v, _ := s.Bundle.For(p.o.Platform)
	before, ran := p.running[name]
	if p.records[name].Reverted == s.Revision && s.Revision != "" {
		if former, found := p.former(name, s); found {
			return former, true
		}
	}
	if _, found := p.find(name, v); found {
		delete(p.since, name)
		if !ran || before.Revision != s.Revision || p.switched[name].IsZero() {
			p.switched[name] = now
		}
		return s, true
	}
	wanted[v.Layer] = true
	if f := p.fetch(v, name, s); f.since.IsZero() {
		f.since = now
	}
	if ran {
		before.Dependencies, before.Former = s.Dependencies, s.Former
		return before, true
	}
	if !p.started { // after a boot, what was there runs
		if former, found := p.former(name, s); found {
			return former, true
		}
	}
	if p.since[name].IsZero() {
		p.since[name] = now
	}
	return topics.Spec{}, false
}

// former returns the spec by which a service runs the bundle that was healthy last, where that
// is on the disk.
func (p *Programs) former(name string, s topics.Spec) (topics.Spec, bool) {
	former, healthy := s, p.records[name].Healthy
	switch {
	case healthy != nil && healthy.Bundle != nil && healthy.Revision != s.Revision:
		former = *healthy
	case s.Former != nil:
		former.Bundle = s.Former
		former.Revision = "former" + digits(s.Former.Digest)
	default:
		return topics.Spec{}, false
	}
	v, runs := former.Bundle.For(p.o.Platform)
	if !runs {
		return topics.Spec{}, false
	}
	former.Dependencies, former.Former = s.Dependencies, s.Former
	_, found := p.find(name, v)
	return former, found
}

// digits returns the first digits of a digest.
func digits(digest string) string {
	hex := strings.TrimPrefix(digest, "sha256:")
	return hex[:min(12, len(hex))]
}

// find returns the directory of a bundle that is ready to run.
func (p *Programs) find(name string, v topics.BundleVariant) (string, bool) {
	if dir, known := p.known[v.Layer]; known {
		return dir, true
	}
	dir, found := p.o.Find(name, v)
	if found {
		p.known[v.Layer] = dir
	}
	return dir, found
}

// Refuse returns why this domain does not run a spec; "": it does.
func (p *Programs) Refuse(service string, s topics.Spec) string {
	if s.Bundle == nil || p.o.Local(service) {
		return ""
	}
	if accept := p.o.Accept(); accept != topics.AcceptDeploy && accept != topics.AcceptUpgrade {
		return fmt.Sprintf("bundle: the dominion may not deploy programs here (accept = %q in domain.toml): write accept = %q there, or put the service into services_dir", accept, topics.AcceptDeploy)
	}
	if _, runs := s.Bundle.For(p.o.Platform); !runs {
		return fmt.Sprintf("bundle: version %s has no programs for %s, but for %s: deploy it with --platform %s", s.Bundle.Version, cmp.Or(p.o.Platform, "this machine"), strings.Join(s.Bundle.Platforms(), ", "), p.o.Platform)
	}
	return ""
}

// Directory returns the directory of a service's bundle, and its version; "": it runs from
// services_dir. An error means that the bundle is not there.
func (p *Programs) Directory(service string, s topics.Spec) (dir, version string, err error) {
	if s.Bundle == nil || p.o.Local(service) {
		return "", "", nil
	}
	if v, runs := s.Bundle.For(p.o.Platform); runs {
		if dir, found := p.find(service, v); found {
			return dir, s.Bundle.Version, nil
		}
	}
	return "", "", fmt.Errorf("its bundle %s is not on the disk", s.Bundle.Version)
}

// Deployed reports whether a service runs from a bundle.
func (p *Programs) Deployed(service string) bool {
	s, runs := p.running[service]
	if !runs {
		s = p.ordered[service]
	}
	return s.Bundle != nil && !p.o.Local(service)
}

// Unused returns which bundles are needed, if others may be on the disk. alive are those that
// processes run from: while one of these is not needed otherwise, nothing is removed.
func (p *Programs) Unused(alive []*topics.Bundle) (needed []topics.BundleVariant, any bool) {
	if !p.unused {
		return nil, false
	}
	add := func(b *topics.Bundle) {
		if b == nil {
			return
		}
		if v, runs := b.For(p.o.Platform); runs {
			needed = append(needed, v)
		}
	}
	for _, s := range p.ordered {
		add(s.Bundle)
		add(s.Former)
	}
	for _, s := range p.running {
		add(s.Bundle)
	}
	for _, r := range p.records {
		if r.Healthy != nil {
			add(r.Healthy.Bundle)
		}
	}
	ordered := len(needed)
	for _, b := range alive {
		add(b)
	}
	for _, v := range needed[ordered:] {
		if !slices.ContainsFunc(needed[:ordered], func(n topics.BundleVariant) bool { return n.Layer == v.Layer }) {
			return nil, false // when its processes have ended
		}
	}
	p.unused = false
	maps.DeleteFunc(p.known, func(layer, _ string) bool {
		return !slices.ContainsFunc(needed, func(n topics.BundleVariant) bool { return n.Layer == layer })
	})
	return needed, true
}

// change replaces the record of a service.
func (p *Programs) change(name string, r Record) {
	if r == (Record{}) {
		delete(p.records, name)
	} else {
		p.records[name] = r
	}
	p.o.Store(maps.Clone(p.records))
}
