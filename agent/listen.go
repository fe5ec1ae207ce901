package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/topics"
)

// listener hears the topics that say how services are (health = { mqtt = … }).
// Each is asked for by itself: one that this domain may not read is no reason
// to lose the others, or the connection.
type listener struct {
	needed []string             // by the supervisor, sorted
	asked  map[string]time.Time // of the connection that stands, and since when
	before chan struct{}        // closed when the last change of subscriptions is done; nil: there was none
}

// subscribed is the broker's answer to a subscription of connection n.
type subscribed struct {
	n     int
	topic string
	err   error
}

// listen takes which topics the supervisor needs; those of the traits are
// needed always.
func (l *loop) listen(needed []string) {
	l.ears.needed = slices.Concat(needed, l.traits.Topics())
	slices.Sort(l.ears.needed)
	l.ears.needed = slices.Compact(l.ears.needed)
	if l.ready {
		l.subscribe(time.Now())
	}
}

// subscribe asks for what is needed and was not asked for yet, and lets go of
// the rest.
func (l *loop) subscribe(now time.Time) {
	if l.ears.asked == nil {
		l.ears.asked, l.ears.before = make(map[string]time.Time), nil
	}
	var gone, fresh []string
	for t := range l.ears.asked {
		if !slices.Contains(l.ears.needed, t) {
			delete(l.ears.asked, t)
			if !slices.Contains(l.tree.AgentFilters(l.config.Name), t) {
				gone = append(gone, t)
			}
		}
	}
	for _, t := range l.ears.needed {
		if _, done := l.ears.asked[t]; !done {
			l.ears.asked[t] = now
			fresh = append(fresh, t)
		}
	}
	if len(gone) == 0 && len(fresh) == 0 {
		return
	}
	// Both may wait for the line. One change follows the other, or a topic that
	// is needed again would be let go of after it was asked for.
	conn, n, post, before, done := l.conn, l.n, l.post, l.ears.before, make(chan struct{})
	l.ears.before = done
	l.announcers.Go(func() {
		defer close(done)
		if before != nil {
			<-before
		}
		if len(gone) > 0 {
			conn.Unsubscribe(gone...) // what comes all the same is not looked at
		}
		for _, t := range fresh {
			post(subscribed{n, t, conn.Subscribe(context.Background(), t)})
		}
	})
}

// answered takes the broker's answer.
func (l *loop) answered(e subscribed, now time.Time) {
	if _, asked := l.ears.asked[e.topic]; e.n != l.n || l.conn == nil || !asked {
		return
	}
	problem := ""
	l.traits.Subscribed(e.topic, e.err == nil, now)
	switch {
	case errors.Is(e.err, client.ErrRefused):
		problem = fmt.Sprintf("its health cannot be known: the broker does not let this domain read %s", e.topic)
		l.log.Warn(problem)
	case e.err != nil:
		return // the connection is over, and the link says so
	}
	l.supervisor.Listening(e.topic, e.err == nil, problem, now)
}

// deaf: the connection is over. What was said last stands.
func (l *loop) deaf(now time.Time) {
	for t := range l.ears.asked {
		l.supervisor.Listening(t, false, "", now)
		l.traits.Subscribed(t, false, now)
	}
	l.ears.asked = nil
}

// hear takes a message of a topic that says how a service is.
func (l *loop) hear(m topics.Message, now time.Time) {
	if asked, ok := l.ears.asked[m.Topic]; ok {
		if err := l.traits.Hear(m.Topic, m.Payload, m.Retain, now); err != nil {
			l.misunderstood(err)
		}
		l.supervisor.Hear(m.Topic, m.Payload, m.Retain, asked, now)
	}
}

// askAgain subscribes again to topics of traits, so that the broker sends what is
// retained there.
func (l *loop) askAgain(now time.Time) {
	again := l.traits.Again(now)
	if len(again) == 0 || !l.ready {
		return
	}
	conn, n, post, before, done := l.conn, l.n, l.post, l.ears.before, make(chan struct{})
	l.ears.before = done
	l.announcers.Go(func() {
		defer close(done)
		if before != nil {
			<-before
		}
		for _, t := range again {
			post(subscribed{n, t, conn.Subscribe(context.Background(), t)})
		}
	})
}
