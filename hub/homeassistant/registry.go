package homeassistant

import (
	"crypto/sha256"
	"maps"
	"time"
)

// Registry records what was announced to Home Assistant, and decides what is
// published next and when. Like the rest of the package it does no I/O: it is given
// the time and returns messages. What must survive a restart is in Snapshot.
//
// Home Assistant has rules that none of its documents lists in one place:
//
//   - A component that is omitted from a config stays. It is removed by sending it
//     once as its platform alone, and must be omitted after that.
//   - It removes only what it has discovered in this run of its own. A removal of
//     something else leaves entities in its registry for ever, and one of a device
//     that it does not know is a warning in its log. So what was removed while it
//     was away is announced once more at its birth, as little of it as makes it
//     known, and removed after that.
//   - A config that arrives while it still processes an earlier one of the device
//     is processed in part: different configs of a device are seconds apart.
//   - A trigger that is removed together with the last entity of its device may
//     remove it as if a person had deleted the device. So triggers are removed first.
//   - When a person deletes a device it publishes the empty config itself.
//     Where the hub does not receive that, compareReplay detects it afterwards.
type Registry struct {
	options Options
	// retains reports whether the broker has what is retained at a topic after a
	// restart; nil: it does.
	retains func(topic string) bool
	// entries are the devices by topic.
	entries map[string]*entry
	// online is set while the hub is connected to the broker.
	online bool

	// replayUntil is until when the broker replays what it retains.
	replayUntil time.Time
	// compared is set once what the broker retains was compared with the entries.
	compared bool
	// changes counts the changes to what the broker is to retain.
	changes uint64
	// brokerCount is the count that the broker retained; nil: it retained none.
	brokerCount *uint64
	// publishedCount is the count that the broker has.
	publishedCount uint64

	// verify is set where a config that is missing is requested by its topic before
	// it is taken for deleted.
	verify bool
	// unverified are the topics that are to be requested.
	unverified []string
	// verifyUntil is until when the answers are waited for; zero: nothing was requested.
	verifyUntil time.Time
	// noWildcardReplay is set where the broker has what it did not replay to the wildcard.
	noWildcardReplay bool
	// deletedAway are the topics of devices that were deleted while the hub did not
	// receive it.
	deletedAway []string

	// complete is set once all devices were announced that are to exist: the others
	// are removed.
	complete bool
	// haOnline is set where Home Assistant was online in this run, and not offline since.
	haOnline bool
	// states is when the states are to be published again; zero: they are not.
	states time.Time
	// wake is when Step has something to do; zero: nothing.
	wake time.Time
	// changed is set where Snapshot differs from the last one.
	changed bool
}

// Snapshot is what must survive a restart.
type Snapshot struct {
	// Changes is as Registry.changes.
	Changes uint64 `json:"changes"`
	// Devices are by topic.
	Devices map[string]Record `json:"devices"`
}

// Record is what is stored of one config, over restarts.
type Record struct {
	// Components are the platforms of those that Home Assistant may have, by key.
	Components map[string]string `json:"components,omitempty"`
	// Gone is a device that was removed while Home Assistant may have been away.
	Gone bool `json:"gone,omitempty"`
	// Deleted is set where a person deleted the device in Home Assistant: the
	// definition that it had then. It is announced again when that changes.
	Deleted string `json:"deleted,omitempty"`
	// Definition is the one that was announced.
	Definition string `json:"definition,omitempty"`
	// Change is the count at its last change: announced, or deleted.
	Change uint64 `json:"change,omitempty"`
	// Retained is set once the broker has retained the config: one that refuses
	// what we publish at Home Assistant's topics may not report that.
	Retained bool `json:"there,omitempty"`
	// Undiscovered is set while Home Assistant was not online since it was announced
	// first.
	Undiscovered bool `json:"undiscovered,omitempty"`
	// Firmware is the one with which it was announced as one device.
	Firmware *Firmware `json:"firmware,omitempty"`
}

// entry is the state of one device.
type entry struct {
	Record
	// write returns the config; nil: the device is not to exist.
	write      func() Config
	definition string
	// retained is set where the broker retains the payload with this sum.
	retained bool
	sum      [sha256.Size]byte
	// sentAt is the time of the last message.
	sentAt time.Time
	// due is when to process it; zero: nothing is to be done.
	due time.Time
	// repeat: after a birth of Home Assistant, also what was announced before.
	repeat bool
	// reannounce: what Home Assistant may not have discovered is announced once more
	// before it is removed; prepared: that was done.
	reannounce, prepared bool
	// removing are the components that Home Assistant was sent the removal of.
	removing map[string]string
	// merging: it becomes one with another device, and is removed first.
	merging bool
	// echoes counts our removals that come back from the broker.
	echoes int
	// unverified: it is missing, and the broker was asked for it by its topic.
	unverified bool
	// takenForDeleted: the broker did not replay it in this connection.
	takenForDeleted bool
}

// NewRegistry returns a registry that continues from a snapshot. retains reports
// whether the broker has what is retained at a topic after its restart; nil: it does.
func NewRegistry(o Options, retains func(topic string) bool, snapshot Snapshot) *Registry {
	r := &Registry{options: o, retains: retains, changes: snapshot.Changes, entries: make(map[string]*entry)}
	for topic, t := range snapshot.Devices {
		r.entries[topic] = &entry{Record: t}
	}
	return r
}

// Snapshot returns what must survive a restart.
func (r *Registry) Snapshot() Snapshot {
	snapshot := Snapshot{Changes: r.changes, Devices: make(map[string]Record)}
	for topic, e := range r.entries {
		if len(e.Components) > 0 || e.Gone || e.Deleted != "" {
			snapshot.Devices[topic] = e.Record
		}
	}
	return snapshot
}

// Changed reports whether Snapshot differs from what it was at the last call.
func (r *Registry) Changed() bool {
	was := r.changed
	r.changed = false
	return was
}

// Has reports whether a component was announced to Home Assistant, now or in an
// earlier run. A device does not lose what it once had: it must not be removed and
// added with what the hub happens to know after a restart.
func (r *Registry) Has(topic, component string) bool {
	e := r.entries[topic]
	return e != nil && e.Components[component] != ""
}

// Connected notes that the broker is connected, and replays what it retains.
func (r *Registry) Connected(now time.Time) {
	r.online, r.compared, r.replayUntil = true, false, now.Add(replayTime)
	r.wakeAt(r.replayUntil)
	for _, e := range r.entries {
		if e.write != nil || e.reannounce {
			r.schedule(e, r.replayUntil)
		}
	}
}

// Disconnected forgets what the broker retains: the next one may be another. Removals
// that are under way begin again once it is connected: Home Assistant need not be
// affected, and then publishes no birth.
func (r *Registry) Disconnected() {
	r.Offline()
	r.online, r.compared, r.brokerCount = false, false, nil
	for _, e := range r.entries {
		e.retained, e.echoes, e.takenForDeleted, e.unverified = false, 0, false, false
	}
	r.unverified, r.verifyUntil = nil, time.Time{}
}

// Announce notes that a device is to exist, with the config that write returns. A
// device that a person deleted is announced again only with another definition.
func (r *Registry) Announce(topic, definition string, write func() Config, now time.Time) {
	e := r.entry(topic)
	e.write, e.definition = write, definition
	if e.Deleted != "" && e.Deleted != definition {
		e.Deleted, r.changed = "", true
	}
	if e.Gone && e.Deleted == "" { // it exists again, with the components that were announced
		e.Gone, r.changed = false, true
	}
	r.schedule(e, later(now, r.replayUntil))
}

// Remove notes that a device is not to exist any more. Its removal is in the
// messages of the next Step, or, where it was announced a moment ago, of a later
// one: Removing.
func (r *Registry) Remove(topic string, now time.Time) {
	e := r.entries[topic]
	if e == nil {
		return
	}
	e.write, e.Retained = nil, false
	if e.Deleted != "" {
		e.Deleted, r.changed = "", true
	}
	if !e.Gone {
		r.scheduleRemoval(e, now)
	}
}

// Removing reports whether the removal of a device is still to be published.
func (r *Registry) Removing(topic string) bool {
	e := r.entries[topic]
	return e != nil && e.write == nil && !e.due.IsZero() && e.removable()
}

// Complete notes that all devices were announced that are to exist: the others are
// removed, except those that are spared.
func (r *Registry) Complete(spared map[string]bool, now time.Time) {
	r.complete = true
	for topic, e := range r.entries {
		if e.write == nil && !spared[topic] {
			r.Remove(topic, now)
		}
	}
}

// scheduleRemoval schedules the removal of a device that the broker or Home Assistant may have.
func (r *Registry) scheduleRemoval(e *entry, now time.Time) {
	if e.removable() {
		r.schedule(e, now)
	}
}

// removable reports whether there is something of a device to be removed.
func (e *entry) removable() bool {
	return e.retained || len(e.Components) > 0 && (!e.Gone || e.prepared)
}

// Retained takes a config of ours that the broker has retained.
func (r *Registry) Retained(topic string, payload []byte, now time.Time) {
	if r.entries[topic] == nil && len(r.entries) >= maxDevices {
		return
	}
	e := r.entry(topic)
	if e.retained {
		return // something was published since
	}
	e.retained, e.sum = true, sha256.Sum256(payload)
	e.sentAt = now // for Home Assistant, too, may receive it only now
	if e.Gone {    // somebody published it again
		e.Gone, r.changed = false, true
	}
	if r.compared {
		r.reappeared(e, now)
	}
	if !e.Retained {
		e.Retained, r.changed = true, true
	}
	for key, platform := range platforms(payload) {
		if e.Components[key] == "" {
			e.add(key, platform)
			r.changed = true
		}
	}
	if r.complete && e.write == nil {
		r.schedule(e, now)
	}
}

// Birth notes that Home Assistant is ready. After the delay, which the caller
// chooses at random so that not everything in a home answers at once, everything is
// published again.
func (r *Registry) Birth(now time.Time, delay time.Duration) {
	r.haOnline = true
	for _, e := range r.entries {
		e.sentAt = later(e.sentAt, now.Add(setupTime-configInterval))
		if e.retained && e.Undiscovered {
			e.Undiscovered, r.changed = false, true
		}
		wanted := e.write != nil && e.Deleted == ""
		if wanted || e.removable() || e.Gone {
			e.repeat, e.reannounce, e.prepared, e.removing = wanted, true, false, nil
			r.schedule(e, now.Add(delay))
		}
	}
	r.states = now.Add(delay + statesAfter)
	r.wakeAt(r.states)
}

// Offline notes that Home Assistant is away, or appears to be: after a restart of the
// broker the will of its former connection may come after the birth of its present one.
// So the removals that are under way are neither abandoned nor completed. They begin
// again, for what listens, and are repeated at the next birth, for what does not.
func (r *Registry) Offline() {
	r.haOnline = false
	for _, e := range r.entries {
		e.reannounce, e.prepared, e.removing = e.reannounce || e.prepared, false, nil
	}
}

func (r *Registry) entry(topic string) *entry {
	e := r.entries[topic]
	if e == nil {
		e = new(entry)
		r.entries[topic] = e
	}
	return e
}

func (e *entry) add(key, platform string) {
	e.Components = maps.Clone(e.Components) // a Snapshot may have it
	if e.Components == nil {
		e.Components = make(map[string]string)
	}
	e.Components[key] = platform
}

// subset reports whether all of a is in b.
func subset(a, b map[string]string) bool {
	for key, platform := range a {
		if b[key] != platform {
			return false
		}
	}
	return true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
