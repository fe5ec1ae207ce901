package homeassistant

import (
	"slices"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// A person who deletes a device in Home Assistant makes it publish the empty
// config. A connected hub receives that: Emptied. One that was away, or not
// connected to an external broker, finds the config missing among what the broker
// retained, and so it does where the broker itself lost it: many retain nothing over
// a restart, and mosquitto, after a power cut, what it had half an hour ago.
//
// A count of our changes distinguishes the two. It is published at hub/discovery
// after what it counts, and retained as the configs are. The broker has lost nothing
// of what that count includes, so what is missing of it, and has been
// retained, was deleted. See docs/decisions/0048-deleted-while-away.md.

// RetainedCount takes the count that the broker has retained. No home comes near the
// bound, and beyond it the count could not go on.
func (r *Registry) RetainedCount(changes uint64, now time.Time) {
	const far = 1 << 53
	if !r.compared && changes < far {
		r.brokerCount = &changes
	}
	if r.compared && changes == r.publishedCount && !r.verifyUntil.IsZero() {
		r.verified(now)
	}
}

// Verify has the registry ask the broker for a config that is missing, by its topic,
// before it takes it for deleted: a broker that is not ours may not replay retained
// messages to wildcards.
func (r *Registry) Verify() { r.verify = true }

// Unverified returns the topics that the broker is to be asked for, new since the
// last call, sorted. After these it is asked for the count, which it is certain to
// have: when that comes, all have been answered.
func (r *Registry) Unverified() []string {
	all := r.unverified
	r.unverified = nil
	slices.Sort(all)
	return all
}

// NoWildcardReplay reports whether the broker was found not to replay retained
// messages to wildcards since the last call.
func (r *Registry) NoWildcardReplay() bool {
	was := r.noWildcardReplay
	r.noWildcardReplay = false
	return was
}

// verifyTime is how long the broker is given to answer.
const verifyTime = 10 * time.Second

// verified notes that the broker has replayed all that it was asked for: what is
// still missing was deleted.
func (r *Registry) verified(now time.Time) {
	r.verifyUntil = time.Time{}
	for topic, e := range r.entries {
		if !e.unverified {
			continue
		}
		e.unverified = false
		if e.retained {
			r.noWildcardReplay = true
		} else {
			r.decideMissing(topic, e)
		}
		r.schedule(e, now)
	}
}

// verifyTimeout notes that the broker did not answer: nothing is concluded of what is
// missing, and it is published again.
func (r *Registry) verifyTimeout(now time.Time) {
	r.verifyUntil = time.Time{}
	for _, e := range r.entries {
		if e.unverified {
			e.unverified, e.Retained, r.changed = false, e.retained, true
			r.schedule(e, now)
		}
	}
}

// decideMissing decides about a config that the broker retained and does no more.
func (r *Registry) decideMissing(topic string, e *entry) {
	if !e.Retained || e.write != nil && e.definition != e.Definition { // it is another definition now
		e.Retained, r.changed = false, true
		return
	}
	r.recordDeletion(e, e.Definition)
	e.takenForDeleted = true
	r.deletedAway = append(r.deletedAway, topic)
}

// countChange counts a change of what the broker is to retain of a device.
func (r *Registry) countChange(e *entry) {
	r.changes++
	e.Change, r.changed = r.changes, true
}

// compareReplay compares the entries with what the broker has retained, once it had
// the time to replay it.
func (r *Registry) compareReplay(now time.Time) {
	r.compared, r.publishedCount = true, 0
	complete := false // the broker once had all that its count includes
	if r.brokerCount != nil {
		r.publishedCount = *r.brokerCount
		// A higher count than ours includes changes that this hub does not know, as
		// it was restored from a backup.
		complete = r.publishedCount <= r.changes
		if r.changes < r.publishedCount {
			r.changes, r.changed = r.publishedCount, true
		}
	}
	for topic, e := range r.entries {
		absenceCounts := e.Deleted == "" && !e.Gone && len(e.Components) > 0 && r.replays(topic)
		if !e.retained && !absenceCounts {
			continue
		}
		switch {
		case e.retained:
			r.reappeared(e, now)
		case !complete || !e.Retained || e.Change > r.publishedCount:
			e.Retained, r.changed = false, true
		case r.verify:
			e.unverified = true
			r.unverified = append(r.unverified, topic)
		default:
			r.decideMissing(topic, e)
		}
	}
	if len(r.unverified) > 0 {
		r.verifyUntil = now.Add(verifyTime)
		r.wakeAt(r.verifyUntil)
	}
}

// replays reports whether the broker would have replayed a config that it retained:
// not below the prefix of a former configuration, nor where our own broker does
// not have it on disk.
func (r *Registry) replays(topic string) bool {
	return r.options.atCurrentPrefix(topic) && (r.retains == nil || r.retains(topic))
}

// DeletedAway returns which devices were found to be deleted since the last call.
func (r *Registry) DeletedAway() []string {
	all := r.deletedAway
	r.deletedAway = nil
	slices.Sort(all)
	return all
}

// reappeared takes the config of a device that was deleted and that the broker
// has all the same.
func (r *Registry) reappeared(e *entry, now time.Time) {
	if e.Deleted == "" {
		return
	}
	if e.Change > r.publishedCount && !e.takenForDeleted { // the broker lost the deletion, and Home Assistant has the device from it
		r.schedule(e, now)
		return
	}
	// Somebody published it again, or it was only late.
	e.Deleted, e.takenForDeleted, r.changed = "", false, true
	if e.write != nil {
		r.schedule(e, now)
	}
}

// Emptied takes an empty config that was published just now: by ourselves, or
// by Home Assistant because a person deleted the device. It reports the latter.
func (r *Registry) Emptied(topic string) (deleted bool) {
	e := r.entries[topic]
	switch {
	case e == nil:
		return false
	case e.echoes > 0:
		e.echoes--
		return false
	case e.Deleted != "": // each of its entities publishes one
		e.Record, e.retained, r.changed = Record{Deleted: e.Deleted, Change: e.Change}, false, true
		return false
	case !e.retained:
		return false
	case e.write != nil:
		r.recordDeletion(e, e.definition)
	case e.Retained: // it is not announced yet, as of a domain that is away since the hub started
		r.recordDeletion(e, e.Definition)
	default:
		return false
	}
	return true
}

// Filled takes a config of ours that was published just now and has come back:
// the broker accepted it. Where there is a deletion, the two crossed, and Home
// Assistant has the device again.
func (r *Registry) Filled(topic string, now time.Time) {
	e := r.entries[topic]
	if e == nil {
		return
	}
	if e.Deleted != "" {
		e.retained, e.sentAt = true, now
		r.schedule(e, now)
	} else if e.retained && !e.Retained {
		e.Retained, r.changed = true, true
	}
}

// recordDeletion records that a person deleted a device that had this definition.
func (r *Registry) recordDeletion(e *entry, definition string) {
	e.Record = Record{Deleted: definition}
	r.countChange(e)
	e.retained, e.due, e.repeat, e.reannounce, e.prepared, e.removing = false, time.Time{}, false, false, false, nil
	r.wakeAt(r.replayUntil) // for publishCount
}

// publishCount publishes the count once nothing else is due in a moment.
func (r *Registry) publishCount(now time.Time) (topics.Message, bool) {
	if !r.compared || r.publishedCount == r.changes || !r.wake.IsZero() && r.wake.Before(now.Add(2*Beat)) {
		return topics.Message{}, false
	}
	for _, e := range r.entries {
		if e.unverified || e.Deleted != "" && e.retained {
			return topics.Message{}, false // the deletion is counted, and not done yet
		}
	}
	r.publishedCount = r.changes
	var payload []byte
	if len(r.Snapshot().Devices) > 0 { // else there is nothing that it counts
		payload = topics.Encode(topics.Discovery{Changes: r.changes})
	}
	return r.options.Tree.Message(topics.Address{Kind: topics.HubDiscovery}, payload), true
}
