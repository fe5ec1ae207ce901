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
	subscribed bool
	problem    string
}

// healthTopicOf returns the health topic of a service; "" if it has none.
func (s *Supervisor) healthTopicOf(spec topics.Spec) string {
	if h := spec.Health; h != nil {
		return strings.ReplaceAll(h.MQTT, "<domain>", s.o.Name)
	}
	return ""
}

// updateTopics determines which health topics are needed by the services that there
// are and by those of soon, and has the agent subscribe to them.
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

// TopicSubscribed sets whether a topic is subscribed to. If it is not, problem is
// what the owner must correct, or empty.
func (s *Supervisor) TopicSubscribed(topic string, subscribed bool, problem string, now time.Time) {
	e := s.healthTopics[topic]
	if e == nil || *e == (healthTopic{subscribed, problem}) {
		return
	}
	*e = healthTopic{subscribed, problem}
	for _, name := range s.names() {
		if v := s.services[name]; s.healthTopicOf(v.Spec) == topic {
			s.step(v, topicSubscribed{subscribed, problem}, now)
		}
	}
	s.write(now)
}

// TopicMessage handles a message on a health topic. retained means that it was
// published before the subscription, which was requested at the time subscribed.
func (s *Supervisor) TopicMessage(topic string, payload []byte, retained bool, subscribed, now time.Time) {
	if s.healthTopics[topic] == nil {
		return
	}
	for _, name := range s.names() {
		v := s.services[name]
		if s.healthTopicOf(v.Spec) != topic {
			continue
		}
		value := payload[:min(len(payload), len(v.Spec.Health.Payload)+4*maxPayloadShown)] // more of it is neither compared nor shown
		// With a subscription from before the start of a life a retained message is
		// from before it, too. With a later one it may be from after the start.
		s.step(v, topicMessage{payload: string(value), retained: retained, gap: subscribed.After(v.Run.Started)}, now)
	}
	s.afterStep(now)
}

// notReadyMessage returns the message of a starting instance that must notify or
// publish to become ready; "" for others.
func (t *transition) notReadyMessage() string {
	switch t.check() {
	case notifyCheck:
		return "not ready yet: it has not sent READY=1"
	case mqttCheck:
		return fmt.Sprintf("not ready yet: %s has not published %q", t.Spec.Health.MQTT, t.Spec.Health.Payload)
	}
	return ""
}
