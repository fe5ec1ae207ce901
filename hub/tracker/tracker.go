// Package tracker tracks the other devices on the broker: it decides which of their
// entries are published, and when. What is read from their announcements is in
// hub/devices.
//
// Nothing of it is persisted: announcements are retained, and come again. After a
// start, and after each connection to a broker that is not the hub's own, nothing is
// published until they have come. Then all devices are published, and the entries that
// an earlier run published of other devices are cleared.
//
// It does no I/O and knows no other part of the hub: messages in, updates out. Package
// hub alone imports it, and calls it from its loop.
package tracker

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/hub/devices"
	"github.com/jmbarzee/dominion/topics"
)

const (
	// settleTime is how long announcements may take to come after a connection.
	settleTime = 3 * time.Second
	// gatherTime is how long changes are gathered: a device that announces twenty
	// entities is published once.
	gatherTime = 500 * time.Millisecond
	// maxFormer bounds the devices of an earlier run.
	maxFormer = 10_000
	// pageSize is how many bytes of entries one page has, about: a message with
	// hundreds of devices would be longer than a broker takes.
	pageSize = 256 << 10
)

// Tracker tracks the devices. Make it with New.
type Tracker struct {
	tree topics.Tree
	// state is nil where devices are disabled.
	state *devices.State
	// published holds the identifiers of the devices that are published.
	published map[string]bool
	// former holds those that an earlier run published.
	former map[string]bool
	// sweep reports that the next publication is of all devices, and clears the former
	// ones. Until then what an earlier run published is subscribed to.
	sweep bool
	// settleAt is when publishing begins; zero: not connected.
	settleAt time.Time
	// dueAt is when to publish what changed; zero: nothing did.
	dueAt time.Time
	// postponed reports that publishing was postponed, for availability to arrive.
	postponed bool
	// topics are those that are followed, sorted.
	topics []string
}

// Options are what a Tracker is made of.
type Options struct {
	Tree topics.Tree
	// DiscoveryPrefix is that of Home Assistant's discovery.
	DiscoveryPrefix string
	// Enabled is false where no device is listed: then only the entries that an earlier
	// run published are cleared.
	Enabled bool
}

// Update is a device whose entry is to be published, or cleared.
type Update struct {
	ID      string
	Cleared bool
	Device  topics.Device
}

// New returns a tracker that has received nothing.
func New(o Options) *Tracker {
	t := &Tracker{tree: o.Tree, published: make(map[string]bool), former: make(map[string]bool), sweep: true}
	if o.Enabled {
		t.state = devices.New(devices.Options{
			Prefix: o.Tree.Prefix(), DiscoveryPrefix: o.DiscoveryPrefix, Limits: devices.DefaultLimits(),
		})
	}
	t.follow()
	return t
}

// Topics returns the topics and filters that are followed, sorted. It must not be
// changed.
func (t *Tracker) Topics() []string { return t.topics }

// follow finds the topics that are to be followed: a topic of availability is, while an
// announcement names it. It reports whether there are more than before.
func (t *Tracker) follow() (more bool) {
	var all []string
	if t.sweep {
		all = append(all, t.tree.Filter(topics.DeviceStatus))
	}
	if t.state != nil {
		all = append(append(all, t.state.Filters()...), t.state.Watched()...)
	}
	slices.Sort(all)
	if slices.Equal(all, t.topics) {
		return false
	}
	more = slices.ContainsFunc(all, func(topic string) bool { return !t.follows(topic) })
	t.topics = all
	return more
}

func (t *Tracker) follows(topic string) bool {
	_, is := slices.BinarySearch(t.topics, topic)
	return is
}

// Connected notes that the broker is connected, and replays what it retains.
func (t *Tracker) Connected(now time.Time) {
	t.settleAt = now.Add(settleTime)
	t.dueAt, t.postponed = t.settleAt, true
}

// Disconnected forgets all announcements: they come again. It reports whether other
// topics than before are followed.
func (t *Tracker) Disconnected() (otherTopics bool) {
	t.settleAt, t.dueAt, t.sweep = time.Time{}, time.Time{}, true
	if t.state != nil {
		t.state.Forget()
	}
	before := t.topics
	t.follow()
	return !slices.Equal(before, t.topics)
}

// Receive takes a message that may announce a device, or its availability.
func (t *Tracker) Receive(m topics.Message, now time.Time) {
	if t.state == nil {
		return
	}
	if m.Retain {
		t.state.Take(m.Topic, m.Payload, now)
	} else {
		t.state.TakeLive(m.Topic, m.Payload, now)
	}
	if !t.state.Pending() {
		return
	}
	if at := now.Add(gatherTime); t.dueAt.IsZero() || t.dueAt.After(at) {
		t.dueAt = at
	}
}

// Retained takes the entry of a device that the broker retains, and reports whether an
// earlier run of the hub published it.
func (t *Tracker) Retained(id string, m topics.Message) (former bool) {
	if !m.Retain || len(m.Payload) == 0 || t.published[id] || len(t.former) >= maxFormer {
		return false
	}
	t.former[id] = true
	return true
}

// Refused notes that the broker does not deliver a topic.
func (t *Tracker) Refused(topic string, err error, now time.Time) {
	if t.state != nil && t.follows(topic) {
		t.state.SubscriptionRefused(topic, err, now)
	}
}

// Expire returns the updates that are due, and reports whether other topics than before
// are followed.
func (t *Tracker) Expire(now time.Time) (updates []Update, otherTopics bool) {
	if next := t.Next(); next.IsZero() || now.Before(next) {
		return nil, false
	}
	before := t.topics
	more := t.follow()
	switch {
	case now.Before(t.settleAt):
		t.dueAt = t.settleAt
	case more && !t.postponed:
		// The availability that is retained there comes at once, and is published with it.
		t.postponed, t.dueAt = true, now.Add(gatherTime)
	default:
		t.postponed, t.dueAt = false, time.Time{}
		updates = t.updates()
	}
	return updates, !slices.Equal(before, t.topics)
}

// Next returns when Expire has something to do; zero: not by itself.
func (t *Tracker) Next() time.Time {
	if t.settleAt.IsZero() {
		return time.Time{}
	}
	return t.dueAt
}

// updates returns what is to be published now: all devices, or those that changed.
func (t *Tracker) updates() (all []Update) {
	if t.sweep || t.state == nil {
		return t.updateAll()
	}
	for _, id := range t.state.Changed() {
		if d, is := t.state.Device(id); is {
			t.published[id] = true
			all = append(all, Update{ID: id, Device: d})
		} else if t.published[id] {
			delete(t.published, id)
			all = append(all, Update{ID: id, Cleared: true})
		}
	}
	return all
}

// updateAll returns the updates of all devices. Those that were published, in this run
// or in an earlier one, and do not exist are cleared.
func (t *Tracker) updateAll() (all []Update) {
	gone := maps.Clone(t.published)
	maps.Copy(gone, t.former)
	if t.state != nil {
		t.state.Changed()
		t.state.Prune()
		for _, id := range t.state.IDs() {
			d, is := t.state.Device(id)
			if !is {
				continue
			}
			delete(gone, id)
			t.published[id] = true
			all = append(all, Update{ID: id, Device: d})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(gone)) {
		delete(t.published, id)
		all = append(all, Update{ID: id, Cleared: true})
	}
	clear(t.former)
	t.sweep = false
	t.follow()
	return all
}

// Enabled reports whether devices are listed at all.
func (t *Tracker) Enabled() bool { return t.state != nil }

// Firmware returns how the firmware that publishes its availability at the topic of a
// domain announces itself; ok is false where there is none.
func (t *Tracker) Firmware(domain string) (f devices.Announced, ok bool) {
	if t.state == nil {
		return devices.Announced{}, false
	}
	return t.state.OfDomain(domain)
}

// Page returns the devices whose identifiers come after one, as many as one message
// takes. The first page, after "", has the problems of announcements, too.
func (t *Tracker) Page(after string, now time.Time) (page topics.Devices, err error) {
	if t.state == nil {
		return page, errors.New("nobody listens for devices: devices.enabled is false in dominion.toml")
	}
	if after == "" {
		t.state.Expire(now)
		page.Problems, page.More = t.state.Problems()
	}
	size := 0
	for _, id := range t.state.IDs() {
		if id <= after {
			continue
		}
		if size > pageSize {
			page.Next = page.Devices[len(page.Devices)-1].ID
			break
		}
		d, _ := t.state.Device(id)
		page.Devices = append(page.Devices, d)
		size += len(topics.Encode(d))
	}
	return page, nil
}
