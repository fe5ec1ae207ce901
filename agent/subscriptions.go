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

// subscriptions are those to topics of health checks (health = { mqtt = … }) and of
// traits. Each topic is subscribed to by itself: one that this domain may not read
// is no reason to lose the others, or the connection.
type subscriptions struct {
	required   []string             // by the supervisor, sorted
	requested  map[string]time.Time // of the connection that stands, and since when
	lastChange chan struct{}        // closed when the last change of subscriptions is done; nil: there was none
}

// subscribed is the broker's answer to a subscription of connection n.
type subscribed struct {
	connID int
	topic  string
	err    error
}

// requireTopics sets the topics that the supervisor needs. Those of traits are
// always needed.
func (l *loop) requireTopics(needed []string) {
	l.subscriptions.required = slices.Concat(needed, l.traits.Topics())
	slices.Sort(l.subscriptions.required)
	l.subscriptions.required = slices.Compact(l.subscriptions.required)
	if l.ready {
		l.subscribe(time.Now())
	}
}

// subscribe subscribes to the required topics that were not requested yet, and
// unsubscribes from those that are no longer required.
func (l *loop) subscribe(now time.Time) {
	if l.subscriptions.requested == nil {
		l.subscriptions.requested, l.subscriptions.lastChange = make(map[string]time.Time), nil
	}
	var gone, fresh []string
	for t := range l.subscriptions.requested {
		if !slices.Contains(l.subscriptions.required, t) {
			delete(l.subscriptions.requested, t)
			if !slices.Contains(l.tree.AgentFilters(l.config.Name), t) {
				gone = append(gone, t)
			}
		}
	}
	for _, t := range l.subscriptions.required {
		if _, done := l.subscriptions.requested[t]; !done {
			l.subscriptions.requested[t] = now
			fresh = append(fresh, t)
		}
	}
	if len(gone) == 0 && len(fresh) == 0 {
		return
	}
	// Both may wait for the network. Changes are made in order, or a topic that is
	// required again could be unsubscribed from after the subscription.
	conn, n, post, before, done := l.conn, l.connID, l.post, l.subscriptions.lastChange, make(chan struct{})
	l.subscriptions.lastChange = done
	l.background.Go(func() {
		defer close(done)
		if before != nil {
			<-before
		}
		if len(gone) > 0 {
			conn.Unsubscribe(gone...) // messages that come nevertheless are ignored
		}
		for _, t := range fresh {
			post(subscribed{n, t, conn.Subscribe(context.Background(), t)})
		}
	})
}

// subscribeResult handles the broker's answer to a subscription.
func (l *loop) subscribeResult(e subscribed, now time.Time) {
	if _, asked := l.subscriptions.requested[e.topic]; e.connID != l.connID || l.conn == nil || !asked {
		return
	}
	problem := ""
	l.traits.Subscribed(e.topic, e.err == nil, now)
	if errors.Is(e.err, client.ErrRefused) {
		problem = fmt.Sprintf("its health cannot be known: the broker does not let this domain read %s", e.topic)
		l.log.Warn(problem)
	} else if e.err != nil {
		return // the connection is over, and the link sends linkDown
	}
	l.supervisor.TopicSubscribed(e.topic, e.err == nil, problem, now)
}

// subscriptionsLost reports to supervisor and traits that the connection is over.
// The last values stay in force.
func (l *loop) subscriptionsLost(now time.Time) {
	for t := range l.subscriptions.requested {
		l.supervisor.TopicSubscribed(t, false, "", now)
		l.traits.Subscribed(t, false, now)
	}
	l.subscriptions.requested = nil
}

// subscribedMessage passes a message to the traits and health checks of its topic.
func (l *loop) subscribedMessage(m topics.Message, now time.Time) {
	if asked, ok := l.subscriptions.requested[m.Topic]; ok {
		if err := l.traits.Message(m.Topic, m.Payload, m.Retain, now); err != nil {
			l.reportInvalid(err)
		}
		l.supervisor.TopicMessage(m.Topic, m.Payload, m.Retain, asked, now)
	}
}

// resubscribe subscribes again to topics of traits, so that the broker sends the
// retained message.
func (l *loop) resubscribe(now time.Time) {
	again := l.traits.Resubscribe(now)
	if len(again) == 0 || !l.ready {
		return
	}
	conn, n, post, before, done := l.conn, l.connID, l.post, l.subscriptions.lastChange, make(chan struct{})
	l.subscriptions.lastChange = done
	l.background.Go(func() {
		defer close(done)
		if before != nil {
			<-before
		}
		for _, t := range again {
			post(subscribed{n, t, conn.Subscribe(context.Background(), t)})
		}
	})
}
