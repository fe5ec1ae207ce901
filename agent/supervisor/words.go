package supervisor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// ear is a topic that the health check of a service needs.
type ear struct {
	on      bool // it can be heard
	problem string
}

// topicOf returns the topic that says how a service is; "": none does.
func (s *Supervisor) topicOf(spec topics.Spec) string {
	if h := spec.Health; h != nil {
		return strings.ReplaceAll(h.MQTT, "<domain>", s.o.Name)
	}
	return ""
}

// listen makes it known which topics are needed, by what is here and by what
// is about to be.
func (s *Supervisor) listen(soon map[string]topics.Spec, now time.Time) {
	needed := make(map[string]bool)
	for _, v := range s.services {
		if t := s.topicOf(v.Spec); t != "" && v.State != topics.Stopped {
			needed[t] = true
		}
	}
	for name, spec := range soon {
		if t := s.topicOf(s.complete(name, spec)); t != "" {
			needed[t] = true
		}
	}
	all := slices.Sorted(maps.Keys(needed))
	if !slices.Equal(all, slices.Sorted(maps.Keys(s.ears))) {
		for t := range s.ears {
			if !needed[t] {
				delete(s.ears, t)
			}
		}
		for t := range needed {
			if s.ears[t] == nil {
				s.ears[t] = new(ear)
			}
		}
		s.o.Listen(all)
	}
	for _, name := range s.names() {
		v := s.services[name]
		if e := s.ears[s.topicOf(v.Spec)]; e != nil && (e.on != !v.Listening.IsZero() || e.problem != "" && v.Message == "") {
			s.step(v, listening{e.on, e.problem}, now)
		}
	}
}

// Listening tells that a topic can be heard, or not any more: then problem
// says what somebody must do about it, or is empty.
func (s *Supervisor) Listening(topic string, on bool, problem string, now time.Time) {
	e := s.ears[topic]
	if e == nil || *e == (ear{on, problem}) {
		return
	}
	*e = ear{on, problem}
	for _, name := range s.names() {
		if v := s.services[name]; s.topicOf(v.Spec) == topic {
			s.step(v, listening{on, problem}, now)
		}
	}
	s.write(now)
}

// Hear takes what a topic says. stored tells that it was said before somebody
// listened, which was at the moment asked.
func (s *Supervisor) Hear(topic string, payload []byte, stored bool, asked, now time.Time) {
	if s.ears[topic] == nil {
		return
	}
	for _, name := range s.names() {
		v := s.services[name]
		if s.topicOf(v.Spec) != topic {
			continue
		}
		word := payload[:min(len(payload), len(v.Spec.Health.Payload)+4*maxWord)] // more of it is neither compared nor shown
		// Whoever began to listen at the start of a life hears from a broker what
		// was said before it. Who came later may have missed a word since.
		s.step(v, told{payload: string(word), stored: stored, missed: asked.After(v.Run.Started)}, now)
	}
	s.settle(now)
}

// awaited says whose word makes it ready; "" where it is asked, or left alone.
func (m *move) awaited() string {
	switch m.check() {
	case notifyCheck:
		return "not ready yet: it has not said READY=1"
	case mqttCheck:
		return fmt.Sprintf("not ready yet: %s has not said %q", m.Spec.Health.MQTT, m.Spec.Health.Payload)
	}
	return ""
}
