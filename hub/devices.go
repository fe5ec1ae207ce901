package hub

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/hub/devices"
	"github.com/jmbarzee/dominion/topics"
)

// deviceTracker publishes the other devices on the broker. What is read from their
// announcements is in hub/devices; here is where these come from and where entries go.
//
// Nothing of it is on disk: announcements are retained, and come again. After a start,
// and after each connection to a broker that is not the hub's own, it publishes nothing
// until they have come. Then it publishes all devices, and clears what an earlier run
// published of others.
type deviceTracker struct {
	// state is nil where devices are switched off.
	state *devices.State
	// published holds the identifiers of the devices that are published.
	published map[string]bool
	// stale holds those that an earlier run published.
	stale map[string]bool
	// sweep reports that what an earlier run published is still received.
	sweep bool
	// from is when publishing begins; zero: not connected.
	from time.Time
	// at is when to publish what changed; zero: nothing did.
	at time.Time
	// put reports that publishing was postponed once, for availability to arrive.
	put bool
	// watch are the topics that it needs.
	watch []string
}

const (
	// devicesSettle is how long announcements may take to come after a connection.
	devicesSettle = 3 * time.Second
	// devicesRest is how long changes are gathered: a device that announces
	// twenty entities is told of once.
	devicesRest = 500 * time.Millisecond
)

func newDeviceTracker(o Options) deviceTracker {
	a := deviceTracker{published: make(map[string]bool), stale: make(map[string]bool), sweep: true}
	if o.Config.Devices.Enabled {
		a.state = devices.New(devices.Options{
			Prefix: o.Config.TopicPrefix, DiscoveryPrefix: o.Config.HomeAssistant.DiscoveryPrefix, Limits: devices.DefaultLimits(),
		})
	}
	return a
}

// followDevices tells the bus what has to be heard of devices. A topic of
// availability is wanted while somebody announces that it tells of a device.
func (h *Hub) followDevices() (more bool) {
	var watch []string
	if h.tracker.sweep {
		watch = append(watch, h.tree.Filter(topics.DeviceStatus))
	}
	if h.tracker.state != nil {
		watch = append(append(watch, h.tracker.state.Filters()...), h.tracker.state.Watched()...)
	}
	slices.Sort(watch)
	if slices.Equal(watch, h.tracker.watch) {
		return false
	}
	more = slices.ContainsFunc(watch, func(topic string) bool {
		_, had := slices.BinarySearch(h.tracker.watch, topic)
		return !had
	})
	h.tracker.watch = watch
	h.updateWatch()
	return more
}

// devicesConnected begins to listen anew.
func (h *Hub) devicesConnected(now time.Time) {
	a := &h.tracker
	a.from = now.Add(devicesSettle)
	a.at, a.put = a.from, true
}

// devicesDisconnected forgets what all comes again.
func (h *Hub) devicesDisconnected() {
	h.tracker.from, h.tracker.at, h.tracker.sweep = time.Time{}, time.Time{}, true
	if h.tracker.state != nil {
		h.tracker.state.Forget()
	}
	h.followDevices()
}

// announced takes what may tell of a device.
func (h *Hub) announced(m topics.Message, now time.Time) {
	if h.tracker.state == nil {
		return
	}
	if m.Retain {
		h.tracker.state.Take(m.Topic, m.Payload, now)
	} else {
		h.tracker.state.TakeLive(m.Topic, m.Payload, now)
	}
	h.devicesChanged(now)
}

// devicesChanged sees to it that what changed is told of in a while.
func (h *Hub) devicesChanged(now time.Time) {
	a := &h.tracker
	if !a.state.Pending() {
		return
	}
	if next := now.Add(devicesRest); a.at.IsZero() || a.at.After(next) {
		a.at, h.stirred = next, true
	}
}

// formerDevice notes what an earlier run told of a device.
func (h *Hub) formerDevice(id string, m topics.Message) {
	if !m.Retain || len(m.Payload) == 0 || h.tracker.published[id] || len(h.tracker.stale) >= maxRemoved {
		return
	}
	h.tracker.stale[id] = true
	h.pub.Found(m.Topic, m.Payload)
}

// expireDevices tells of devices when it is time.
func (h *Hub) expireDevices(now time.Time) {
	a := &h.tracker
	switch {
	case a.from.IsZero() || a.at.IsZero():
		return
	case now.Before(a.at):
		h.due(a.at)
		return
	}
	more := h.followDevices()
	if now.Before(a.from) {
		a.at = a.from
		h.due(a.at)
		return
	}
	if more && !a.put {
		// What it says of its availability comes at once, and is told with it.
		a.put, a.at = true, now.Add(devicesRest)
		h.due(a.at)
		return
	}
	a.put, a.at = false, time.Time{}
	if a.sweep {
		h.publishAllDevices()
		return
	}
	for _, id := range a.state.Changed() {
		h.publishDevice(id)
	}
}

// publishAllDevices tells of every device, and takes back what is not there.
func (h *Hub) publishAllDevices() {
	a := &h.tracker
	gone := maps.Clone(a.published)
	maps.Copy(gone, a.stale)
	if a.state != nil {
		a.state.Changed()
		a.state.Prune()
		for _, id := range a.state.IDs() {
			delete(gone, id)
			h.publishDevice(id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(gone)) {
		delete(a.published, id)
		h.pub.Clear(h.tree.Device(id))
	}
	clear(a.stale)
	a.sweep = false
	h.followDevices()
}

func (h *Hub) publishDevice(id string) {
	d, there := h.tracker.state.Device(id)
	switch {
	case there:
		h.tracker.published[id] = true
		h.pub.Retain(h.tree.Device(id), topics.Encode(d))
		if of := h.domains[d.Domain]; of != nil && of.Micro {
			h.touch(d.Domain)
		}
	case h.tracker.published[id]:
		delete(h.tracker.published, id)
		h.pub.Clear(h.tree.Device(id))
	}
}

// devicesPage is how many bytes of entries one answer has, about: a message of
// a home with hundreds of devices would be longer than a broker takes.
const devicesPage = 256 << 10

func (h *Hub) viewDevices(after string) (topics.Devices, error) {
	s := h.tracker.state
	if s == nil {
		return topics.Devices{}, errors.New("nobody listens for devices: devices.enabled is false in dominion.toml")
	}
	var page topics.Devices
	if after == "" {
		s.Expire(time.Now())
		page.Problems, page.More = s.Problems()
	}
	bytes := 0
	for _, id := range s.IDs() {
		if id <= after {
			continue
		}
		if bytes > devicesPage {
			page.Next = page.Devices[len(page.Devices)-1].ID
			break
		}
		d, _ := s.Device(id)
		page.Devices = append(page.Devices, d)
		bytes += len(topics.Encode(d))
	}
	return page, nil
}
