package config

import (
	"fmt"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// timingSection returns [timing], whose keys are all durations.
func timingSection() section[*Dominion] {
	row := func(key string, of func(*topics.Timing) *topics.Seconds, usual time.Duration, doc string) setting[*Dominion] {
		return setting[*Dominion]{
			key: key, of: func(d *Dominion) any { return of(&d.Timing) }, def: usual, effect: byReload, doc: doc,
			check: func(t *table, key string, v any) {
				if *v.(*topics.Seconds) == 0 && key != "settle" {
					t.fault(key, "the default is "+quote(usual.String()), "must be longer than nothing")
				}
			},
		}
	}
	return section[*Dominion]{
		path: "timing", doc: "sent to the domains",
		settings: []setting[*Dominion]{
			row("heartbeat", func(t *topics.Timing) *topics.Seconds { return &t.Heartbeat }, time.Second, "between heartbeats"),
			row("lost_after", func(t *topics.Timing) *topics.Seconds { return &t.LostAfter }, 3*time.Second, "without a heartbeat for this time: lost"),
			row("failover_after", func(t *topics.Timing) *topics.Seconds { return &t.FailoverAfter }, 500*time.Millisecond, "lost for this time: its services move"),
			row("isolation", func(t *topics.Timing) *topics.Seconds { return &t.Isolation }, 10*time.Second, "no hub for this time: a domain looks for one again"),
			row("settle", func(t *topics.Timing) *topics.Seconds { return &t.Settle }, 10*time.Second, "after its start the hub waits at most this long for the known domains"),
		},
		judge: func(in tables, d *Dominion) { in["timing"].heartbeats(d.Timing) },
	}
}

// heartbeats checks what must be longer than a heartbeat.
func (t *table) heartbeats(timing topics.Timing) {
	beat := timing.Heartbeat.Duration()
	for _, k := range []struct {
		key   string
		limit time.Duration
	}{{"lost_after", timing.LostAfter.Duration()}, {"isolation", timing.Isolation.Duration()}} {
		if k.limit > beat || !t.valid(k.key) || !t.valid("heartbeat") {
			continue
		}
		if t.set(k.key) {
			t.fault(k.key, "write three heartbeats or more", "%v must be longer than heartbeat, which is %v", k.limit, beat)
		} else { // then heartbeat is what was changed
			t.fault("heartbeat", "raise "+k.key+" too", "%v must be shorter than %s, which is %v", beat, k.key, k.limit)
		}
	}
}

// leases checks that a lease survives a heartbeat that is lost: an exclusive
// service that its domain cannot hold is stopped.
func (t *table) leases(d Dominion) {
	const beats = 3
	beat, lease := d.Timing.Heartbeat.Duration(), d.Timing.Isolation.Duration()
	i := slices.IndexFunc(d.Services, func(s services.Definition) bool { return s.Exclusive })
	if i < 0 || lease >= beats*beat || lease <= beat || !t.valid("isolation") || !t.valid("heartbeat") {
		return
	}
	key := "isolation"
	if !t.set(key) {
		key = "heartbeat"
	}
	t.fault(key, fmt.Sprintf("isolation must be %d heartbeats or more", beats),
		"%s is exclusive and runs no longer than isolation, %v, without the hub: too short for a heartbeat of %v", d.Services[i].Name, lease, beat)
}

// DefaultTiming returns the timing of a dominion that says nothing about it.
func DefaultTiming() topics.Timing { return defaults().Timing }
