package engine_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

// Clients whose filters are compared with every retained topic, and match none,
// take turns once they have searched much: a client of another user, and one of
// theirs whose filter is cheap, are served at once. In the end they find what
// there is.
func TestSearchesAreBounded(t *testing.T) {
	inBubble(t, engine.Options{}, func(t *testing.T, e *engine.Engine) {
		const retained = 30_000
		for i := range retained {
			e.Publish(topics.Message{Topic: fmt.Sprintf("%05d/b/c", i), Payload: []byte("x"), Retain: true})
		}
		var all []*client
		for i := range 3 {
			c := connect(t, pipe(t, e), fmt.Sprint("greedy-", i), user("greedy"), v5)
			for j := range 30 {
				filter := fmt.Sprintf("+/nothing-%d/+", j)
				if j == 29 {
					filter = "00007/+/c"
				}
				c.trySubscribe(0, filter)
				c.expect("SUBACK 00")
			}
			all = append(all, c)
		}
		began := time.Now()
		for i, name := range []string{"greedy", "other"} {
			c := connect(t, pipe(t, e), fmt.Sprint("modest-", i), user(name))
			c.subscribe(subscription("00042/b/c", 0))
			c.expect("SUBACK 00", "00042/b/c x retained")
		}
		other := connect(t, pipe(t, e), "other", user("other"))
		other.subscribe(subscription("+/nothing/c", 0))
		other.subscribe(subscription("00001/b/c", 0))
		other.expect("SUBACK 00", "SUBACK 00", "00001/b/c x retained")
		if d := time.Since(began); d > 0 {
			t.Errorf("others were served after %v", d)
		}
		for _, c := range all {
			_, _, err := c.frame(time.Hour)
			if err != nil {
				t.Fatal(err)
			}
		}
		// 3 x 29 x 30,000 looks, of which 1,000,000 are free, at 100,000 a second
		if d := time.Since(began); d < 15*time.Second || d > 20*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

// A packet that is too large is refused with its topic, size, limit and key,
// whether the topic comes at once or later.
func TestTooLargeNamesItsTopic(t *testing.T) {
	for _, cut := range []int{2, 4, 5, 6, 10, 100} {
		var why string
		o := engine.Options{Limits: engine.Limits{MaxPacket: 1000}, ConnectionEnded: func(_, _, w string) { why = w }}
		inBubble(t, o, func(t *testing.T, e *engine.Engine) {
			c := connect(t, pipe(t, e), "c", v5)
			o := wire.Outgoing{Topic: "bridge/devices", Payload: 5000}
			b := append(o.Append(nil, wire.V5), make([]byte, 5000)...)
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = c.conn.Write(b[:cut])
				time.Sleep(time.Second)
				_, _ = c.conn.Write(b[cut:])
			}()
			c.expect("DISCONNECT 95", "closed")
			<-done
			for _, want := range []string{`"bridge/devices"`, fmt.Sprint(len(b)), "1000", "broker.limits.max_packet"} {
				if !strings.Contains(why, want) {
					t.Errorf("cut at %d: %q does not name %s", cut, why, want)
				}
			}
		})
	}
}
