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
// message that is not retained has passed, and is listed for a while. A message that
// comes as it is published does not show which it is, so the hub subscribes again:
// the problem stands until the broker had time to replay what it retains.
type problems struct {
	// limit is how many are listed.
	limit  int
	listed map[string]problem
	// unlisted are topics with a standing problem for which there was no room, hashed.
	unlisted map[uint64]bool
	order    uint64
	// recheck is set where there is a topic to subscribe to, for what the broker retains.
	recheck bool
}

type problem struct {
	message string
	at      time.Time
	order   uint64
	// unconfirmed is set where it is unknown whether the broker retains the message.
	unconfirmed bool
	// passing is set where the broker does not retain it.
	passing bool
}

const (
	// confirmTime is how long the broker has to replay a retained message.
	confirmTime = 10 * time.Second
	// passedTime is how long a problem is listed that has passed.
	passedTime = time.Hour
	// maxProblem is how long the text of a problem may be, in bytes.
	maxProblem = 1024
	// maxCounted is how many standing problems are counted beyond those listed.
	maxCounted = 20_000
)

func newProblems(most int) problems {
	return problems{limit: most, listed: make(map[string]problem), unlisted: make(map[uint64]bool)}
}

// record records what is wrong with the last message of a topic. Where there is no
// room a standing problem takes the place of the oldest that has passed, or is
// counted alone.
func (p *problems) record(seed maphash.Seed, topic, message string, live bool, now time.Time) {
	hash := maphash.String(seed, topic)
	topic, message = cut(topic, maxTopic), cut(message, maxProblem)
	had, listed := p.listed[topic]
	if !listed && len(p.listed) >= p.limit && !p.evict() {
		if !live && len(p.unlisted) < maxCounted {
			p.unlisted[hash] = true
		}
		return
	}
	delete(p.unlisted, hash)
	next := problem{message: message, at: now, unconfirmed: live}
	if listed && had.message == message {
		next.at, next.passing = had.at, had.passing && live
	}
	p.order++
	next.order = p.order
	p.listed[topic] = next
	p.recheck = p.recheck || live
}

// evict makes room by the oldest problem that has passed or may have.
func (p *problems) evict() bool {
	oldest := ""
	for topic, o := range p.listed {
		if o.unconfirmed && (oldest == "" || o.order < p.listed[oldest].order) {
			oldest = topic
		}
	}
	delete(p.listed, oldest)
	return oldest != ""
}

// confirm notes that the broker retains the message that a problem is with.
func (p *problems) confirm(topic string) {
	topic = cut(topic, maxTopic)
	if o, listed := p.listed[topic]; listed && o.unconfirmed {
		o.unconfirmed, o.passing = false, false
		p.listed[topic] = o
	}
}

func (p *problems) remove(seed maphash.Seed, topic string) {
	delete(p.unlisted, maphash.String(seed, topic))
	delete(p.listed, cut(topic, maxTopic))
}

func (p *problems) clear() {
	clear(p.listed)
	clear(p.unlisted)
}

// unconfirmedTopics are the topics to subscribe to, to see whether the broker retains
// the message that a problem is with.
func (p *problems) unconfirmedTopics() (all []string) {
	for topic, o := range p.listed {
		if o.unconfirmed && !strings.HasSuffix(topic, "…") {
			all = append(all, topic)
		}
	}
	return all
}

// Expire notes which problems have passed, and forgets those that have long ago.
func (s *State) Expire(now time.Time) {
	for topic, o := range s.problems.listed {
		age := now.Sub(o.at)
		if !o.unconfirmed || age < confirmTime {
			continue
		}
		if age >= passedTime {
			delete(s.problems.listed, topic)
		} else if !o.passing {
			o.passing = true
			s.problems.listed[topic] = o
		}
	}
}

// SubscriptionRefused records that the broker refuses a subscription. It is removed
// with the announcements.
func (s *State) SubscriptionRefused(topic string, err error, now time.Time) {
	s.problems.record(s.seed, topic, "it cannot be subscribed to: "+err.Error(), false, now)
}

// Problems returns what is wrong with announcements, by topic, and how many
// standing problems there are besides for which there was no room.
func (s *State) Problems() (all []topics.DeviceProblem, more int) {
	for topic, p := range s.problems.listed {
		all = append(all, topics.DeviceProblem{At: topics.At(p.at), Topic: topic, Device: s.announcedAt(topic), Message: p.message, Passing: p.passing})
	}
	slices.SortFunc(all, func(x, y topics.DeviceProblem) int { return strings.Compare(x.Topic, y.Topic) })
	more = len(s.problems.unlisted)
	for _, p := range s.conflicts() {
		if len(all) >= 2*s.problems.limit {
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
