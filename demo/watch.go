package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/topics"
)

// picture is the last answer of the hub.
type picture struct {
	overview topics.Overview
	events   []topics.Event
	err      error // why it is old; nil: it is not
}

// healthy reports whether all of these services run and are healthy.
func (p picture) healthy(services []string) bool {
	healthy := make(map[string]bool)
	for _, s := range p.overview.Services {
		healthy[s.Service] = s.Wanted > 0 && s.Running == s.Wanted && s.Healthy == s.Wanted
	}
	for _, s := range services {
		if !healthy[s] {
			return false
		}
	}
	return p.err == nil && p.overview.Hub.Ready
}

// endpoint returns address:port of a service that runs, or "".
func (p picture) endpoint(service string) string {
	for _, s := range p.overview.Services {
		for _, i := range s.Instances {
			if s.Service == service && i.State == topics.Running && i.Port > 0 {
				return i.Address + ":" + strconv.Itoa(i.Port)
			}
		}
	}
	return ""
}

// watcher asks the hub, as any MQTT client could: when a message says that
// something changed, so that a person with mosquitto_sub sees the home and
// not the demo. It is used by one goroutine.
type watcher struct {
	hub     string
	tree    topics.Tree
	conn    *client.Conn
	answers chan topics.Message
	changed chan struct{} // has an element: ask again
	asked   int
	askedAt time.Time
}

func newWatcher(hub string) *watcher {
	return &watcher{hub: hub, tree: topics.NewTree("")}
}

func (w *watcher) close() {
	if w.conn != nil {
		w.conn.Close()
	}
}

const (
	answerTime = 2 * time.Second
	maxAge     = 10 * time.Second // then the hub is asked without a change
)

// changeTopics are the topics whose messages mean that the picture has changed.
func (w *watcher) changeTopics() []string {
	return []string{
		w.tree.Filter(topics.HubStatus), w.tree.Filter(topics.HubEvent),
		w.tree.Filter(topics.DomainAvailability), w.tree.Filter(topics.DomainStatus),
		w.tree.Filter(topics.ServiceStatus),
	}
}

// refreshDue reports whether there is a reason to ask.
func (w *watcher) refreshDue() bool {
	if w.conn == nil || time.Since(w.askedAt) > maxAge {
		return true
	}
	select {
	case <-w.changed:
		return true
	case <-w.conn.Done():
		return true
	default:
		return false
	}
}

// refresh returns the current picture; the one before with an error where the hub
// does not answer.
func (w *watcher) refresh(ctx context.Context, before picture) picture {
	if !w.refreshDue() {
		return before
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	now, err := w.ask(ctx)
	if err != nil {
		w.close()
		w.conn = nil
		before.err = err
		return before
	}
	return now
}

const eventLimit = 50

func (w *watcher) ask(ctx context.Context) (p picture, err error) {
	if err := w.connect(ctx); err != nil {
		return p, err
	}
	if err := ask(ctx, w, topics.VerbStatus, topics.HubRequest{}, &p.overview); err != nil {
		return p, err
	}
	return p, ask(ctx, w, topics.VerbEvents, topics.HubRequest{Limit: eventLimit}, &p.events)
}

// connect connects to the hub, and subscribes to changes and answers.
func (w *watcher) connect(ctx context.Context) (err error) {
	if w.conn != nil {
		return nil
	}
	answers, changed := make(chan topics.Message, 16), make(chan struct{}, 1)
	w.conn, err = client.Connect(ctx, client.Options{
		URL:      "mqtt://" + w.hub,
		ClientID: "demo",
		OnMessage: func(m topics.Message) {
			if at, _ := w.tree.Parse(m.Topic); at.Kind != topics.Response {
				select {
				case changed <- struct{}{}:
				default: // it is noted already
				}
				return
			}
			select {
			case answers <- m:
			default: // more than were asked for
			}
		},
	})
	if err != nil {
		return err
	}
	w.answers, w.changed = answers, changed
	return w.conn.Subscribe(ctx, append(w.changeTopics(), w.tree.Filter(topics.Response))...)
}

// ask asks the hub a verb and reads the answer's data into data.
func ask[T any](ctx context.Context, w *watcher, verb string, question topics.HubRequest, data *T) error {
	w.asked++
	w.askedAt = time.Now()
	question.Transaction = "demo-" + strconv.Itoa(w.asked)
	for len(w.answers) > 0 { // to others, who asked since
		<-w.answers
	}
	w.conn.Publish(w.tree.Message(topics.Address{Kind: topics.Request, Verb: verb}, topics.Encode(question)))
	for {
		select {
		case m := <-w.answers:
			reply, err := topics.Decode[topics.Reply](m.Topic, m.Payload)
			if err != nil {
				return err
			}
			if reply.Transaction != question.Transaction {
				continue // somebody else's
			}
			if reply.Status != topics.StatusOK {
				return errors.New(reply.Error)
			}
			*data, err = topics.Decode[T](m.Topic, reply.Data)
			return err
		case <-w.conn.Done():
			return w.conn.Err()
		case <-ctx.Done():
			return fmt.Errorf("the hub at %s does not answer", w.hub)
		}
	}
}
