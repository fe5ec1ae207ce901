package engine_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/topics"
)

// applicants has clients without a user be applicants.
func applicants(received *[]string) engine.Options {
	return engine.Options{
		Applicant: func(engine.Client) bool { return true },
		Receive: func(c engine.Client, m topics.Message, _ func(topics.Message)) {
			*received = append(*received, fmt.Sprintf("%s %s %d", c.ID, m.Topic, len(m.Payload)))
		},
	}
}

// What an applicant publishes reaches the program alone, and is small and never retained; it
// has no will, no session, and nobody else's identifier.
func TestApplicants(t *testing.T) {
	var received []string
	inBubble(t, applicants(&received), func(t *testing.T, e *engine.Engine) {
		reader := connect(t, pipe(t, e), "reader", user("ada"), persistent)
		reader.subscribeAndWait(1, "#")
		c := connect(t, pipe(t, e), "join-1", v5, expiry(3600))
		c.publish(1, "request/join", "hello")
		c.expect("PUBACK 1")
		c.publish(1, "request/join", strings.Repeat("x", 4096))
		c.expect("PUBACK 2")
		c.publish(1, "request/join", "kept", true)
		c.expect("PUBACK 3 code 87")
		reader.expectNothing()
		if got := strings.Join(received, ", "); got != "join-1 request/join 5, join-1 request/join 4096" {
			t.Errorf("received %s", got)
		}
		c.disconnect()
		synctest.Wait()
		for _, s := range e.Sessions() {
			if s.ID == "join-1" {
				t.Error("an applicant has a session")
			}
		}

		large := connect(t, pipe(t, e), "join-2", v5)
		large.send([]byte{0x32, 0x88, 0x27, 0, 1, 'a'}) // the beginning of a PUBLISH of 5000 bytes
		large.expect("DISCONNECT 95", "closed")
		handshake(t, pipe(t, e), "join-3", v5, will("request/join", "gone", 0, false, 0)).expect("CONNACK 87 present false", "closed")
		reader.disconnect()
		handshake(t, pipe(t, e), "reader", v5).expect("CONNACK 85 present false", "closed")
	})
}

// Of an address there are four applicants at once: for one more the one goes that was silent
// for longest.
func TestApplicantsOfAnAddress(t *testing.T) {
	var received []string
	inBubble(t, applicants(&received), func(t *testing.T, e *engine.Engine) {
		first := connect(t, pipe(t, e), "join-0", v5)
		for i := range 3 {
			time.Sleep(time.Second)
			connect(t, pipe(t, e), fmt.Sprint("join-", i+1), v5)
		}
		connect(t, pipe(t, e), "join-4", v5)
		first.expect("DISCONNECT 97", "closed")
		synctest.Wait()
		all := ""
		for _, s := range e.Sessions() {
			all += " " + s.ID
		}
		if all != " join-1 join-2 join-3 join-4" {
			t.Errorf("connected are%s", all)
		}
	})
}

// An applicant is read no faster than an agent asks: whoever has no user must neither use up
// the processor of the hub nor fill what waits for it.
func TestApplicantsAreSlow(t *testing.T) {
	var received []string
	inBubble(t, applicants(&received), func(t *testing.T, e *engine.Engine) {
		for what, payload := range map[string]string{"messages": "hello", "bytes": strings.Repeat("x", 4000)} {
			c := connect(t, pipe(t, e), "join-"+what, v5)
			began := time.Now()
			for n := range 100 {
				c.publish(1, "request/join", payload)
				c.expect(fmt.Sprint("PUBACK ", n+1))
			}
			if took := time.Since(began); took < 10*time.Second || took > time.Minute {
				t.Errorf("100 %s took %v", what, took)
			}
		}
	})
}
