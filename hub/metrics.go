package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/hub/metrics"
	"github.com/jmbarzee/dominion/topics"
)

// asksFigures asks the loop for its figures.
type asksFigures struct{ answer chan<- figures }

// figures are what the loop tells of itself.
type figures struct {
	hub      topics.Hub
	families []metrics.Family
}

// figures asks the loop; it is busy for a moment at most.
func (h *Hub) figures(ctx context.Context) (figures, error) {
	answer := make(chan figures, 1)
	h.box.Put(asksFigures{answer})
	select {
	case f := <-answer:
		return f, nil
	case <-ctx.Done():
		return figures{}, errors.New("the hub's loop does not answer")
	}
}

// reportFigures answers from the loop. Labels are the names of domains, services
// and states: as many as the home has.
func (h *Hub) reportFigures() figures {
	s := h.hubStatus()
	info := metrics.Family{Name: "dominion_info", Type: metrics.Gauge, Help: "Which hub this is."}
	info.Add(1, "version", s.Version, "name", s.Name)
	return figures{s, slices.Concat(
		[]metrics.Family{
			info,
			metrics.One("dominion_hub_ready", metrics.Gauge, "1 once the hub plans.", oneIf(s.Ready)),
			metrics.One("dominion_hub_epoch", metrics.Gauge, "Of the hub's run.", float64(s.Epoch)),
			metrics.One("dominion_hub_start_time_seconds", metrics.Gauge, "When the hub was started, since the epoch of Unix.", float64(h.views.presence.Started().UnixMilli())/1000),
			metrics.One("dominion_hub_problems", metrics.Gauge, "What needs a human, as dominionctl status lists it.", float64(len(h.problems()))),
		},
		h.figuresOfDomains(), h.figuresOfServices(), h.figuresOfInstances(),
	)}
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// figuresOfDomains are what the machines say of themselves. What one that is
// not online said last says nothing of now.
func (h *Hub) figuresOfDomains() []metrics.Family {
	up := metrics.Family{Name: "dominion_domain_up", Type: metrics.Gauge, Help: "1 while a domain is online."}
	load := metrics.Family{Name: "dominion_domain_load1", Type: metrics.Gauge, Help: "Load average of one minute."}
	used := metrics.Family{Name: "dominion_domain_memory_used_bytes", Type: metrics.Gauge, Help: "Memory that programs use."}
	total := metrics.Family{Name: "dominion_domain_memory_bytes", Type: metrics.Gauge, Help: "Memory there is."}
	disk := metrics.Family{Name: "dominion_domain_disk_free_bytes", Type: metrics.Gauge, Help: "Free for the agent's data_dir."}
	warm := metrics.Family{Name: "dominion_domain_temperature_celsius", Type: metrics.Gauge, Help: "Of the processor."}
	for _, d := range h.fleet.Sorted() {
		up.Add(oneIf(d.State == topics.DomainIsOnline), "domain", d.Name)
		m := d.Metrics
		if d.State != topics.DomainIsOnline || m == nil {
			continue
		}
		load.Add(m.Load1, "domain", d.Name)
		used.Add(float64(m.MemoryUsed), "domain", d.Name)
		total.Add(float64(m.MemoryTotal), "domain", d.Name)
		disk.Add(float64(m.DiskFree), "domain", d.Name)
		if m.Temperature != nil {
			warm.Add(*m.Temperature, "domain", d.Name)
		}
	}
	return []metrics.Family{up, load, used, total, disk, warm}
}

func (h *Hub) figuresOfServices() []metrics.Family {
	wanted := metrics.Family{Name: "dominion_service_wanted", Type: metrics.Gauge, Help: "Instances that should run."}
	running := metrics.Family{Name: "dominion_service_running", Type: metrics.Gauge, Help: "Instances that run."}
	healthy := metrics.Family{Name: "dominion_service_healthy", Type: metrics.Gauge, Help: "Instances that run and are healthy."}
	for _, v := range h.views.statuses.Sorted() {
		wanted.Add(float64(v.Wanted), "service", v.Service)
		running.Add(float64(v.Running), "service", v.Service)
		healthy.Add(float64(v.Healthy), "service", v.Service)
	}
	return []metrics.Family{wanted, running, healthy}
}

// figuresOfInstances are of the services that are defined here: a name that
// anybody made up is no label.
func (h *Hub) figuresOfInstances() []metrics.Family {
	cpu := metrics.Family{Name: "dominion_instance_cpu_cores", Type: metrics.Gauge, Help: "Cores that an instance uses."}
	memory := metrics.Family{Name: "dominion_instance_memory_bytes", Type: metrics.Gauge, Help: "Resident memory of an instance."}
	restarts := metrics.Family{Name: "dominion_instance_restarts_total", Type: metrics.Counter, Help: "Restarts of an instance, as its agent counts them."}
	for _, d := range h.fleet.Sorted() {
		if d.State != topics.DomainIsOnline {
			continue
		}
		if d.Status != nil {
			for _, i := range d.Status.Services {
				if h.views.statuses.Has(i.Service) {
					restarts.Add(float64(i.Restarts), "domain", d.Name, "service", i.Service)
				}
			}
		}
		if d.Metrics != nil {
			for service, u := range d.Metrics.Services {
				if h.views.statuses.Has(service) {
					cpu.Add(u.CPU, "domain", d.Name, "service", service)
					memory.Add(float64(u.Memory), "domain", d.Name, "service", service)
				}
			}
		}
	}
	return []metrics.Family{cpu, memory, restarts}
}

// ofBroker are the figures of the embedded broker.
func ofBroker(b *broker.Broker) []metrics.Family {
	s := b.Stats()
	way := func(name, help string, in, out uint64) metrics.Family {
		f := metrics.Family{Name: name, Type: metrics.Counter, Help: help}
		f.Add(float64(in), "direction", "in")
		f.Add(float64(out), "direction", "out")
		return f
	}
	ended := metrics.Family{Name: "dominion_broker_connections_ended_total", Type: metrics.Counter, Help: "Connections that the broker ended for a fault of the client, by reason code of MQTT 5."}
	for code := range 256 {
		if n := s.Ended[byte(code)]; n > 0 {
			ended.Add(float64(n), "code", fmt.Sprintf("0x%02X", code))
		}
	}
	all := []metrics.Family{
		metrics.One("dominion_broker_clients_connected", metrics.Gauge, "Clients that are connected.", float64(s.Sessions-s.Offline)),
		metrics.One("dominion_broker_sessions", metrics.Gauge, "Sessions, those without a connection too.", float64(s.Sessions)),
		metrics.One("dominion_broker_sessions_expired_total", metrics.Counter, "Sessions whose time was over.", float64(s.Expired)),
		metrics.One("dominion_broker_subscriptions", metrics.Gauge, "Subscriptions of all sessions.", float64(s.Subscriptions)),
		metrics.One("dominion_broker_retained_messages", metrics.Gauge, "Retained messages.", float64(s.Retained)),
		metrics.One("dominion_broker_retained_bytes", metrics.Gauge, "Size of the retained messages.", float64(s.RetainedBytes)),
		metrics.One("dominion_broker_retained_refused_total", metrics.Counter, "Messages that were not retained: the limit was reached.", float64(s.RetainedRefused)),
		metrics.One("dominion_broker_queued_messages", metrics.Gauge, "Messages of QoS 1 and 2 that wait for their clients.", float64(s.Queued)),
		metrics.One("dominion_broker_queued_bytes", metrics.Gauge, "Size of these.", float64(s.QueuedBytes)),
		metrics.One("dominion_broker_messages_dropped_total", metrics.Counter, "Messages that a client did not get: its queue was full, or they were too large for it.", float64(s.Dropped)),
		metrics.One("dominion_broker_messages_refused_total", metrics.Counter, "Messages that were not taken: not allowed, or beyond a limit.", float64(s.Refused)),
		metrics.One("dominion_broker_wills_total", metrics.Counter, "Wills that were published.", float64(s.Wills)),
		metrics.One("dominion_broker_connects_total", metrics.Counter, "Connections that were let in.", float64(s.Connects)),
		metrics.One("dominion_broker_connections_refused_total", metrics.Counter, "Connections beyond broker.limits.", float64(s.ConnectionsRefused)),
		{Name: "dominion_broker_user_limit_total", Type: metrics.Counter, Help: "What the limits of users did: clients refused, sessions ended for newer ones, messages dropped.", Samples: []metrics.Sample{
			{Labels: []string{"what", "refused"}, Value: float64(s.UserRefused)},
			{Labels: []string{"what", "ended"}, Value: float64(s.UserEnded)},
			{Labels: []string{"what", "dropped"}, Value: float64(s.UserDropped)},
		}},
		metrics.One("dominion_broker_memory_bytes", metrics.Gauge, "Memory that clients make the broker hold, as broker.limits.memory counts it.", float64(s.Memory)),
		metrics.One("dominion_broker_memory_limit_bytes", metrics.Gauge, "The limit of it; 0: none.", float64(s.MemoryLimit)),
		metrics.One("dominion_broker_memory_refused_total", metrics.Counter, "Subscriptions, messages and clients that were refused or dropped for want of that memory.", float64(s.MemoryRefused)),
		metrics.One("dominion_broker_memory_ended_total", metrics.Counter, "Sessions that were ended for want of that memory.", float64(s.MemoryEnded)),
		way("dominion_broker_packets_total", "MQTT packets.", s.In.Packets, s.Out.Packets),
		way("dominion_broker_bytes_total", "Bytes of MQTT.", s.In.Bytes, s.Out.Bytes),
		way("dominion_broker_publishes_total", "PUBLISH packets.", s.In.Publishes, s.Out.Publishes),
		way("dominion_broker_payload_bytes_total", "Bytes of payload.", s.In.Payload, s.Out.Payload),
		ended,
	}
	if until := b.CertificateExpires(); !until.IsZero() {
		all = append(all, metrics.One("dominion_broker_certificate_expires_seconds", metrics.Gauge, "Until when the broker's certificate holds, since the epoch of Unix.", float64(until.Unix())))
	}
	return all
}
