package hub

import (
	"runtime"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/hub/questions"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// FuzzReceive: nothing that a client can publish ends the hub or keeps it busy.
func FuzzReceive(f *testing.F) {
	for _, seed := range [][2]string{
		{"dominion/domain/kitchen/availability", "online"},
		{"dominion/domain/kitchen/heartbeat", `{"id":"1","session":"s","epoch":18446744073709551615,"generation":18446744073709551615}`},
		{"dominion/domain/kitchen/status", `{"id":"1","protocol":"1.0","services":[{"service":"service-01","state":"failed"}],"catalog":[{"service":"service-01","version":"x"}]}`},
		{"dominion/domain/esp/status", `{"micro":true,"services":[{"service":"service-01","state":"running","port":1}]}`},
		{"dominion/domain/kitchen/metrics", `{"temperature":null}`},
		{"dominion/domain/kitchen/event", `{"type":"service_failed","message":"\u0000"}`},
		{"dominion/domain/kitchen/response", `{"transaction":"x","status":"error"}`},
		{"dominion/service/service-01/set", `{"replicas":9999}`},
		{"dominion/service/service-01/set", `RESTART`},
		{"dominion/service/gone/status", `{}`},
		{"dominion/request/join", `{"id":"1","name":"kitchen","session":"t"}`},
		{"dominion/request/why", `{"service":"service-01","domain":"kitchen"}`},
		{"dominion/request/forget", `{"domain":"kitchen"}`},
		{"dominion/request/plan", ``},
		{"dominion/request/status", `{"limit":-1}`},
		{"dominion/request/events", `{"limit":-9223372036854775808}`},
		{"homeassistant/status", `online`},
	} {
		f.Add(seed[0], []byte(seed[1]), false)
		f.Add(seed[0], []byte(seed[1]), true)
	}
	for _, text := range hostileConfigs() {
		f.Add("dominion/request/plan", topics.Encode(topics.HubRequest{Config: text[:min(len(text), 5000)]}), false)
	}
	h := town(f, 2, 3)
	now := time.Now()
	const adopted = "domain-0001" // it has a key, and signs what it publishes
	key := adoptWithKey(f, h, adopted)
	for k, payload := range map[topics.Kind]string{
		topics.DomainStatus:   `{"id":"domain-0001","name":"domain-0001","session":"s","seq":18446744073709551615,"protocol":"1.0","micro":true}`,
		topics.DomainEvent:    `{"type":"service_failed","message":"m","session":"s","seq":1}`,
		topics.DomainResponse: `{"transaction":"x","status":"ok","data":{}}`,
		topics.Request:        `{"id":"domain-0001","name":"domain-0001","session":"t","number":1,"word":"w","transaction":"x","last":"{}"}`,
	} {
		m, err := signed.Sign(key, signed.Context{Kind: k.SignedKind(), Dominion: h.ID(), Domain: adopted}, []byte(payload))
		if err != nil {
			f.Fatal(err)
		}
		topic := "dominion/request/join"
		if k != topics.Request {
			topic = h.tree.Domain(k, adopted)
		}
		f.Add(topic, m, false)
		f.Add(topic, m, true)
		f.Add(topic, []byte(payload), false)
	}
	f.Fuzz(func(t *testing.T, topic string, payload []byte, retained bool) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		h.handle(arrival(h.tree, topics.Message{Topic: topic, Payload: payload}, retained), now)
		h.work.ended.Wait() // signatures are verified
		for events, _ := h.box.Take(); len(events) > 0; events, _ = h.box.Take() {
			for _, e := range events {
				h.handle(e, now)
			}
			h.work.ended.Wait()
		}
		now = now.Add(300 * time.Millisecond)
		h.expire(now)
		for pass := 0; h.changed.Pending(); pass++ {
			h.reconcile(now)
			if pass > 10 {
				t.Fatal("the plan never comes to rest")
			}
		}
		h.answer(topics.VerbStatus, asked{}, now)
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > uint64(len(payload)*bytesPerByte+bytesOfTurn) || took > longestTurn {
			t.Errorf("%d bytes allocated, %v, for %d bytes at %q", used, took, len(payload), topic)
		}
		h.plansInTime(t, now)
	})
}

// plansInTime works out the question that waits, if one does, and checks what
// it costs.
func (h *Hub) plansInTime(t *testing.T, now time.Time) {
	one, some := h.pending.questions.Take()
	if !some {
		return
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	next, err := one.Definitions(nil)
	if err == nil {
		var home questions.Home
		if home, err = h.suppose(one.Ask, next); err == nil {
			home.Plan(func() bool { return false })
		}
	}
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > uint64(len(one.Ask.Config)*bytesPerByte+bytesOfTurn) || took > longestTurn {
		t.Errorf("%d bytes allocated, %v, to plan %.200q", used, took, one.Ask.Config)
	}
	if err != nil && len(err.Error()) > 10_000 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}
