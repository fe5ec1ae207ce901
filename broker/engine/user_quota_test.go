package engine_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

// A user has so many clients: for one more the session ends that has been away
// the longest, and where none is away the client is refused.
func TestClientsOfAUser(t *testing.T) {
	var noticed []string
	o := engine.Options{
		UserLimits: engine.UserLimits{Clients: 3},
		Notice:     func(c engine.Client, _, what string) { noticed = append(noticed, c.ID+": "+what) },
	}
	inBubble(t, o, func(t *testing.T, e *engine.Engine) {
		sessions := func() (ids string) {
			for _, s := range e.Sessions() {
				ids += " " + s.ID
			}
			return strings.TrimSpace(ids)
		}
		first := connect(t, pipe(t, e), "first", user("ada"))
		for _, id := range []string{"away-1", "away-2"} {
			connect(t, pipe(t, e), id, user("ada"), persistent).disconnect()
			time.Sleep(time.Second)
		}
		connect(t, pipe(t, e), "theirs", user("bob"), persistent).disconnect()
		connect(t, pipe(t, e), "nobodys", persistent).disconnect()
		connect(t, pipe(t, e), "away-2", user("ada"), persistent).disconnect() // not one more
		if got := sessions(); got != "away-1 away-2 first nobodys theirs" {
			t.Errorf("sessions %s", got)
		}
		time.Sleep(time.Second)
		connect(t, pipe(t, e), "second", user("ada"))
		if got := sessions(); got != "away-2 first nobodys second theirs" || len(noticed) != 1 || !strings.HasPrefix(noticed[0], "away-1: its session ended") {
			t.Errorf("sessions %s, noticed %q", got, noticed)
		}
		connect(t, pipe(t, e), "third", user("ada"))
		handshake(t, pipe(t, e), "fourth", user("ada"), v5).expect("CONNACK 97 present false", "closed")
		handshake(t, pipe(t, e), "fourth", user("ada")).expect("CONNACK 3 present false", "closed")
		connect(t, pipe(t, e), "theirs-2", user("bob"))
		for i := range 5 {
			connect(t, pipe(t, e), fmt.Sprint("anonymous-", i))
		}
		connect(t, pipe(t, e), "third", user("ada")) // in place of itself
		first.disconnect()
		connect(t, pipe(t, e), "fourth", user("ada"))
		if s := e.Stats(); s.UserRefused != 2 || s.UserEnded != 2 {
			t.Errorf("%d refused, %d ended", s.UserRefused, s.UserEnded)
		}
		// another user's from now on, and one less of ada's
		connect(t, pipe(t, e), "fourth", user("bob"))
		connect(t, pipe(t, e), "fifth", user("ada"))
		// changed while it runs
		handshake(t, pipe(t, e), "sixth", user("ada"), v5).expect("CONNACK 97 present false", "closed")
		e.SetUserLimits(engine.UserLimits{Clients: 4})
		connect(t, pipe(t, e), "sixth", user("ada"))
		e.SetUserLimits(engine.UserLimits{})
		for i := range 10 {
			connect(t, pipe(t, e), fmt.Sprint("more-", i), user("ada"))
		}
	})
}

// What waits for all clients of a user is bounded; a client that reads is
// served however much waits for the others.
func TestQueuesOfAUser(t *testing.T) {
	o := engine.Options{UserLimits: engine.UserLimits{QueuedBytes: 100_000}}
	inBubble(t, o, func(t *testing.T, e *engine.Engine) {
		for i := range 4 {
			c := connect(t, pipe(t, e), fmt.Sprint("away-", i), user("ada"), persistent)
			c.subscribeAndWait(1, fmt.Sprint("to/", i))
			c.disconnect()
		}
		other := connect(t, pipe(t, e), "bobs", user("bob"), persistent)
		other.subscribeAndWait(1, "to/#")
		other.disconnect()
		reads := connect(t, pipe(t, e), "reads", user("ada"), v5)
		reads.subscribeAndWait(1, "to/#")
		queued := func() (all int) {
			synctest.Wait()
			for _, s := range e.Sessions() {
				if s.User == "ada" {
					all += s.QueuedBytes
				}
			}
			return all
		}
		for range 200 {
			e.Publish(topics.Message{Topic: "to/1", Payload: make([]byte, 1000), QoS: 1})
			reads.ack(wire.Puback, uint16(idOf(t, reads)))
		}
		// one may have all of it; then the others have a share
		if n := queued(); n < 90_000 || n > 110_000 {
			t.Errorf("%d bytes wait", n)
		}
		for range 200 {
			e.Publish(topics.Message{Topic: "to/2", Payload: make([]byte, 1000), QoS: 1})
			reads.ack(wire.Puback, uint16(idOf(t, reads)))
		}
		if n := queued(); n < 110_000 || n > 130_000 {
			t.Errorf("%d bytes wait", n)
		}
		var bobs engine.Session
		for _, s := range e.Sessions() {
			if s.ID == "bobs" {
				bobs = s
			}
		}
		if bobs.QueuedBytes < 90_000 || bobs.QueuedBytes > 100_000 || e.Stats().UserDropped == 0 {
			t.Errorf("%d bytes wait for another user, who has a limit of his own; %d dropped", bobs.QueuedBytes, e.Stats().UserDropped)
		}
		// what ends makes room
		for i := range 4 {
			connect(t, pipe(t, e), fmt.Sprint("away-", i), user("ada"), cleanSession).disconnect()
		}
		synctest.Wait()
		c := connect(t, pipe(t, e), "again", user("ada"), persistent)
		c.subscribeAndWait(1, "new")
		c.disconnect()
		for range 50 {
			e.Publish(topics.Message{Topic: "new", Payload: make([]byte, 1000), QoS: 1})
		}
		if n := queued(); n < 50_000 || n > 60_000 {
			t.Errorf("%d bytes wait", n)
		}
	})
}

// idOf returns the packet identifier of the PUBLISH that comes next.
func idOf(t *testing.T, c *client) int {
	t.Helper()
	_, body, err := c.frame(20 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	n := int(body[0])<<8 | int(body[1])
	return int(body[2+n])<<8 | int(body[3+n])
}

// remoteConn is a connection of somebody at an address.
type remoteConn struct {
	net.Conn
	from net.Addr
}

func (s remoteConn) RemoteAddr() net.Addr { return s.from }

func connectFrom(e *engine.Engine, host string) net.Conn {
	ours, theirs := net.Pipe()
	e.Serve(remoteConn{theirs, &net.TCPAddr{IP: net.ParseIP(host), Port: 7}}, "pipe")
	synctest.Wait()
	return ours
}

// open reports whether a connection is.
func open(c net.Conn) bool {
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := c.Read(make([]byte, 1))
	return !errors.Is(err, io.EOF)
}

// Connections that do not log in take places from who opens the most of them,
// and none from others, nor from those who have logged in.
func TestLobby(t *testing.T) {
	inBubble(t, engine.Options{Limits: engine.Limits{MaxConnecting: 4}}, func(t *testing.T, e *engine.Engine) {
		var in []*client
		for i := range 10 {
			in = append(in, connect(t, connectFrom(e, "192.0.2.1"), fmt.Sprint("in-", i)))
		}
		slow := connectFrom(e, "192.0.2.7")
		var flood []net.Conn
		for range 50 {
			flood = append(flood, connectFrom(e, "192.0.2.66"))
		}
		n := 0
		for i, c := range flood {
			if open(c) {
				n++
			} else if i >= len(flood)-3 {
				t.Errorf("the connection %d was ended before older ones", i)
			}
		}
		if n != 3 || !open(slow) {
			t.Errorf("%d of the flood are open, another's %v", n, open(slow))
		}
		if e.Stats().ConnectionsRefused != 47 {
			t.Errorf("%d were turned away", e.Stats().ConnectionsRefused)
		}
		_ = slow.SetReadDeadline(time.Time{})
		connect(t, slow, "slow")
		connect(t, connectFrom(e, "192.0.2.66"), "of the flood") // it is let in if it says who it is
		for _, c := range in {
			c.send([]byte{wire.Pingreq << 4, 0})
			c.expect("PINGRESP")
		}
	})
}

// A stranger is given no more memory than who it is takes.
func TestLargeConnect(t *testing.T) {
	inBubble(t, engine.Options{}, func(t *testing.T, e *engine.Engine) {
		began := time.Now()
		c := pipe(t, e)
		_, _ = c.Write([]byte{wire.Connect << 4, 0x80, 0x80, 0x40}) // a MiB
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(began) > 0 {
			t.Errorf("a CONNECT of a MiB: %v after %v", err, time.Since(began))
		}
	})
}

// Filters may be long, but not all of them.
func TestLongFilters(t *testing.T) {
	inBubble(t, engine.Options{}, func(t *testing.T, e *engine.Engine) {
		c := connect(t, pipe(t, e), "c", v5)
		long := strings.Repeat("x", 60_000)
		for i := range 17 {
			c.subscribe(subscription(fmt.Sprint(long, i), 1))
			c.expect("SUBACK 01")
		}
		c.subscribe(subscription(long, 1))
		c.expect("SUBACK 97")
		c.subscribe(subscription(long+"0", 1)) // one that there is
		c.expect("SUBACK 01")
	})
}

// However much clients have retained, the hub's own orders are.
func TestOwnMessagesAreRetained(t *testing.T) {
	inBubble(t, engine.Options{Limits: engine.Limits{MaxRetained: 2}}, func(t *testing.T, e *engine.Engine) {
		c := connect(t, pipe(t, e), "c", v5)
		for i, want := range []string{"", "", " code 97"} {
			c.publish(1, fmt.Sprint("fill/", i), "x", true)
			c.expect(fmt.Sprintf("PUBACK %d%s", c.id, want))
		}
		e.Publish(topics.Message{Topic: "order", Payload: []byte("start"), QoS: 1, Retain: true})
		c.subscribe(subscription("order", 0))
		c.expect("SUBACK 00", "order start retained")
	})
}
