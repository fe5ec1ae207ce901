package agent

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// joins returns the joins that came, as they were signed.
func (u *hub) joins() (all []topics.HubRequest) {
	u.mu.Lock()
	defer u.mu.Unlock()
	topic, _ := u.tree.Request(topics.VerbJoin)
	for _, m := range u.received {
		if m.Topic != topic || !signed.IsSigned(m.Payload) {
			continue
		}
		ask, err := topics.Decode[topics.HubRequest](m.Topic, m.Payload)
		if err != nil {
			u.h.t.Error(err)
		}
		if ask.Confirm == "" && ask.KeyList == "" {
			all = append(all, ask)
		}
	}
	return all
}

// An adopted domain joins by the signed grant of its hub alone: forged ones that come
// before it change nothing.
func TestForgedGrants(t *testing.T) {
	for name, forge := range map[string]func(u *hub, right topics.Message) []byte{
		"unsigned": func(_ *hub, right topics.Message) []byte {
			body, _ := signed.Unverified(right.Payload)
			return bytes.Replace(body, []byte(`"epoch":5`), []byte(`"epoch":900000`), 1)
		},
		"altered": func(_ *hub, right topics.Message) []byte {
			return bytes.Replace(right.Payload, []byte(`"epoch":5`), []byte(`"epoch":9`), 1)
		},
		"of another authority": func(u *hub, right topics.Message) []byte {
			other := newAdopter(u.h.t, "d1", 0)
			body, _ := signed.Unverified(right.Payload)
			reply, _ := topics.Decode[topics.Reply]("", body)
			return other.sign(last[topics.Domain](u, topics.DomainStatus).ID, reply)
		},
		"signed for another domain": func(u *hub, right topics.Message) []byte {
			body, _ := signed.Unverified(right.Payload)
			reply, _ := topics.Decode[topics.Reply]("", body)
			return u.adopts.sign("another", reply)
		},
		"replayed": func(u *hub, right topics.Message) []byte { return right.Payload },
		"names twice": func(u *hub, right topics.Message) []byte {
			body, _ := signed.Unverified(right.Payload)
			body = append(body[:len(body)-1], `,"DATA":{"epoch":9}}`...)
			c := signed.Context{Kind: topics.ResponseTo.SignedKind(), Dominion: "d1", Domain: last[topics.Domain](u, topics.DomainStatus).ID}
			m, _ := signed.Sign(u.adopts.own.Key, c, body)
			return m
		},
	} {
		t.Run(name, func(t *testing.T) {
			inTestNetwork(t, func(h *testNetwork) {
				u, a := h.adoptedPi(true)
				var right topics.Message
				u.mu.Lock()
				for _, m := range u.received {
					if strings.HasSuffix(m.Topic, "/response/join/pi") && signed.IsSigned(m.Payload) {
						right = m
					}
				}
				join := u.answer
				u.answer = func(ask topics.HubRequest) (topics.Reply, bool) {
					r, answers := join(ask)
					if !answers || ask.Renew {
						return r, answers
					}
					current := topics.Message{Topic: right.Topic, Payload: u.adopts.sign(ask.ID, r)}
					if name == "replayed" {
						current = right
					}
					u.mu.Unlock()
					u.Publish(topics.Message{Topic: right.Topic, Payload: forge(u, current), QoS: 1})
					u.mu.Lock()
					return r, answers
				}
				u.mu.Unlock()
				a.stop()
				b := h.agent(a.dir, open)
				time.Sleep(8 * time.Second)
				if got := len(b.runner.starts()); got != 0 {
					t.Errorf("%d starts", got)
				}
				if !strings.Contains(h.log.String(), "joined dominion=home hub=mqtt://192.0.2.1:1883 epoch=5") || strings.Contains(h.log.String(), "epoch=9") {
					t.Error("not joined by the grant of the hub")
				}
				if name != "replayed" && !strings.Contains(h.log.String(), "is not believed") {
					t.Error("nothing is logged")
				}
			})
		})
	}
}

// A join shows the last start command that was obeyed, as its hub signed it, also after a
// restart of the agent; joins are counted within a session.
func TestJoinShowsLastStartCommand(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u, a := h.adoptedPi(true)
		s := u.signer()
		order := s.start(5, 1, "web")
		u.send(u.tree.Domain(topics.DomainServicesSet, "pi"), string(order), true)
		time.Sleep(5 * time.Second)
		if all := u.joins(); len(all) != 1 || all[0].Last != "" || all[0].Number != 1 {
			t.Errorf("the first join: %+v", all)
		}
		u.domain(topics.DomainCommand, string(s.command(1, topics.ActionResync, "")))
		time.Sleep(5 * time.Second)
		if all := u.joins(); len(all) != 2 || all[1].Last != string(order) || all[1].Number <= all[0].Number || all[1].Session != all[0].Session {
			t.Errorf("the second join: %+v", all)
		}
		a.stop()
		u.forget()
		h.agent(a.dir, open)
		time.Sleep(8 * time.Second)
		if all := u.joins(); len(all) != 1 || all[0].Last != string(order) || all[0].Number != 1 {
			t.Errorf("the join of the next run: %+v", all)
		}
	})
}
