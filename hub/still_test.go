package hub

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/stall"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/topics"
)

type deafBus struct{}

func (deafBus) Publish(topics.Message) {}

// A hub that stood still has not received the heartbeats that wait for it: that
// is no silence. Real silence, before or after, is.
func TestStandingStillIsNoSilence(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for _, c := range []struct {
		name   string
		passes []float64 // when the loop looks, in seconds after the last heartbeat
		want   topics.DomainState
	}{
		{"it looks often and hears nothing", []float64{0.7, 1.4, 2.1, 2.8, 3}, topics.DomainIsLost},
		{"it stood still", []float64{0.7, 20}, topics.DomainIsOnline},
		{"it stood still until just when the silence was over", []float64{0.7, 1.4, 3}, topics.DomainIsOnline},
		{"it stood still twice", []float64{0.7, 20, 40}, topics.DomainIsOnline},
		{"it stood still and then hears nothing", []float64{0.7, 20, 20.7, 21.4, 22.1, 22.4}, topics.DomainIsLost},
		{"it was lost before", []float64{0.7, 1.4, 2.1, 2.8, 3, 20}, topics.DomainIsLost},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, err := config.LoadDominion("", nil)
			if err != nil {
				t.Fatal(err)
			}
			disk, err := store.Open(t.TempDir(), log)
			if err != nil {
				t.Fatal(err)
			}
			h := New(Options{Config: cfg, Store: disk, Bus: deafBus{}, Log: log})
			beat := time.Now()
			d := h.fleet.Restore(domain{
				Name: "kitchen", ID: "1", Available: true, HasBeat: true, BeatAt: beat,
				Status: &topics.Domain{}, State: topics.DomainIsOnline, Since: beat,
			}, false)
			h.bus.connected = true
			h.schedule.stall.Observe(beat, 0, time.Hour)
			h.fleet.Settle(0, beat)
			for _, after := range c.passes {
				now := beat.Add(time.Duration(after * float64(time.Second)))
				h.stoodStill(now)
				h.expire(now)
				if h.schedule.wake.Sub(now) > time.Second && d.State == topics.DomainIsOnline {
					t.Errorf("at %v s it looks again only after %v", after, h.schedule.wake.Sub(now))
				}
			}
			if d.State != c.want {
				t.Errorf("%s, want %s", d.State, c.want)
			}
		})
	}
}

// A hub that waited for its broker did not stand still.
func TestWaitingForTheBrokerIsNoStandingStill(t *testing.T) {
	cfg, err := config.LoadDominion("", nil)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	log := slog.New(slog.NewTextHandler(&out, nil))
	disk, err := store.Open(t.TempDir(), log)
	if err != nil {
		t.Fatal(err)
	}
	var figures stall.Figures
	h := New(Options{Config: cfg, Store: disk, Bus: deafBus{}, Log: log, Figures: func() stall.Figures { return figures }})
	now := time.Now()
	d := h.fleet.Restore(domain{
		Name: "kitchen", ID: "1", Available: true, HasBeat: true, BeatAt: now,
		Status: &topics.Domain{}, State: topics.DomainIsOnline, Since: now,
	}, false)
	h.bus.connected = true
	h.schedule.stall.Observe(now, 0, time.Hour)
	h.fleet.Settle(0, now)
	h.round(nil, now)
	h.round([]event{disconnected{}}, now.Add(500*time.Millisecond))
	back := now.Add(time.Minute)
	h.round([]event{connected{}}, back)
	if strings.Contains(out.String(), "stood still") {
		t.Errorf("%s", out.String())
	}
	if d.State != topics.DomainIsOnline {
		t.Errorf("the domain is %s", d.State)
	}
	h.round(nil, back.Add(20*time.Second)) // and this is
	if !strings.Contains(out.String(), "stood still") {
		t.Errorf("%s", out.String())
	}

	// The figures of before are of the pass before.
	figures = stall.Figures{Available: true, Pressure: true, Memory: time.Hour}
	h.round(nil, back.Add(21*time.Second))
	out.Reset()
	figures.Memory += 15 * time.Second
	h.round(nil, back.Add(41*time.Second))
	if !strings.Contains(out.String(), "stood still: the machine is out of memory") {
		t.Errorf("%s", out.String())
	}
}
