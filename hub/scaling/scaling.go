// Package scaling keeps the number of instances of each service that follows a figure:
// a number at an MQTT topic, or what its instances use. It owns the last message of each
// topic, the runs of the instances, and the numbers. How a figure becomes a number is
// decided in services/autoscale.
//
// It does no I/O and knows no other part of the hub: messages and instances in, numbers
// out. Package hub alone imports it, and calls it from its loop.
package scaling

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

// Scaling holds the numbers. Make it with New.
type Scaling struct {
	services map[string]*scaler
	// messages are the last ones of the topics that are followed, by topic.
	messages map[string]*message
	// topics are those that are followed, sorted.
	topics []string
	// runs are those of the instances that run.
	runs map[key]run
	// changed is set where something came that may change a number.
	changed bool
	// next is when to step again; zero: nothing is due.
	next time.Time
}

// scaler is the number of one service.
type scaler struct {
	scale services.Scale
	// begun is set where it follows its figure.
	begun   bool
	state   autoscale.State
	outcome autoscale.Outcome
	// planned is what the planner has of it.
	planned planner.Scaled
	// reasonAt is when the planner last got another reason.
	reasonAt time.Time
}

// reasonInterval is the least time between two plans for a figure that comes and goes
// and changes no number.
const reasonInterval = 5 * time.Second

// message is the last payload of a topic.
type message struct {
	payload []byte
	// at is when it was published, or else when it came.
	at time.Time
	// refused is why the broker does not deliver the topic.
	refused string
	// parsed are the numbers in it, by field.
	parsed map[string]autoscale.Sample
}

// key names an instance.
type key struct{ service, domain string }

// run is one run of an instance, since it was reported running.
type run struct {
	pid, restarts int
	since         time.Time
}

// Instance is an instance of a service, as its domain reported it.
type Instance struct {
	Domain string
	topics.Instance
	Usage topics.Usage
	// HasUse is set where Usage was reported.
	HasUse bool
	// UsageAt is when Usage was reported.
	UsageAt time.Time
}

// Home is what a step needs of the rest of the hub.
type Home struct {
	// Started is when this run of the hub began.
	Started time.Time
	// Connected is set while the hub is connected to the broker.
	Connected bool
	// Follows reports whether the figure of a service decides: it is wanted, and nobody has asked for a number.
	Follows func(service string) bool
	// Ours reports whether a topic is one of the dominion, where values hold until another one comes.
	Ours func(topic string) bool
	// Instances are those that are listed, sorted by domain.
	Instances []Instance
}

// Change is what a step changed for a service.
type Change struct {
	Service string
	// Reason is why the number is another one; "" where it is the same.
	Reason string
	// Planned is set where the planner has to get it.
	Planned bool
}

// New returns a Scaling without services.
func New() *Scaling {
	return &Scaling{services: make(map[string]*scaler), messages: make(map[string]*message)}
}

// Configure takes over which services follow which figure. Numbers stay as they are. It
// reports whether other topics than before are followed.
func (s *Scaling) Configure(defs map[string]services.Definition) (otherTopics bool) {
	for name := range s.services {
		if defs[name].Scale == nil {
			delete(s.services, name)
		}
	}
	var followed []string
	for name, d := range defs {
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
			followed = append(followed, topic)
		}
	}
	slices.Sort(followed)
	followed = slices.Compact(followed)
	for topic := range s.messages {
		if _, still := slices.BinarySearch(followed, topic); !still {
			delete(s.messages, topic)
		}
	}
	s.changed = true
	if slices.Equal(followed, s.topics) {
		return false
	}
	s.topics = followed
	return true
}

// Topics returns the topics that are followed, sorted. It must not be changed.
func (s *Scaling) Topics() []string { return s.topics }

func (s *Scaling) follows(topic string) bool {
	_, is := slices.BinarySearch(s.topics, topic)
	return is
}

// Receive stores a message at a topic that a service follows. A retained one counts as
// any other. How old it is is unknown: it is new when it comes first, and no younger
// when a broker that came back repeats it.
func (s *Scaling) Receive(m topics.Message, now time.Time) {
	if !s.follows(m.Topic) {
		return
	}
	// One byte more than is parsed is enough to see that it is too long.
	next := &message{payload: slices.Clone(m.Payload[:min(len(m.Payload), autoscale.MaxPayload+1)]), at: now}
	if last := s.messages[m.Topic]; m.Retain && last != nil && bytes.Equal(last.payload, next.payload) {
		next.at = last.at
	}
	s.messages[m.Topic], s.changed = next, true
}

// Refused notes that the broker does not deliver a topic.
func (s *Scaling) Refused(topic string, err error) {
	if s.follows(topic) {
		s.messages[topic], s.changed = &message{refused: err.Error()}, true
	}
}

// Touch has the next step look at all services: instances, their use or the connection
// changed.
func (s *Scaling) Touch() { s.changed = true }

// Pending reports whether a step at now has something to do.
func (s *Scaling) Pending(now time.Time) bool {
	return len(s.services) > 0 && (s.changed || !s.next.IsZero() && !now.Before(s.next))
}

// Step decides all numbers. It is called where Pending reports true.
func (s *Scaling) Step(home Home, now time.Time) (changes []Change) {
	s.changed, s.next = false, time.Time{}
	count, samples := s.samples(home.Instances, now)
	for name, one := range s.services {
		c := Change{Service: name}
		c.Reason = s.follow(name, one, count[name], samples[name], home, now)
		c.Planned = s.plan(one, now)
		if c.Reason != "" || c.Planned {
			changes = append(changes, c)
		}
	}
	return changes
}

// Next returns when the time alone makes a step necessary; zero: never.
func (s *Scaling) Next() time.Time { return s.next }

func (s *Scaling) due(at time.Time) {
	if s.next.IsZero() || at.Before(s.next) {
		s.next = at
	}
}

// follow takes one step of a service of which count instances are there. It returns why
// the number is another one, "" where it is the same.
func (s *Scaling) follow(name string, one *scaler, count int, samples []autoscale.Instance, home Home, now time.Time) (reason string) {
	follows := home.Follows(name)
	if !follows || !one.begun {
		// The number begins with what is there when the figure begins to decide.
		one.begun = follows
		one.state = autoscale.Begin(one.scale, count)
		one.outcome = autoscale.Outcome{Number: one.state.Number, Reason: one.state.Why}
	}
	if !one.begun {
		return ""
	}
	was := one.state.Number
	one.state, one.outcome = autoscale.Step(one.scale, one.state, s.figure(one, samples, home, now), now.Sub(home.Started))
	if one.outcome.Next > 0 {
		s.due(home.Started.Add(one.outcome.Next))
	}
	if one.state.Number == was {
		return ""
	}
	return one.outcome.Reason
}

// plan takes over what the planner gets of a service, and reports whether that is
// another thing than before.
func (s *Scaling) plan(one *scaler, now time.Time) bool {
	next := planner.Scaled{Number: one.outcome.Number, Reason: one.outcome.Reason}
	if next == one.planned {
		return false
	}
	if next.Number == one.planned.Number && now.Sub(one.reasonAt) < reasonInterval {
		s.due(one.reasonAt.Add(reasonInterval))
		return false
	}
	one.planned, one.reasonAt = next, now
	return true
}

// figure returns a service's figure. A value of the dominion itself
// holds until another one comes: only those of others age.
func (s *Scaling) figure(one *scaler, samples []autoscale.Instance, home Home, now time.Time) autoscale.Figure {
	f := autoscale.Figure{Instances: samples}
	if !home.Connected {
		f.Unavailable = "the broker is away"
	}
	topic := one.scale.Topic()
	last := s.messages[topic]
	if last == nil { // also of a metric
		return f
	}
	if last.refused != "" {
		f.Sample.Fault = last.refused
		return f
	}
	if len(last.payload) > 0 { // an empty one clears what was retained
		f.Sample = last.parse(topic, one.scale.Field)
		if !home.Ours(topic) {
			f.Sample.Age = now.Sub(last.at)
		}
	}
	return f
}

// parse reads the number at a field of the payload, once.
func (m *message) parse(topic, field string) autoscale.Sample {
	if parsed, done := m.parsed[field]; done {
		return parsed
	}
	var parsed autoscale.Sample
	if v, err := autoscale.Parse(m.payload, field); err != nil {
		parsed.Fault = fmt.Sprintf("what %s says cannot be used: %v", topic, err)
	} else {
		parsed = autoscale.Sample{Known: true, Value: v}
	}
	if m.parsed == nil {
		m.parsed = make(map[string]autoscale.Sample)
	}
	m.parsed[field] = parsed
	return parsed
}

// samples counts the instances of each service that is scaled, and returns what those
// that run use.
func (s *Scaling) samples(all []Instance, now time.Time) (count map[string]int, samples map[string][]autoscale.Instance) {
	count, samples = make(map[string]int), make(map[string][]autoscale.Instance)
	runs := make(map[key]run)
	for _, i := range all {
		one := s.services[i.Service]
		if one == nil || i.State == topics.Stopping {
			continue
		}
		count[i.Service]++
		if i.State != topics.Running {
			continue
		}
		k := key{i.Service, i.Domain}
		r, before := s.runs[k]
		if !before || r.pid != i.PID || r.restarts != i.Restarts {
			r = run{i.PID, i.Restarts, now}
		}
		runs[k] = r
		sample := autoscale.Instance{Domain: i.Domain, Reported: i.HasUse, Age: now.Sub(i.UsageAt), Ran: i.UsageAt.Sub(r.since), Value: i.Usage.CPU}
		if one.scale.Metric == services.ScaleByMemory {
			sample.Value = float64(i.Usage.Memory)
		}
		samples[i.Service] = append(samples[i.Service], sample)
	}
	s.runs = runs
	return count, samples
}

// Planned returns the number of a service as the planner takes it; false where it is not
// scaled.
func (s *Scaling) Planned(service string) (planner.Scaled, bool) {
	one := s.services[service]
	if one == nil {
		return planner.Scaled{}, false
	}
	return one.planned, true
}

// AllPlanned returns the number of each service that is scaled.
func (s *Scaling) AllPlanned() map[string]planner.Scaled {
	all := make(map[string]planner.Scaled, len(s.services))
	for name, one := range s.services {
		all[name] = one.planned
	}
	return all
}

// FigureNow describes a service's figure at this moment, "" where it has none or
// that is the reason of its number anyway.
func (s *Scaling) FigureNow(service string) string {
	one := s.services[service]
	if one == nil || !one.begun || one.outcome.Now == one.planned.Reason {
		return ""
	}
	return one.outcome.Now
}
