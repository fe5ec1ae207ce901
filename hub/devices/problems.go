package devices

import (
	"hash/maphash"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// problems are what is wrong with messages, by topic. A problem with a message
// that the broker retains stands until the topic has another message. One with a
// message that is not retained has passed, and is listed for a while. Which it is
// nobody says of a message that comes as it is published, so the broker is asked:
// it stands until the broker had time to answer.
type problems struct {
	most   int // listed
	listed map[string]problem
	rest   map[uint64]bool // topics with a standing problem for which there was no room, hashed
	order  uint64
	asks   bool // there is a topic at which the broker has to be asked what it retains
}

type problem struct {
	message string
	at      time.Time
	order   uint64
	live    bool // nobody said that the broker retains the message
	passing bool // it does not
}

const (
	// askedFor is how long the broker has to say that it retains a message.
	askedFor = 10 * time.Second
	// passingFor is how long a problem is listed that has passed.
	passingFor = time.Hour
	// maxProblem is how long the text of a problem may be, in bytes.
	maxProblem = 1024
	// maxCounted is how many standing problems are counted beyond those listed.
	maxCounted = 20_000
)

func newProblems(most int) problems {
	return problems{most: most, listed: make(map[string]problem), rest: make(map[uint64]bool)}
}

// put notes what is wrong with the last message of a topic. Where there is no
// room a standing problem takes the place of the oldest that has passed, or is
// counted alone.
func (p *problems) put(seed maphash.Seed, topic, message string, live bool, now time.Time) {
	hash := maphash.String(seed, topic)
	topic, message = cut(topic, maxTopic), cut(message, maxProblem)
	had, known := p.listed[topic]
	if !known && len(p.listed) >= p.most && !p.evict() {
		if !live && len(p.rest) < maxCounted {
			p.rest[hash] = true
		}
		return
	}
	delete(p.rest, hash)
	next := problem{message: message, at: now, live: live}
	if known && had.message == message {
		next.at, next.passing = had.at, had.passing && live
	}
	p.order++
	next.order = p.order
	p.listed[topic] = next
	p.asks = p.asks || live
}

// evict makes room by the oldest problem that has passed or may have.
func (p *problems) evict() bool {
	oldest := ""
	for topic, o := range p.listed {
		if o.live && (oldest == "" || o.order < p.listed[oldest].order) {
			oldest = topic
		}
	}
	delete(p.listed, oldest)
	return oldest != ""
}

// stands notes that the broker retains the message that a problem is with.
func (p *problems) stands(topic string) {
	topic = cut(topic, maxTopic)
	if o, known := p.listed[topic]; known && o.live {
		o.live, o.passing = false, false
		p.listed[topic] = o
	}
}

func (p *problems) forget(seed maphash.Seed, topic string) {
	delete(p.rest, maphash.String(seed, topic))
	delete(p.listed, cut(topic, maxTopic))
}

func (p *problems) clear() {
	clear(p.listed)
	clear(p.rest)
}

// asked are the topics at which it has to be asked whether the broker retains
// what a problem is with.
func (p *problems) asked() (all []string) {
	for topic, o := range p.listed {
		if o.live && !strings.HasSuffix(topic, "…") {
			all = append(all, topic)
		}
	}
	return all
}

// Expire notes which problems have passed, and forgets those that have long ago.
func (s *State) Expire(now time.Time) {
	for topic, o := range s.trouble.listed {
		switch age := now.Sub(o.at); {
		case !o.live || age < askedFor:
		case age >= passingFor:
			delete(s.trouble.listed, topic)
		case !o.passing:
			o.passing = true
			s.trouble.listed[topic] = o
		}
	}
}

// Unheard notes that the broker does not let us hear a topic. It is forgotten
// with the announcements.
func (s *State) Unheard(topic string, err error, now time.Time) {
	s.trouble.put(s.seed, topic, "it cannot be heard: "+err.Error(), false, now)
}

// Problems returns what is wrong with announcements, by topic, and how many
// standing problems there are besides for which there was no room.
func (s *State) Problems() (all []topics.DeviceProblem, more int) {
	for topic, p := range s.trouble.listed {
		all = append(all, topics.DeviceProblem{At: topics.At(p.at), Topic: topic, Device: s.announcedAt(topic), Message: p.message, Passing: p.passing})
	}
	slices.SortFunc(all, func(x, y topics.DeviceProblem) int { return strings.Compare(x.Topic, y.Topic) })
	more = len(s.trouble.rest)
	for _, p := range s.conflicts() {
		if len(all) >= 2*s.trouble.most {
			more++
			continue
		}
		all = append(all, p)
	}
	return all, more
}

// announcedAt returns the device that the message of a topic announces, "" where
// it is none or several.
func (s *State) announcedAt(topic string) string {
	if c, base, _ := partOf(topic, nil); c != nil {
		topic = base
	}
	if one := s.sources[topic]; one != nil && len(one.all) == 1 {
		return one.all[0].id
	}
	return ""
}
