package hub

import (
	"maps"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/topics"
)

// formerTrees takes back what this dominion published below a topic_prefix that it had
// before. The prefixes are in the store until nothing is left below them. A prefix
// below which the hub of another dominion published its status is that one's now,
// and nothing is touched there.
type formerTrees struct {
	prefixes map[string]*formerPrefix
	watch    []string  // filters, sorted
	at       time.Time // when to look; zero: not before a domain comes
	until    time.Time // how long Home Assistant is waited for
}

type formerPrefix struct {
	tree     topics.Tree
	ours     bool                      // the status there has our id
	late     bool                      // nothing came in time, and it was waited for
	retained map[string]topics.Address // by topic
	live     map[string]bool           // domains of which something came that was not retained
}

const (
	// formerRest is how long after the hub is ready Home Assistant has been told of the
	// topics that it reads from now on.
	formerRest = 3 * time.Second
	// formerPatience is how long a broker of others may take to replay what it retains.
	formerPatience = 30 * time.Second
	// maxFormer bounds the topics below one former prefix.
	maxFormer = 1 << 16
)

// readFormer returns the former prefixes that the store remembers.
func readFormer(s *store.Store, current string) formerTrees {
	f := formerTrees{prefixes: make(map[string]*formerPrefix)}
	for _, prefix := range append(slices.Clone(s.FormerPrefixes()), s.Prefix()) {
		if prefix == "" || prefix == current || f.prefixes[prefix] != nil {
			continue
		}
		f.prefixes[prefix] = &formerPrefix{
			tree: topics.NewTree(prefix), retained: make(map[string]topics.Address), live: make(map[string]bool),
		}
	}
	f.follow()
	return f
}

// remember writes the prefixes, the current one too, into the state.
func (f *formerTrees) remember(s *store.State, current string) {
	s.Prefix, s.FormerPrefixes = current, slices.Sorted(maps.Keys(f.prefixes))
}

// follow finds what has to be heard.
func (f *formerTrees) follow() {
	f.watch = nil
	for _, p := range f.prefixes {
		for _, e := range topics.Catalog() {
			if e.Retain {
				f.watch = append(f.watch, p.tree.Filter(e.Kind))
			}
		}
	}
	slices.Sort(f.watch)
}

// receiveFormer takes what comes below a former prefix. ours is false for other
// topics.
func (h *Hub) receiveFormer(m topics.Message) (ours bool) {
	for _, p := range h.formerTrees.prefixes {
		a, is := p.tree.Parse(m.Topic)
		if !is {
			continue
		}
		switch {
		case len(m.Payload) == 0:
			delete(p.retained, m.Topic)
		case !m.Retain:
			p.live[a.Domain] = true
		case len(p.retained) < maxFormer:
			p.retained[m.Topic] = a
		}
		if a.Kind == topics.HubStatus && len(m.Payload) > 0 {
			s, err := topics.Decode[topics.Hub](m.Topic, m.Payload)
			p.ours = err == nil && s.ID == h.ID()
		}
		return true
	}
	return false
}

// formerDue has former prefixes looked at once the rest is over.
func (h *Hub) formerDue(now time.Time) {
	if len(h.formerTrees.prefixes) > 0 && h.ready {
		h.formerTrees.at, h.stirred = now.Add(formerRest), true
		h.formerTrees.until = now.Add(formerPatience)
	}
}

// expireFormer clears what is retained below former prefixes. What a domain and
// the hub published of it stays while the domain has not come below the new prefix:
// its agent may have the former one yet, and Home Assistant reads it there.
func (h *Hub) expireFormer(now time.Time) {
	f := &h.formerTrees
	if f.at.IsZero() {
		return
	}
	if !now.Before(f.at) && now.Before(f.until) && !h.announcer.Idle() {
		f.at = now.Add(formerRest) // there is something yet that Home Assistant was not told
	}
	if now.Before(f.at) {
		h.due(f.at)
		return
	}
	f.at = time.Time{}
	changed := false
	for _, prefix := range slices.Sorted(maps.Keys(f.prefixes)) {
		p := f.prefixes[prefix]
		if len(p.retained) == 0 && !p.ours && !p.late {
			p.late, f.at = true, now.Add(formerPatience)
			h.due(f.at)
			continue
		}
		if h.clearFormer(p) {
			delete(f.prefixes, prefix)
			changed = true
			h.log.Info("nothing is left below a former topic_prefix", "prefix", prefix)
		}
	}
	if changed {
		f.follow()
		h.updateWatch()
		h.keep(func(s *store.State) { f.remember(s, h.tree.Prefix()) })
	}
}

// clearFormer clears what may go below a former prefix, and reports whether that is
// all. The hub's availability and status go last: what Home Assistant has of a domain
// that has not come reads them, and after a restart the id in the status tells whose
// the rest is.
func (h *Hub) clearFormer(p *formerPrefix) (all bool) {
	if !p.ours {
		return true
	}
	last := func(a topics.Address) bool { return a.Kind == topics.HubStatus || a.Kind == topics.HubAvailability }
	left := 0
	for _, end := range []bool{false, true} {
		if left > 0 {
			break
		}
		for _, topic := range slices.Sorted(maps.Keys(p.retained)) {
			switch a := p.retained[topic]; {
			case last(a) != end:
			case h.formerMayGo(p, a):
				delete(p.retained, topic)
				h.pub.Publish(topics.Message{Topic: topic, QoS: 1, Retain: true})
			default:
				left++
			}
		}
	}
	return left == 0
}

// formerMayGo reports whether a topic below a former prefix is read by nobody who has
// the present one.
func (h *Hub) formerMayGo(p *formerPrefix, a topics.Address) bool {
	if a.Domain == "" || a.Kind == topics.DomainServicesSet {
		return true
	}
	if d := h.domains[a.Domain]; d != nil {
		return d.Status != nil
	}
	return !p.live[a.Domain]
}

// formerDisconnected forgets what comes again with the next connection.
func (h *Hub) formerDisconnected() {
	h.formerTrees.at = time.Time{}
	for _, p := range h.formerTrees.prefixes {
		p.ours = false
		clear(p.retained)
		clear(p.live)
	}
}
