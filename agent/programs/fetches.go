package programs

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Fetch is a bundle that is to be pulled and made ready.
type Fetch struct {
	Service string
	Spec    topics.Spec
	Variant topics.BundleVariant
}

// fetch is a bundle that is not ready.
type fetch struct {
	Fetch
	// since is when it was ordered; retry when it is begun, unless it is busy.
	since, retry time.Time
	delay        time.Duration
	busy         bool
	percent      int
	// problem is why the last try failed.
	problem string
}

// The bounds of what is pulled at a time, and of the time between two tries.
const (
	maxFetches = 2
	minDelay   = time.Second
	maxDelay   = time.Minute
	soonDelay  = 3 * time.Second // at most, where the hub has said that it is too early
)

// fetch returns the fetch of a bundle, a new one if there was none.
func (p *Programs) fetch(v topics.BundleVariant, name string, s topics.Spec) *fetch {
	f := p.fetches[v.Layer]
	if f == nil {
		f = &fetch{}
		p.fetches[v.Layer] = f
	}
	if !f.busy {
		f.Fetch = Fetch{name, s, v}
	}
	return f
}

// want drops the fetches of other layers than those that are wanted, and begins what is due. One
// that is busy goes on to its end.
func (p *Programs) want(wanted map[string]bool, now time.Time) {
	maps.DeleteFunc(p.fetches, func(layer string, f *fetch) bool { return !wanted[layer] && !f.busy })
	p.begin(now)
}

// begin begins the fetches that are due.
func (p *Programs) begin(now time.Time) {
	busy := 0
	for _, f := range p.fetches {
		if f.busy {
			busy++
		}
	}
	for _, layer := range slices.Sorted(maps.Keys(p.fetches)) {
		f := p.fetches[layer]
		if busy == maxFetches {
			return
		}
		if !f.busy && !now.Before(f.retry) {
			f.busy = true
			busy++
			p.o.Begin(f.Fetch)
		}
	}
}

// Progress notes how much of a layer is there, in percent.
func (p *Programs) Progress(layer string, percent int) {
	if f := p.fetches[layer]; f != nil {
		f.percent = percent
	}
}

// Result is how a fetch ended.
type Result struct {
	Layer string
	// Dir is where the bundle is; "": Err is why it is not ready.
	Dir string
	Err error
	// Soon is set where it is worth to try again soon.
	Soon bool
}

// ErrBuild is the error of a bundle that cannot be built: it is not tried again by itself soon.
var ErrBuild = errors.New("it could not be built")

// Done takes the result of a fetch. It reports whether Decide may decide otherwise now.
func (p *Programs) Done(r Result, now time.Time) bool {
	f := p.fetches[r.Layer]
	if f == nil {
		return false
	}
	f.busy, p.unused = false, true
	if r.Err == nil {
		delete(p.fetches, r.Layer)
		p.known[r.Layer] = r.Dir
		return true
	}
	f.problem = r.Err.Error()
	f.delay = min(max(2*f.delay, minDelay), maxDelay)
	switch {
	case r.Soon:
		f.delay = min(f.delay, soonDelay)
	case errors.Is(r.Err, ErrBuild):
		f.delay, f.percent = maxDelay, 0
	}
	f.retry = now.Add(f.delay)
	return true // another one may begin
}

// Next returns when Expire has something to do; zero: not by itself.
func (p *Programs) Next(now time.Time) (at time.Time) {
	sooner := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	busy := 0
	for _, f := range p.fetches {
		if f.busy {
			busy++
		}
	}
	for _, f := range p.fetches {
		if !f.busy && busy < maxFetches {
			sooner(f.retry)
		}
	}
	for name, from := range p.switched {
		s := p.ordered[name]
		if due := from.Add(p.o.StartTimeout(name)); due.After(now) && p.unproved(name, s) {
			sooner(due)
		}
	}
	return at
}
