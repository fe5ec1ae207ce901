package link

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// recorder is a Conn that notes what it is called for.
type recorder struct {
	mu    sync.Mutex
	calls []string
	// slow is how long an unsubscription takes.
	slow time.Duration
	// err is the result of Subscribe and Flush.
	err error
}

func (r *recorder) note(call string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, call)
}

// noted returns the calls so far, and forgets them.
func (r *recorder) noted() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := strings.Join(r.calls, ", ")
	r.calls = nil
	return all
}

func (r *recorder) Publish(m topics.Message) { r.note("publish " + m.Topic) }
func (r *recorder) Subscribe(_ context.Context, filters ...string) error {
	r.note("subscribe " + strings.Join(filters, " "))
	return r.err
}

func (r *recorder) Unsubscribe(filters ...string) {
	time.Sleep(r.slow)
	r.note("unsubscribe " + strings.Join(filters, " "))
}
func (r *recorder) Flush(context.Context) error { r.note("flush"); return r.err }
func (r *recorder) Close()                      { r.note("close") }
func (r *recorder) Done() <-chan struct{}       { return nil }
func (r *recorder) Err() error                  { return nil }

// Events and messages of a connection that is over are void.
func TestFormerConnection(t *testing.T) {
	now := time.Now()
	c := NewConnection(nil, nil)
	if c.Open(0) || c.Joined() || c.Reachable() {
		t.Error("there is a connection before the first one")
	}
	first, second := &recorder{}, &recorder{}
	c.Up(Up{ConnID: 1, Conn: first}, now)
	if !c.Open(1) || c.Joined() || !c.Ready(Ready{1}) || !c.Joined() {
		t.Error("the first connection does not count")
	}
	c.Up(Up{ConnID: 2, Conn: second}, now)
	if c.Joined() || c.Ready(Ready{1}) || c.Open(1) {
		t.Error("the first connection counts after the second one was opened")
	}
	if _, ok := c.Down(Down{1}); ok || !c.Open(2) {
		t.Error("the end of the first connection ended the second")
	}
	c.Publish(topics.Message{Topic: "t"})
	if first.noted() != "" || second.noted() != "publish t" {
		t.Error("published by another connection than the open one")
	}
	if _, ok := c.Down(Down{2}); !ok || c.Open(2) || c.Ready(Ready{2}) {
		t.Error("a connection counts after its end")
	}
	c.Publish(topics.Message{Topic: "t"})
	if second.noted() != "" {
		t.Error("published by a connection that is over")
	}
}

// A hub that publishes nothing for three times the interval that its grant names is
// not reachable; one whose grant names none is.
func TestSilentHub(t *testing.T) {
	now := time.Now()
	for _, alive := range []time.Duration{0, 5 * time.Second} {
		c := NewConnection(nil, nil)
		c.Up(Up{ConnID: 1, Conn: &recorder{}, Grant: topics.Grant{Alive: topics.Seconds(alive)}}, now)
		if !c.Next().IsZero() {
			t.Errorf("alive %v: a hub is awaited before the domain has joined", alive)
		}
		c.Ready(Ready{1})
		c.HubActive(now.Add(10 * time.Second))
		due := now.Add(25 * time.Second)
		if alive > 0 && !c.Next().Equal(due) || alive == 0 && !c.Next().IsZero() {
			t.Errorf("alive %v: next is %v", alive, c.Next().Sub(now))
		}
		c.Expire(due.Add(-time.Millisecond))
		if !c.Reachable() {
			t.Errorf("alive %v: gone too early", alive)
		}
		c.Expire(due)
		if c.Reachable() != (alive == 0) || !c.Next().IsZero() {
			t.Errorf("alive %v: reachable %v, next %v", alive, c.Reachable(), c.Next())
		}
		c.HubActive(due.Add(time.Second))
		if !c.Reachable() {
			t.Errorf("alive %v: it published again and is not reachable", alive)
		}
	}
}

// Topics are subscribed to and unsubscribed from in the order of the changes, however
// long one takes; not what the link itself subscribes to.
func TestSubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answers []Subscribed
		conn := &recorder{slow: time.Second}
		c := NewConnection([]string{"own"}, func(e any) { answers = append(answers, e.(Subscribed)) })
		c.Require([]string{"b", "a", "b", "own"}, time.Now())
		c.Up(Up{ConnID: 1, Conn: conn}, time.Now())
		c.Resubscribe([]string{"a"}) // not joined yet
		synctest.Wait()
		if got := conn.noted(); got != "" {
			t.Errorf("before the join: %s", got)
		}
		c.Ready(Ready{1})
		at := time.Now()
		c.Subscribe(at)
		c.Require([]string{"a"}, time.Now())
		c.Require([]string{"a", "b"}, time.Now())
		c.Resubscribe([]string{"a"})
		time.Sleep(2 * time.Second)
		if got := conn.noted(); got != "subscribe a, subscribe b, subscribe own, unsubscribe b, subscribe b, subscribe a" {
			t.Errorf("%s", got)
		}
		if got, ok := c.RequestedAt("a"); !ok || !got.Equal(at) {
			t.Errorf("requested at %v, %v", got, ok)
		}
		if _, ok := c.RequestedAt("own"); ok {
			t.Error("a topic that is no longer required counts as requested")
		}
		synctest.Wait()
		if len(answers) != 5 || !c.Counts(answers[0]) || c.Counts(answers[2]) || c.Counts(Subscribed{ConnID: 2, Topic: "a"}) {
			t.Errorf("answers %+v", answers)
		}
		lost := c.Up(Up{ConnID: 2, Conn: conn}, time.Now())
		slices.Sort(lost)
		if !slices.Equal(lost, []string{"a", "b"}) || c.Counts(answers[0]) {
			t.Errorf("lost %q", lost)
		}
	})
}

func TestClose(t *testing.T) {
	c := NewConnection(nil, nil)
	if err := c.Close(topics.Message{Topic: "offline"}); err != nil {
		t.Errorf("without a connection: %v", err)
	}
	conn := &recorder{err: errors.New("the network is down")}
	c.Up(Up{ConnID: 1, Conn: conn}, time.Now())
	if err := c.Close(topics.Message{Topic: "offline"}); !errors.Is(err, conn.err) {
		t.Errorf("error %v", err)
	}
	if got := conn.noted(); got != "publish offline, flush, close" || c.Open(1) {
		t.Errorf("%s", got)
	}
}

// The loop requests a search or a new connection without waiting for the link; the
// latest value counts.
func TestRequestsToTheLink(t *testing.T) {
	l := New(Options{})
	l.Search(true)
	l.Search(false)
	l.Reconnect()
	l.Reconnect()
	if on := <-l.searches; on || len(l.searches) != 0 || len(l.drops) != 1 {
		t.Errorf("search %v, %d more; %d requests for a new connection", on, len(l.searches), len(l.drops))
	}
}
