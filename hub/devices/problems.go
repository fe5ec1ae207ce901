package devices

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// problems are what is wrong with announcements, by topic: the last so many.
type problems struct {
	most  int
	all   map[string]problem
	order uint64
	more  int // that were dropped for others
}

type problem struct {
	message string
	at      time.Time
	order   uint64
}

func newProblems(most int) problems { return problems{most: most, all: make(map[string]problem)} }

func (p *problems) put(topic, message string, now time.Time) {
	topic = cut(topic, maxTopic)
	if _, known := p.all[topic]; !known && len(p.all) >= p.most {
		oldest := ""
		for t, o := range p.all {
			if oldest == "" || o.order < p.all[oldest].order {
				oldest = t
			}
		}
		delete(p.all, oldest)
		p.more++
	}
	p.order++
	p.all[topic] = problem{cut(message, 2*maxTopic), now, p.order}
}

func (p *problems) forget(topic string) { delete(p.all, cut(topic, maxTopic)) }

func (p *problems) clear() {
	clear(p.all)
	p.more = 0
}

// Unheard notes that the broker does not let us hear a topic. It is forgotten
// with the announcements.
func (s *State) Unheard(topic string, err error, now time.Time) {
	s.trouble.put(topic, "it cannot be heard: "+err.Error(), now)
}

// Problems returns what is wrong with announcements, by topic, and how many
// more there were for which there was no room.
func (s *State) Problems() (all []topics.DeviceProblem, more int) {
	for topic, p := range s.trouble.all {
		all = append(all, topics.DeviceProblem{At: topics.At(p.at), Topic: topic, Message: p.message})
	}
	slices.SortFunc(all, func(x, y topics.DeviceProblem) int { return strings.Compare(x.Topic, y.Topic) })
	for _, id := range slices.Sorted(maps.Keys(s.devices)) {
		if p := s.several(id); p != "" {
			all = append(all, topics.DeviceProblem{Device: id, Message: p})
		}
	}
	return all, s.trouble.more
}

// several tells of machines that are one device because they share an
// identifier: the firmware of each has a constant there.
func (s *State) several(id string) string {
	own := make(map[key]bool)
	for _, a := range s.devices[id] {
		if a.by != topics.ByHomeAssistant {
			own[a.keys[0]] = true
		}
	}
	if len(own) < 2 {
		return ""
	}
	var names []string
	for k := range own {
		names = append(names, k.id())
	}
	slices.Sort(names)
	return "several devices announce themselves as one, by an identifier that they share: " + cut(strings.Join(names, ", "), maxTopic)
}
