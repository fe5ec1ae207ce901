package hub

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/autoscale"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// scaling is what the hub knows of figures, and the numbers that follow them.
// What is decided is in services/autoscale; here is where figures come from and
// where numbers go.
type scaling struct {
	services map[string]*scaler
	said     map[string]*said  // by topic, of those that are followed
	watched  []string          // the topics, sorted
	ran      map[instance]life // what runs of the services
	told     bool              // something came that may change a number
	at       time.Time         // when to look again; zero: nothing is due
}

// scaler is the number of one service.
type scaler struct {
	scale    services.Scale
	begun    bool // it follows its figure
	state    autoscale.State
	outcome  autoscale.Outcome
	planned  planner.Scaled // as the plan was told
	reasonAt time.Time      // when the plan was told of another reason last
}

// reasonsApart is the least time between two plans for a figure that comes and
// goes and changes no number.
const reasonsApart = 5 * time.Second

// said is the last payload of a topic.
type said struct {
	payload []byte
	at      time.Time                 // when it was said, as far as we know
	refused string                    // why we cannot hear it
	found   map[string]autoscale.Said // what it holds, by field
}

// instance is one service on one domain.
type instance struct{ service, domain string }

// life is one run of an instance, since we saw it running.
type life struct {
	pid, restarts int
	since         time.Time
}

// unheard tells that the broker does not let us hear a topic.
type unheard struct {
	topic string
	err   error
}

func newScaling() scaling {
	return scaling{services: make(map[string]*scaler), said: make(map[string]*said)}
}

// followFigures takes over from the configuration which service follows which
// figure, and tells the bus what we want to hear. Numbers stay as they are.
func (h *Hub) followFigures() {
	s := &h.scaling
	var watch []string
	for name := range s.services {
		if h.defs[name].Scale == nil {
			delete(s.services, name)
		}
	}
	for name, d := range h.defs {
		if d.Scale == nil {
			continue
		}
		one := s.services[name]
		if one == nil {
			one = new(scaler)
			s.services[name] = one
		}
		one.scale, one.state.Low = *d.Scale, autoscale.Low{} // it may be another figure
		if topic := d.Scale.Topic(); topic != "" {
			watch = append(watch, topic)
		}
	}
	slices.Sort(watch)
	watch = slices.Compact(watch)
	for topic := range s.said {
		if _, still := slices.BinarySearch(watch, topic); !still {
			delete(s.said, topic)
		}
	}
	s.told = true
	if slices.Equal(watch, s.watched) {
		return
	}
	s.watched = watch
	h.tellWatch()
}

// hears tells whether a topic comes to us anyway, being among our Filters.
func (h *Hub) hears(topic string) bool {
	a, ours := h.tree.Parse(topic)
	return ours && slices.Contains(h.tree.HubFilters(), h.tree.Filter(a.Kind)) || slices.Contains(h.Filters(), topic)
}

// figure keeps what is said at a topic that a service follows. A retained
// message counts as any other: it is the last word. Nobody tells how old that
// is; it is new to us when we hear it first, and no younger when a broker that
// came back repeats it.
func (h *Hub) figure(m topics.Message, now time.Time) {
	if _, followed := slices.BinarySearch(h.scaling.watched, m.Topic); followed {
		next := &said{payload: slices.Clone(m.Payload[:min(len(m.Payload), autoscale.MaxPayload+1)]), at: now} // enough to tell that it is too long
		if last := h.scaling.said[m.Topic]; m.Retain && last != nil && bytes.Equal(last.payload, next.payload) {
			next.at = last.at
		}
		h.scaling.said[m.Topic] = next
		h.scaling.told = true
	}
}

func (h *Hub) cannotHear(u unheard, now time.Time) {
	if _, wanted := slices.BinarySearch(h.around.watch, u.topic); wanted && h.around.state != nil {
		h.around.state.Unheard(u.topic, u.err, now)
	}
	if _, followed := slices.BinarySearch(h.scaling.watched, u.topic); followed {
		h.scaling.said[u.topic] = &said{refused: u.err.Error()}
		h.scaling.told = true
	}
}

// usage keeps what a domain says of its services. What the broker had stored is
// of any age.
func (h *Hub) usage(d *domain, m topics.Metrics, retained bool, now time.Time) {
	if !retained {
		h.usageChanged(d, now) // also of what is not told of any more
		d.usage, d.usageAt, h.scaling.told = m.Services, now, true
		h.usageChanged(d, now)
	}
}

// scaleAll decides the numbers anew where something was told or is due.
func (h *Hub) scaleAll(now time.Time) {
	s := &h.scaling
	if len(s.services) == 0 {
		return
	}
	if s.told || !s.at.IsZero() && !now.Before(s.at) {
		s.told, s.at = false, time.Time{}
		there, used := h.instances(now)
		for name, one := range s.services {
			h.scaleOne(name, one, there[name], used[name], now)
		}
	}
	if !s.at.IsZero() {
		h.due(s.at)
	}
}

func (h *Hub) scaleOne(name string, one *scaler, there int, used []autoscale.Instance, now time.Time) {
	if follows := h.followsFigure(name); !follows || !one.begun {
		// What is there when somebody looks at the figure is where it begins.
		one.begun = follows
		one.state = autoscale.Begin(one.scale, there)
		one.outcome = autoscale.Outcome{Number: one.state.Number, Reason: one.state.Why}
	}
	if one.begun {
		was := one.state.Number
		one.state, one.outcome = autoscale.Step(one.scale, one.state, h.figureOf(one, used, now), now.Sub(h.started))
		if one.state.Number != was {
			h.events.Add(topics.Event{Type: topics.ServiceScaled, Service: name, Message: name + " is " + one.outcome.Reason})
		}
		if one.outcome.Next > 0 {
			h.scaling.due(h.started.Add(one.outcome.Next))
		}
	}
	next := planner.Scaled{Number: one.outcome.Number, Reason: one.outcome.Reason}
	switch {
	case next == one.planned:
	case next.Number == one.planned.Number && now.Sub(one.reasonAt) < reasonsApart:
		h.scaling.due(one.reasonAt.Add(reasonsApart))
	default:
		one.planned, one.reasonAt = next, now
		h.touchService(name)
	}
}

func (s *scaling) due(at time.Time) {
	if s.at.IsZero() || at.Before(s.at) {
		s.at = at
	}
}

// replicas is on how many domains a service is to run while it is wanted, 0
// where that is each one that can.
func (h *Hub) replicas(name string) int {
	d, asked := h.definition(name), h.store.Want(name).Replicas
	switch {
	case d.Exclusive:
		return 1
	case asked > 0:
		return asked
	case d.Scale != nil:
		n := d.Scale.Min
		if one := h.scaling.services[name]; one != nil {
			n = max(n, one.planned.Number)
		}
		return min(n, d.Scale.Max)
	case d.Replicas > 0:
		return d.Replicas
	case d.Priority == services.Required:
		return 0
	}
	return 1
}

// followsFigure tells whether a service's number is the figure's now: it is
// wanted, and nobody has asked for another number.
func (h *Hub) followsFigure(name string) bool {
	o := h.plan.Services[name]
	return h.ready && o != nil && o.On && h.store.Want(name).Replicas == 0
}

// figureOf is what is known of a service's figure. What we or a domain of ours
// said last holds until something else is said: only a stranger's word ages.
func (h *Hub) figureOf(one *scaler, used []autoscale.Instance, now time.Time) autoscale.Figure {
	f := autoscale.Figure{Instances: used}
	if !h.connected {
		f.Deaf = "the broker is away"
	}
	topic := one.scale.Topic()
	last := h.scaling.said[topic]
	switch {
	case last == nil: // cpu and memory too
	case last.refused != "":
		f.Said.Fault = last.refused
	case len(last.payload) > 0: // an empty one clears what was retained
		f.Said = last.find(topic, one.scale.Field)
		if _, ours := h.tree.Parse(topic); !ours {
			f.Said.Age = now.Sub(last.at)
		}
	}
	return f
}

// find reads the number in a payload, once.
func (s *said) find(topic, field string) autoscale.Said {
	if found, done := s.found[field]; done {
		return found
	}
	var found autoscale.Said
	if v, err := autoscale.Parse(s.payload, field); err != nil {
		found.Fault = fmt.Sprintf("what %s says cannot be used: %v", topic, err)
	} else {
		found = autoscale.Said{Known: true, Value: v}
	}
	if s.found == nil {
		s.found = make(map[string]autoscale.Said)
	}
	s.found[field] = found
	return found
}

// instances counts what is there of each service that is scaled, and says what
// those that run use.
func (h *Hub) instances(now time.Time) (there map[string]int, used map[string][]autoscale.Instance) {
	there, used = make(map[string]int), make(map[string][]autoscale.Instance)
	ran := make(map[instance]life)
	for _, d := range h.sortedDomains() {
		if d.status == nil || d.gone || d.micro {
			continue
		}
		for _, i := range d.status.Services {
			one := h.scaling.services[i.Service]
			if one == nil || !i.State.Listed() || i.State == topics.Stopping {
				continue
			}
			there[i.Service]++
			if i.State != topics.Running {
				continue
			}
			at := instance{i.Service, d.name}
			l, seen := h.scaling.ran[at]
			if !seen || l.pid != i.PID || l.restarts != i.Restarts {
				l = life{i.PID, i.Restarts, now}
			}
			ran[at] = l
			u, told := d.usage[i.Service]
			sample := autoscale.Instance{Domain: d.name, Told: told, Age: now.Sub(d.usageAt), Ran: d.usageAt.Sub(l.since), Value: u.CPU}
			if one.scale.Metric == services.ScaleByMemory {
				sample.Value = float64(u.Memory)
			}
			used[i.Service] = append(used[i.Service], sample)
		}
	}
	h.scaling.ran = ran
	return there, used
}

// scaled are the numbers as the planner takes them.
func (h *Hub) scaled() map[string]planner.Scaled {
	all := make(map[string]planner.Scaled, len(h.scaling.services))
	for name, one := range h.scaling.services {
		all[name] = one.planned
	}
	return all
}

// figureNow says what a service's figure says at this moment, "" where it has
// none or that is the reason anyway.
func (h *Hub) figureNow(name string) string {
	one := h.scaling.services[name]
	if one == nil || !one.begun || one.outcome.Now == one.planned.Reason {
		return ""
	}
	return one.outcome.Now
}
