package simulation

import (
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestExclusive breaks what it can around a service that must never run twice,
// and looks at each tenth of a second, and at each start.
func TestExclusive(t *testing.T) {
	eachSeed(t, 6, func(t *testing.T, seed uint64) {
		inHome(t, options{
			seed: seed, machines: []string{"attic", "cellar", "hall"}, network: newWires,
			timing:   "[timing]\nisolation = \"6s\"\nsettle = \"4s\"\n",
			services: map[string][]string{"lock": {`priority = "required"`, `exclusive = true`, `stop_timeout = "2s"`}},
		}, func(h *home) {
			r := rand.New(rand.NewPCG(seed, 36))
			runs := func() (n int) {
				for _, m := range h.all() {
					n += m.running("lock")
				}
				return n
			}
			watch := func(d time.Duration) {
				for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
					synctest.Wait()
					if runs() > 1 {
						h.Fatalf("two at once: %s", h.where("lock"))
					}
				}
			}
			h.within(20*time.Second, "it runs", func() bool { return runs() == 1 })
			served, looks := 0, 0
			backup := h.dir + "/backup"
			h.copyDir(h.cfg.DataDir, backup)
			for range 60 {
				m := h.all()[r.IntN(3)]
				if where := strings.Trim(h.where("lock"), "[]"); where != "" && r.IntN(2) == 0 {
					m = h.machines[where]
				}
				switch what := r.IntN(13); {
				case what == 11 && h.endHub != nil: // the next one must wait for a lease it knows nothing of
					h.logf("the line of %s is cut, and the hub begins anew", m.name)
					h.net.cut(m, true, true)
					watch(time.Duration(r.IntN(1000)) * time.Millisecond)
					h.stop(ending(r.IntN(3)))
					h.start()
				case what == 0 && h.endHub != nil:
					h.logf("the hub ends")
					h.stop(ending(r.IntN(3)))
				case what <= 2 && h.endHub == nil:
					if r.IntN(2) == 0 {
						h.logf("a backup is restored")
						h.copyDir(backup, h.cfg.DataDir)
						h.laws.restoredHub()
					}
					h.start()
				case what == 3:
					h.copyDir(h.cfg.DataDir, backup)
				case what == 4 && m.stopAgent != nil:
					h.logf("%s stops", m.name)
					m.stop()
				case what == 5 && m.stopAgent != nil:
					h.logf("%s is killed", m.name)
					m.kill()
				case what == 6 && m.stopAgent != nil:
					h.logf("%s loses its power", m.name)
					m.cut()
				case what == 7:
					h.logf("the line of %s is cut", m.name)
					h.net.cut(m, r.IntN(2) == 0, true)
				case what == 8:
					m.setIllness("lock", illness{stubborn: true})
				default:
					h.net.restore(m)
					m.heal()
					if m.stopAgent == nil {
						h.logf("%s starts", m.name)
						m.power()
					}
				}
				watch(time.Duration(r.IntN(14000)) * time.Millisecond)
				looks++
				served += runs()
			}
			h.logf("calm")
			if h.endHub == nil {
				h.start()
			}
			for _, m := range h.all() {
				h.net.restore(m)
				m.heal()
				if m.stopAgent == nil {
					m.power()
				}
			}
			watch(40 * time.Second)
			if runs() != 1 {
				h.Errorf("it does not run although all is well: %s", h.last("dominion/service/lock/status"))
			}
			t.Logf("it ran at %d of %d looks", served, looks)
		})
	})
}
