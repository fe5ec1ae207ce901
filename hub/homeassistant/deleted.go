package homeassistant

import (
	"slices"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// A person who deletes a device in Home Assistant makes it publish the empty
// config. A hub that is there hears that: Emptied. One that was away, or cut
// off from a broker that is not its own, finds the config missing among what
// the broker kept, and so it does where the broker itself lost it: many keep
// nothing over a restart, and mosquitto, after a power cut, what it had half an
// hour ago.
//
// The two are told apart by a count of our changes. The broker is told it at
// hub/discovery after what it counts, and keeps it as it keeps the configs. It
// has lost nothing of what it counts to, so what is missing of that, and what it
// is known to have taken, was taken away. See docs/decisions/0048-deleted-while-away.md.

// Marked takes the count that the broker has kept. No home comes near the bound,
// and behind it there would be no room to count on.
func (b *Book) Marked(changes uint64, now time.Time) {
	const far = 1 << 53
	if !b.judged && changes < far {
		b.marked = &changes
	}
	if b.judged && changes == b.said && !b.asked.IsZero() {
		b.answered(now)
	}
}

// Verify has the book ask the broker for a config that is missing, by its topic,
// before it takes it for deleted: a broker that is not ours may not replay retained
// messages to wildcards.
func (b *Book) Verify() { b.verify = true }

// Doubts returns the topics that the broker is to be asked for since it was last
// asked so, sorted. After these it is asked for the count, which it is known to
// have: when that comes, all have been answered.
func (b *Book) Doubts() []string {
	doubts := b.doubts
	b.doubts = nil
	slices.Sort(doubts)
	return doubts
}

// Blind reports whether the broker was found not to replay retained messages to
// wildcards since this was last asked.
func (b *Book) Blind() bool {
	was := b.blind
	b.blind = false
	return was
}

// patience is how long the broker is given to answer.
const patience = 10 * time.Second

// answered takes that the broker has replayed all that it was asked for: what is
// still missing was deleted.
func (b *Book) answered(now time.Time) {
	b.asked = time.Time{}
	for topic, e := range b.entries {
		if !e.doubt {
			continue
		}
		e.doubt = false
		if e.known {
			b.blind = true
		} else {
			b.missing(topic, e)
		}
		b.at(e, now)
	}
}

// unanswered takes that the broker did not answer: nothing is concluded of what is
// missing, and it is published again.
func (b *Book) unanswered(now time.Time) {
	b.asked = time.Time{}
	for _, e := range b.entries {
		if e.doubt {
			e.doubt, e.There, b.changed = false, e.known, true
			b.at(e, now)
		}
	}
}

// missing decides about a config that the broker had and has no more.
func (b *Book) missing(topic string, e *entry) {
	if !e.There || e.write != nil && e.definition != e.Definition { // it is another one now
		e.There, b.changed = false, true
		return
	}
	b.lose(e, e.Definition)
	e.missed = true
	b.found = append(b.found, topic)
}

// count notes a change of what the broker is to keep of a device.
func (b *Book) count(e *entry) {
	b.changes++
	e.Change, b.changed = b.changes, true
}

// judge compares what is remembered with what the broker has kept, once it had
// the time to tell.
func (b *Book) judge(now time.Time) {
	b.judged, b.said = true, 0
	complete := false // all that it counts to was there once
	if b.marked != nil {
		b.said = *b.marked
		// One that is further than we are knows of changes that we forgot, such
		// as of what is removed: this hub was restored from a backup.
		complete = b.said <= b.changes
		if b.changes < b.said {
			b.changes, b.changed = b.said, true
		}
	}
	for topic, e := range b.entries {
		switch {
		case e.known:
			b.reappeared(e, now)
		case e.Deleted != "", e.Gone, len(e.Components) == 0:
		case !b.hears(topic): // it says nothing that it is missing
		case !complete || !e.There || e.Change > b.said:
			e.There, b.changed = false, true
		case b.verify:
			e.doubt = true
			b.doubts = append(b.doubts, topic)
		default:
			b.missing(topic, e)
		}
	}
	if len(b.doubts) > 0 {
		b.asked = now.Add(patience)
		b.wakeAt(b.asked)
	}
}

// hears tells whether the broker would have told of a config that it had kept:
// not below the prefix of a former configuration, nor where this one has it
// not written to the disk.
func (b *Book) hears(topic string) bool {
	return b.options.current(topic) && (b.keeps == nil || b.keeps(topic))
}

// Found returns which devices were found to be deleted since it was last asked.
func (b *Book) Found() []string {
	found := b.found
	b.found = nil
	slices.Sort(found)
	return found
}

// reappeared takes the config of a device that was deleted and that the broker
// has all the same.
func (b *Book) reappeared(e *entry, now time.Time) {
	switch {
	case e.Deleted == "":
	case e.Change > b.said && !e.missed: // it lost the deletion, and Home Assistant has the device from it
		b.at(e, now)
	default: // somebody put it there again, or it was only late
		e.Deleted, e.missed, b.changed = "", false, true
		if e.write != nil {
			b.at(e, now)
		}
	}
}

// Emptied takes an empty config that was published just now: by ourselves, or
// by Home Assistant because a person deleted the device. It tells which.
func (b *Book) Emptied(topic string) (deleted bool) {
	e := b.entries[topic]
	switch {
	case e == nil:
		return false
	case e.echoes > 0:
		e.echoes--
		return false
	case e.Deleted != "": // each of its entities does so
		e.Told, e.known, b.changed = Told{Deleted: e.Deleted, Change: e.Change}, false, true
		return false
	case !e.known:
		return false
	case e.write != nil:
		b.lose(e, e.definition)
	case e.There: // nobody wants it yet, as of a domain that is away since the hub started
		b.lose(e, e.Definition)
	default:
		return false
	}
	return true
}

// Filled takes a config of ours that was published just now and has come back:
// the broker took it. Where there is a deletion, the two crossed, and Home
// Assistant has the device again.
func (b *Book) Filled(topic string, now time.Time) {
	switch e := b.entries[topic]; {
	case e == nil:
	case e.Deleted != "":
		e.known, e.at = true, now
		b.at(e, now)
	case e.known && !e.There:
		e.There, b.changed = true, true
	}
}

// lose notes that a person deleted a device that had this definition.
func (b *Book) lose(e *entry, definition string) {
	e.Told = Told{Deleted: definition}
	b.count(e)
	e.known, e.due, e.repeat, e.revive, e.heard, e.marked = false, time.Time{}, false, false, false, nil
	b.wakeAt(b.listens) // for mark
}

// mark says the count once nothing else is due in a moment.
func (b *Book) mark(now time.Time) (topics.Message, bool) {
	if !b.judged || b.said == b.changes || !b.wake.IsZero() && b.wake.Before(now.Add(2*Beat)) {
		return topics.Message{}, false
	}
	for _, e := range b.entries {
		if e.doubt || e.Deleted != "" && e.known {
			return topics.Message{}, false // the deletion is counted, and not done yet
		}
	}
	b.said = b.changes
	var payload []byte
	if len(b.Kept().Devices) > 0 { // else there is nothing that it counts
		payload = topics.Encode(topics.Discovery{Changes: b.changes})
	}
	return b.options.Tree.Message(topics.Address{Kind: topics.HubDiscovery}, payload), true
}
