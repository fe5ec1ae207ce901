package supervisor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// healthTopic is a topic that the health check of a service needs.
type healthTopic struct {
	subscribed bool // it can be heard
	problem    string
}

// healthTopicOf returns the topic that says how a service is; "": none does.
func (s *Supervisor) healthTopicOf(spec topics.Spec) string {
	if h := spec.Health; h != nil {
		return strings.ReplaceAll(h.MQTT, "<domain>", s.o.Name)
	}
	return ""
}

// updateTopics makes it known which topics are needed, by what is here and by what
// is about to be.
func (s *Supervisor) updateTopics(soon map[string]topics.Spec, now time.Time) {
	needed := make(map[string]bool)
	for _, v := range s.services {
		if t := s.healthTopicOf(v.Spec); t != "" && v.State != topics.Stopped {
			needed[t] = true
		}
	}
	for name, spec := range soon {
		if t := s.healthTopicOf(s.complete(name, spec)); t != "" {
			needed[t] = true
		}
	}
	all := slices.Sorted(maps.Keys(needed))
	if !slices.Equal(all, slices.Sorted(maps.Keys(s.healthTopics))) {
		for t := range s.healthTopics {
			if !needed[t] {
				delete(s.healthTopics, t)
			}
		}
		for t := range needed {
			if s.healthTopics[t] == nil {
				s.healthTopics[t] = new(healthTopic)
			}
		}
		s.o.RequireTopics(all)
	}
	for _, name := range s.names() {
		v := s.services[name]
		if e := s.healthTopics[s.healthTopicOf(v.Spec)]; e != nil && (e.subscribed != !v.SubscribedSince.IsZero() || e.problem != "" && v.Message == "") {
			s.step(v, topicSubscribed{e.subscribed, e.problem}, now)
		}
	}
}

// TopicSubscribed tells that a topic can be heard, or not any more: then problem
// says what somebody must do about it, or is empty.
func (s *Supervisor) TopicSubscribed(topic string, on bool, problem string, now time.Time) {
	e := s.healthTopics[topic]
	if e == nil || *e == (healthTopic{on, problem}) {
		return
	}
	*e = healthTopic{on, problem}
	for _, name := range s.names() {
		if v := s.services[name]; s.healthTopicOf(v.Spec) == topic {
			s.step(v, topicSubscribed{on, problem}, now)
		}
	}
	s.write(now)
}

// TopicMessage takes what a topic says. stored tells that it was said before somebody
// listened, which was at the moment asked.
func (s *Supervisor) TopicMessage(topic string, payload []byte, stored bool, asked, now time.Time) {
	if s.healthTopics[topic] == nil {
		return
	}
	for _, name := range s.names() {
		v := s.services[name]
		if s.healthTopicOf(v.Spec) != topic {
			continue
		}
		word := payload[:min(len(payload), len(v.Spec.Health.Payload)+4*maxPayloadShown)] // more of it is neither compared nor shown
		// Whoever began to listen at the start of a life hears from a broker what
		// was said before it. Who came later may have missed a word since.
		s.step(v, topicMessage{payload: string(word), retained: stored, gap: asked.After(v.Run.Started)}, now)
	}
	s.afterStep(now)
}

// notReadyMessage says whose word makes it ready; "" where it is asked, or left alone.
func (t *transition) notReadyMessage() string {
	switch t.check() {
	case notifyCheck:
		return "not ready yet: it has not said READY=1"
	case mqttCheck:
		return fmt.Sprintf("not ready yet: %s has not said %q", t.Spec.Health.MQTT, t.Spec.Health.Payload)
	}
	return ""
}
