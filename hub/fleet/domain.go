package fleet

import (
	"cmp"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// Domain is the state of one domain, until it is forgotten. Package hub reads it.
// It changes only what it orders of the domain and what it measures there (the last two
// groups of fields).
type Domain struct {
	Name, ID string
	// User is the broker's user by which it joined; "": unknown.
	User string
	// Micro reports that it is a microdomain: it sends no heartbeats and obeys no orders.
	Micro bool
	// joined is the session that was granted the last join.
	joined string
	// othersBeatAt is when a heartbeat of another session came last since then; zero: none did.
	othersBeatAt time.Time
	// former is the session that sent heartbeats last before the hub started, by what the
	// broker retained.
	former string

	// State is how the hub sees it, Since when it was last changed; see Update.
	State topics.DomainState
	Since time.Time
	// WasOnline reports that it was online in this run of the hub.
	WasOnline bool
	// Gone reports that it has been lost for failover_after.
	Gone bool
	// expected reports that it was there before the hub started, and is waited for.
	expected bool
	flaps    flaps
	awaited  awaited

	// Available is the last message at its availability topic.
	Available bool
	// availabilityRetained reports that the broker had stored that message.
	availabilityRetained bool
	// BeatAt is when its last heartbeat came or its last join was granted, by the hub's
	// monotonic clock; zero: neither did.
	BeatAt time.Time
	// Heartbeat is the last one, HasBeat reports that there is one in this run of the hub.
	Heartbeat topics.Heartbeat
	HasBeat   bool
	// Status is the last one; nil: none came.
	Status *topics.Domain
	// eventSession and eventSeq are those of the last signed event.
	eventSession string
	eventSeq     uint64
	// CatalogSince is since when its catalog has its version of a service.
	CatalogSince map[string]time.Time
	// RunningOrder numbers its instances, by service, in the order in which this hub saw
	// instances run, so that no machine's clock decides between equal ones.
	RunningOrder map[string]uint64

	// Ahead reports that it obeys an epoch that is not believed: it obeys no start commands.
	Ahead bool
	// claimed is the generation of this epoch that it reported and the hub did not give.
	claimed uint64
	// Ordered is the last start command that it was given.
	Ordered Order
	// Chosen is in what it was better than the next domain, by service that it was ordered.
	Chosen map[string]string
	// StopReasons is why it was ordered to stop a service, by service.
	StopReasons map[string]string

	// Machine is what the planner is told of its machine.
	Machine planner.Machine
	// Hot reports that it measures a temperature.
	Hot bool
	// Usage is what its services use, by service, as of UsageAt.
	Usage   map[string]topics.Usage
	UsageAt time.Time
	// Metrics are the last ones, where Prometheus reads them; else nil.
	Metrics *topics.Metrics
}

// Order is a start command that was given to a domain.
type Order struct {
	Generation uint64
	Services   map[string]bool
	// Encoded is what it orders, to notice a change; "": nothing was ordered, or it is to be
	// ordered again.
	Encoded string
	Message topics.Message
	At      time.Time
}

// present reports whether the domain is there again after a start of the hub.
func (d *Domain) present() bool {
	if d.Micro {
		return d.Status != nil
	}
	return d.Available && d.HasBeat && d.StatusCurrent()
}

// StatusCurrent reports whether the status that the last heartbeat names has come. Brokers
// keep the order of a topic, not of two: mosquitto lets a heartbeat of QoS 0 overtake a
// status of QoS 1, and what it had stored may be older still. What such an old one does not
// list would be stopped.
func (d *Domain) StatusCurrent() bool {
	s, b := d.Status, d.Heartbeat
	return s != nil && (b.Status == 0 || s.Session == b.Session && s.Seq >= b.Status)
}

// beats reports whether a heartbeat or a join came within lostAfter.
func (d *Domain) beats(now time.Time, lostAfter time.Duration) bool {
	return !d.BeatAt.IsZero() && now.Sub(d.BeatAt) < lostAfter
}

// Session returns the session of the agent that is the domain now.
func (d *Domain) Session() string {
	if d.joined != "" {
		return d.joined
	}
	return d.Heartbeat.Session
}

// address returns where the domain is reached, "" where nobody knows.
func (d *Domain) address() string {
	if d.Status == nil {
		return ""
	}
	return d.Status.Address
}

// Silent reports whether nothing counts of what the domain reported of its instances: it is
// lost, or a microcontroller that is away, or has reported nothing yet.
func (d *Domain) Silent() bool {
	return d.Status == nil || d.State == topics.DomainIsLost || d.Micro && !d.Available
}

// Instance returns what the domain reports of a service, nil where it reports nothing.
func (d *Domain) Instance(service string) *topics.Instance {
	if d.Status == nil {
		return nil
	}
	for n := range d.Status.Services {
		if d.Status.Services[n].Service == service {
			return &d.Status.Services[n]
		}
	}
	return nil
}

// CatalogVersion returns the version of a service in its catalog, "" where it has none.
func (d *Domain) CatalogVersion(service string) string {
	if d.Status != nil {
		for _, row := range d.Status.Catalog {
			if row.Service == service {
				return row.Version
			}
		}
	}
	return ""
}

// HealthOf returns the health of an instance of the domain. A microcontroller need not
// report it.
func (d *Domain) HealthOf(i topics.Instance) topics.Health {
	if d.Micro && i.Health == "" && i.State == topics.Running {
		return topics.Healthy
	}
	return cmp.Or(i.Health, topics.UnknownHealth)
}

// TakesOrders reports whether the domain is given start commands. One that is not online
// yet has not reported what runs on it: its first command must not stop that.
func (d *Domain) TakesOrders() bool {
	first := d.Ordered.Encoded == "" && d.State != topics.DomainIsOnline
	return !d.Micro && d.Status != nil && !first && topics.SameMajor(d.Status.Protocol)
}

// takeCatalog notes since when the domain's catalog has its version of each service.
func (d *Domain) takeCatalog(s topics.Domain, now time.Time) {
	before := make(map[string]string)
	if d.Status != nil {
		if slices.Equal(d.Status.Catalog, s.Catalog) {
			return
		}
		for _, row := range d.Status.Catalog {
			before[row.Service] = row.Version
		}
	}
	since := d.CatalogSince
	d.CatalogSince = make(map[string]time.Time, len(s.Catalog))
	for _, row := range s.Catalog {
		d.CatalogSince[row.Service] = now
		if version, was := before[row.Service]; was && version == row.Version && !since[row.Service].IsZero() {
			d.CatalogSince[row.Service] = since[row.Service]
		}
	}
}
