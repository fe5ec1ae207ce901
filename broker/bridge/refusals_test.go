package bridge_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/bridge"
	"github.com/jmbarzee/dominion/topics"
)

var shared = bridge.Rule{Filter: "#", LocalPrefix: "shared/", RemotePrefix: "shared/", Out: true, In: true, QoS: 1}

// refusing is a home whose other broker refuses what a test does not want it to
// take.
func refusing(t *testing.T, here, there broker.Config, test func(t *testing.T, h *home)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		password := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(password, []byte("correct-horse\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, c := range []*broker.Config{&here, &there} {
			c.DataDir = t.TempDir()
			for i := range c.Users {
				c.Users[i].PasswordFile = password
			}
		}
		h := &home{here: startWith(t, here), there: startWith(t, there)}
		test(t, h)
		h.here.stop(t)
		h.there.stop(t)
	})
}

// leftOut checks that the bridge carries, and what it left out last.
func (h *home) leftOut(t *testing.T, n uint64, direction, topic, reason string) {
	t.Helper()
	synctest.Wait()
	s := h.bridge.Status()
	if !s.Connected || s.Refused != n || s.Last == nil {
		t.Fatalf("%+v, want connected and %d refused", s, n)
	}
	if r := s.Last; r.Direction != direction || r.Topic != topic || !strings.Contains(r.String(), reason) {
		t.Errorf("%+v %q, want %s %s %q", *r, r.String(), direction, topic, reason)
	}
	if got := h.here.DroppedFor(bridge.LocalID("attic")); got != n {
		t.Errorf("%d are counted for the bridge, want %d", got, n)
	}
}

// What the user of the bridge may not publish at the other broker is left out, and
// what is behind it goes on, in order, on the same connection.
func TestTopicThatTheOtherSideRefuses(t *testing.T) {
	users := []broker.User{{Name: "bridge", Role: "device"}}
	refusing(t, broker.Config{}, broker.Config{Users: users, Prefix: "dominion"}, func(t *testing.T, h *home) {
		h.user = "bridge"
		stop := h.run(t, bridge.Rule{Filter: "#", Out: true, QoS: 1, LocalPrefix: "shared/"})
		for i := range 300 {
			h.here.say("shared/a", fmt.Sprint(i), false)
			if i%100 == 50 {
				h.here.say("shared/dominion/service/web/set", "OFF", true)
			}
		}
		h.there.expect(t, numbered("a", 300)...)
		h.leftOut(t, 3, bridge.Out, "dominion/service/web/set", "not authorized (0x87)")
		if n := h.dials.Load(); n != 1 {
			t.Errorf("it connected %d times", n)
		}
		stop()
	})
}

// A message that is larger than the other broker takes is not sent, and the limit
// is named.
func TestMessageThatIsTooLarge(t *testing.T) {
	refusing(t, broker.Config{}, broker.Config{Limits: broker.Limits{MaxPacket: 2000}}, func(t *testing.T, h *home) {
		stop := h.run(t, shared)
		for _, qos := range []byte{0, 1} {
			h.here.Publish(topics.Message{Topic: "shared/image", Payload: make([]byte, 3000), QoS: qos})
			h.here.say("shared/a", fmt.Sprint(qos), false)
		}
		h.there.expect(t, "shared/a 0 1", "shared/a 1 1")
		h.leftOut(t, 2, bridge.Out, "shared/image", "3020 bytes, the limit is 2000")
		if n := h.dials.Load(); n != 1 {
			t.Errorf("it connected %d times", n)
		}
		stop()
	})
}

// What our own broker does not take from the bridge's user is left out, too.
func TestTopicThatOurSideRefuses(t *testing.T) {
	users := []broker.User{{Name: "attic", Role: "device"}}
	refusing(t, broker.Config{Users: users, Prefix: "dominion"}, broker.Config{}, func(t *testing.T, h *home) {
		h.localUser = "attic"
		stop := h.run(t, bridge.Rule{Filter: "dominion/service/#", In: true, QoS: 1}, shared)
		h.there.say("shared/a", "1", false)
		h.there.say("dominion/service/web/set", "OFF", false)
		h.there.say("shared/a", "2", false)
		h.here.expect(t, "shared/a 1 1", "shared/a 2 1")
		h.leftOut(t, 1, bridge.In, "dominion/service/web/set", "not authorized")
		stop()
	})
}

// A subscription that is refused does not keep the others from being carried.
func TestRefusedSubscription(t *testing.T) {
	users := []broker.User{{Name: "attic", Role: "device"}}
	refusing(t, broker.Config{Users: users, Prefix: "dominion"}, broker.Config{}, func(t *testing.T, h *home) {
		h.localUser = "attic"
		stop := h.run(t, bridge.Rule{Filter: "dominion/domain/pi/command", Out: true, QoS: 1}, shared)
		h.here.say("shared/a", "1", false)
		h.there.expect(t, "shared/a 1 1")
		s := h.bridge.Status()
		if len(s.Filters) != 1 || !strings.HasPrefix(s.Filters[0], "out dominion/domain/pi/command: ") || !s.Connected {
			t.Errorf("%+v", s)
		}
		stop()
	})
}

// inOrder checks that all came in order; after a connection has ended what was under
// way may come once more.
func inOrder(t *testing.T, got, want []string) {
	t.Helper()
	next := 0
	for _, line := range got {
		if next < len(want) && line == want[next] {
			next++
		} else if !slices.Contains(want[:next], line) {
			t.Fatalf("%q came where %q is due", line, want[min(next, len(want)-1)])
		}
	}
	if next < len(want) {
		t.Errorf("%q did not come", want[next])
	}
}

// ender is a broker behind which another one works: it ends the connection at what
// it does not take, as brokers of 3.1.1 do.
type ender struct {
	old   bool                     // it does not speak 5.0
	ends  func(packet []byte) bool // at a PUBLISH
	asked func(packet []byte) bool // at a SUBSCRIBE
	acks  func(packet []byte) bool // whether it passes on what comes back; nil: all
}

func (e ender) between(broker net.Conn) net.Conn {
	inner, outer := net.Pipe()
	bridged := broker
	go func() { // from the bridge
		defer inner.Close()
		defer bridged.Close()
		for {
			packet, err := readPacket(bridged)
			if err != nil {
				return
			}
			if packet[0]>>4 == 1 && e.old && packet[8]&0x7f == 5 {
				_, _ = bridged.Write([]byte{0x20, 2, 0, 1})
				return
			}
			if packet[0]>>4 == 3 && e.ends != nil && e.ends(packet) {
				return
			}
			if packet[0]>>4 == 8 && e.asked != nil && e.asked(packet) {
				return
			}
			if _, err := inner.Write(packet); err != nil {
				return
			}
		}
	}()
	go func() { // to it
		defer inner.Close()
		defer bridged.Close()
		for {
			packet, err := readPacket(inner)
			if err != nil {
				return
			}
			if e.acks != nil && !e.acks(packet) {
				continue
			}
			if _, err := bridged.Write(packet); err != nil {
				return
			}
		}
	}()
	return outer
}

func readPacket(c net.Conn) ([]byte, error) {
	packet := make([]byte, 1, 64)
	if _, err := io.ReadFull(c, packet); err != nil {
		return nil, err
	}
	size := 0
	for shift := 0; ; shift += 7 {
		var digit [1]byte
		if _, err := io.ReadFull(c, digit[:]); err != nil {
			return nil, err
		}
		packet = append(packet, digit[0])
		size |= int(digit[0]&0x7f) << shift
		if digit[0] < 0x80 {
			break
		}
	}
	at := len(packet)
	packet = append(packet, make([]byte, size)...)
	_, err := io.ReadFull(c, packet[at:])
	return packet, err
}

func contains(text string) func([]byte) bool {
	return func(packet []byte) bool { return strings.Contains(string(packet), text) }
}

// A broker that ends the connection at a message is found out: that one is left
// out, wherever it stands among others, and all others arrive in order.
func TestMessageAtWhichTheOtherSideEndsTheConnection(t *testing.T) {
	for _, old := range []bool{true, false} {
		for _, bad := range [][]int{{0}, {7}, {49}, {3, 4, 30}} {
			t.Run(fmt.Sprint(old, bad), func(t *testing.T) {
				bubble(t, func(t *testing.T, h *home) {
					h.between = ender{old: old, ends: contains("shared/bad")}.between
					h.down.Store(true)
					stop := h.run(t, shared)
					var want []string
					for i := range 50 {
						topic := "shared/good"
						if slices.Contains(bad, i) {
							topic = fmt.Sprintf("shared/bad/%d", i)
						} else {
							want = append(want, fmt.Sprintf("shared/good %d 1", i))
						}
						h.here.say(topic, fmt.Sprint(i), false)
					}
					h.down.Store(false)
					time.Sleep(time.Minute)
					inOrder(t, h.there.saw(), want)
					h.leftOut(t, uint64(len(bad)), bridge.Out, fmt.Sprintf("shared/bad/%d", bad[len(bad)-1]), "the broker ended the connection")
					// From now on all is as before.
					dials := h.dials.Load()
					for i := range 10 {
						h.here.say("shared/good", fmt.Sprint("late ", i), false)
						h.here.Publish(topics.Message{Topic: "shared/good", Payload: []byte("most once")})
					}
					if got := h.there.saw(); len(got) != 20 {
						t.Errorf("%d came after it: %q", len(got), got)
					}
					if n := h.dials.Load(); n != dials {
						t.Errorf("it connected %d times more", n-dials)
					}
					stop()
				})
			})
		}
	}
}

// A device that goes on to publish what the other broker does not take does not
// have the bridge connect all the time.
func TestTopicAtWhichTheOtherSideAlwaysEnds(t *testing.T) {
	bubble(t, func(t *testing.T, h *home) {
		h.between = ender{old: true, ends: contains("shared/bad")}.between
		stop := h.run(t, shared)
		for i := range 600 {
			h.here.say("shared/bad", fmt.Sprint(i), false)
			h.here.say("shared/good", fmt.Sprint(i), false)
			time.Sleep(time.Second)
		}
		if n := h.dials.Load(); n > 30 {
			t.Errorf("it connected %d times in ten minutes", n)
		}
		inOrder(t, h.there.saw(), numbered("shared/good", 600))
		if s := h.bridge.Status(); s.Refused != 600 {
			t.Errorf("%d are counted as refused, want 600", s.Refused)
		}
		stop()
	})
}

// An outage is no refusal: connections that break with messages under way, ended
// by the broker after some were acknowledged or dead without a word, lose nothing.
func TestOutageIsNoRefusal(t *testing.T) {
	for name, e := range map[string]func() ender{
		"the broker ends after some": func() ender {
			n := 0
			return ender{old: true, ends: func([]byte) bool { n++; return n > 4 }}
		},
		"no acknowledgement comes back": func() ender {
			var once sync.Mutex
			acks := 0
			return ender{acks: func(packet []byte) bool {
				once.Lock()
				defer once.Unlock()
				if packet[0]>>4 == 4 {
					acks++
				}
				return acks < 3
			}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, h *home) {
				h.between = func(c net.Conn) net.Conn { return e().between(c) }
				stop := h.run(t, shared)
				for i := range 20 {
					h.here.say("shared/a", fmt.Sprint(i), false)
				}
				time.Sleep(30 * time.Minute)
				inOrder(t, h.there.saw(), numbered("shared/a", 20))
				if s := h.bridge.Status(); s.Refused != 0 {
					t.Errorf("%d are counted as refused", s.Refused)
				}
				stop()
			})
		})
	}
}

// A broker that ends the connection at a subscription keeps the others carried.
func TestSubscriptionAtWhichTheOtherSideEndsTheConnection(t *testing.T) {
	bubble(t, func(t *testing.T, h *home) {
		h.between = ender{asked: contains("secret/#")}.between
		stop := h.run(t, bridge.Rule{Filter: "secret/#", In: true, QoS: 1}, shared)
		time.Sleep(10 * time.Second)
		h.there.say("shared/a", "1", false)
		h.here.expect(t, "shared/a 1 1")
		if s := h.bridge.Status(); len(s.Filters) != 1 || !strings.HasPrefix(s.Filters[0], "in secret/#: ") {
			t.Errorf("%+v", s)
		}
		stop()
	})
}
