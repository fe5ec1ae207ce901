package hub_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// What domains report carries neither the hub's epoch nor its generations beyond
// what its other domains obey, however often they report.
func TestReportsCannotLockOthersOut(t *testing.T) {
	const agentsTake = 1_000_000
	for _, step := range []uint64{999_000, 99_000, 9_000, 1} {
		t.Run(fmt.Sprint(step), func(t *testing.T) {
			inHome(t, chain+lock, func(h *home) {
				kitchen := h.agent("kitchen", []string{"lamp"}, "lamp", "web", "orchestrator", "lock")
				if err := kitchen.join(); err != nil {
					h.Fatal(err)
				}
				defer kitchen.leave()
				if err := h.askJoin("mallory", "id-of-mallory", "m"); err != nil {
					h.Fatal(err)
				}
				time.Sleep(25 * time.Second)
				forge := func(b topics.Heartbeat) {
					b.ID, b.Session = "id-of-mallory", "m"
					h.publish("dominion/domain/mallory/heartbeat", string(topics.Encode(b)), false)
				}
				was := h.status().Epoch
				for i := range uint64(12) {
					forge(topics.Heartbeat{Epoch: h.status().Epoch + step, Seq: i})
				}
				h.stop()
				h.start() // nothing begins again with the hub
				_ = kitchen.rejoin()
				for i := range uint64(12) {
					forge(topics.Heartbeat{Epoch: h.status().Epoch + step, Seq: i})
				}
				if is := h.status().Epoch; is-was > 100_002 {
					h.Errorf("from epoch %d to %d", was, is)
				}
				if step > 1 && !strings.Contains(h.transcript(topics.MessageRefused), "dominionctl resync mallory") {
					h.Errorf("nobody says so: %s", h.story())
				}
				time.Sleep(25 * time.Second)

				// The same with generations, of a domain that obeys.
				highest := func(domain string) uint64 {
					return get[topics.StartCommand](h, "dominion/domain/"+domain+"/services/set").Generation
				}
				first := highest("kitchen")
				h.publish("dominion/domain/mallory/availability", "online", false)
				h.publish("dominion/domain/mallory/status", `{"id":"id-of-mallory","name":"mallory","session":"m","protocol":"1.0","services":[],"catalog":[{"service":"web","version":"1"}]}`, false)
				for i := range uint64(12) {
					raised := uint64(0)
					if c := h.last("dominion/domain/mallory/services/set"); c != "" {
						raised = highest("mallory")
					}
					forge(topics.Heartbeat{Epoch: h.status().Epoch, Generation: raised + step, Seq: 100 + i})
					h.publish("dominion/service/lock/set", []string{"ON", "OFF"}[i%2], false)
					time.Sleep(2500 * time.Millisecond)
				}
				h.publish("dominion/service/lock/set", "ON", false)
				time.Sleep(3 * time.Second)
				if is := highest("kitchen"); is-first > agentsTake/2 {
					h.Errorf("the generation of kitchen went from %d to %d", first, is)
				}
				h.publish("dominion/service/lamp/set", "OFF", false)
				time.Sleep(2 * time.Second)
				if got := h.where("lamp"); got != "[]" {
					h.Errorf("kitchen is locked out: lamp %s", got)
				}
			})
		})
	}
}
