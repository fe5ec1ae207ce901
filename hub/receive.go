package hub

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/hub/events"
	protocol "github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

// receive handles one message. One that cannot be read is reported and has no other
// effect.
func (h *Hub) receive(in arrived, now time.Time) {
	a, m := in.address, in.Message
	ours := a.Kind != topics.Unknown
	h.ops.scaling.Receive(m, now)
	if h.receiveHomeAssistant(m, now) || h.views.leftovers.Receive(m) {
		return
	}
	if !ours || a.Kind == topics.DomainAvailability { // which may be that of a device too
		h.views.tracker.Receive(m, now)
		h.dueUnlessZero(h.views.tracker.Next())
	}
	if !ours {
		h.reportInvalidName(m, now)
		return
	}
	// A heartbeat decides itself whether anything is due earlier because of it.
	h.schedule.sooner = h.schedule.sooner || a.Kind != topics.DomainHeartbeat && a.Kind != topics.DomainMetrics
	if a.Kind.Imperative() && m.Retain {
		if h.events.MayReport(m.Topic, events.MaxRefusals, now) {
			h.log.Warn("ignored a retained order: publish it without the retain flag", "topic", m.Topic)
		}
		return
	}
	if err := h.dispatch(a, m, now); err != nil {
		h.schedule.sooner = true
		h.events.Refuse(m.Topic, topics.Event{Domain: a.Domain, Service: a.Service, Message: err.Error()}, now)
	}
}

// reportInvalidName reports an order for a name that no service and no verb can have.
// Otherwise somebody who writes "Lamp" for "lamp" would get no answer.
func (h *Hub) reportInvalidName(m topics.Message, now time.Time) {
	name, set := strings.CutPrefix(m.Topic, h.tree.Prefix()+"/service/")
	name, is := strings.CutSuffix(name, "/set")
	of := "service"
	if !set || !is {
		if name, is = strings.CutPrefix(m.Topic, h.tree.Prefix()+"/request/"); !is {
			return
		}
		of = "request"
	}
	if strings.Contains(name, "/") || topics.ValidName(name) || m.Retain {
		return
	}
	h.schedule.sooner = true
	h.events.Refuse("names", topics.Event{Message: fmt.Sprintf("cannot obey %.120s: %.80q is not a valid %s name, which has a-z, 0-9 and - only", m.Topic, name, of)}, now)
}

// dispatch passes a message at one of the hub's topics to what owns its kind. The error
// reports a message that cannot be used.
func (h *Hub) dispatch(a topics.Address, m topics.Message, now time.Time) error {
	if by, is := h.signerOf(a); is && len(m.Payload) > 0 {
		return h.receiveSigned(received{kind: a.Kind, message: m, by: by}, now)
	}
	switch a.Kind {
	case topics.HubAvailability, topics.HubStatus, topics.HubCertificate, topics.HubAdoption, topics.ServiceEndpoints, topics.ServiceEndpoint:
		h.pub.Received(a, m, now)
	case topics.HubKeys:
		h.receiveKeyList(a, m, now)
	case topics.DomainAvailability:
		return h.receiveAvailability(a, m, now)
	case topics.DomainHeartbeat:
		return h.takeHeartbeat(a.Domain, m, now)
	case topics.DomainStatus:
		return h.takeStatus(a.Domain, m, now)
	case topics.DomainMetrics:
		return h.takeMetrics(a.Domain, m, now)
	case topics.HubDiscovery:
		return decoded(m, func(v topics.Discovery) {
			if m.Retain {
				h.views.announcer.ReceiveCount(v.Changes, now)
			}
		})
	case topics.DomainEvent:
		e, err := decode[topics.Event](m)
		if err != nil || e == nil {
			return err
		}
		return h.passOn(a.Domain, m.Topic, *e, now)
	case topics.DomainResponse:
		return decoded(m, func(r topics.Reply) { h.response(a.Domain, r) })
	case topics.DomainDrainSet:
		return h.drainSet(a.Domain, m)
	case topics.DeviceStatus:
		if h.views.tracker.Retained(a.Device, m) {
			h.pub.Found(m.Topic, m.Payload)
		}
	case topics.ServiceStatus:
		h.formerService(a.Service, m)
		h.pub.Received(a, m, now)
	case topics.ServiceSet:
		return h.serviceSet(a.Service, m.Payload, now)
	case topics.Request:
		if a.Verb == topics.VerbJoin && protocol.IsAdoption(m.Payload) {
			return h.receiveAdoption(m, now)
		}
		if a.Verb == topics.VerbJoin {
			return h.receiveJoin(m, now)
		}
		if topics.IsPrivate(a.Verb) {
			h.private(a.Verb, m, nil, now)
		} else {
			h.request(a.Verb, m, h.pub.Publish, now)
		}
	}
	return nil
}

// decoded reads a payload and passes it on. An empty one clears a retained topic and is
// ignored.
func decoded[T any](m topics.Message, take func(T)) error {
	if len(m.Payload) == 0 {
		return nil
	}
	v, err := topics.Decode[T](m.Topic, m.Payload)
	if err != nil {
		return err
	}
	take(v)
	return nil
}

func decode[T any](m topics.Message) (*T, error) {
	if len(m.Payload) == 0 {
		return nil, nil
	}
	v, err := topics.Decode[T](m.Topic, m.Payload)
	if err != nil {
		return nil, err
	}
	return &v, nil
}

func (h *Hub) receiveAvailability(a topics.Address, m topics.Message, now time.Time) error {
	switch word := string(m.Payload); word {
	case "":
	case topics.Online, topics.Offline:
		h.availability(a.Domain, word, m.Retain, now)
	default:
		return fmt.Errorf("cannot read %s: %.40q is neither online nor offline", m.Topic, word)
	}
	return nil
}

// passOn repeats an event of a domain at hub/event. Its domain is that of the topic,
// whatever the payload claims.
func (h *Hub) passOn(name, topic string, e topics.Event, now time.Time) error {
	if !slices.Contains(topics.EventTypes(), e.Type) {
		return fmt.Errorf("cannot pass on %s: %.40q is not a type of event", topic, e.Type)
	}
	if !h.events.MayRelay(name, now) {
		return nil
	}
	e.Message = topics.ShortenMessage(e.Message)
	e.Domain, e.Session, e.Seq = name, "", 0
	if e.Type == topics.ServiceReady && h.views.statuses.HasCrashed(e.Service, name) {
		return nil // no more than that what crashes again and again was started again
	}
	h.noteCrash(e, now)
	if d := h.fleet.Get(name); d != nil {
		e = withStopReason(d, e)
	}
	h.events.Add(e)
	return nil
}

// response takes an agent's answer to an order of ours. Only a refusal is news.
func (h *Hub) response(name string, r topics.Reply) {
	c, awaited := h.pending.commands.Answered(name, r.Transaction)
	if !awaited {
		return
	}
	if to, is := c.Answer.(later); is {
		passOn(r, to)
	} else if r.Status != topics.StatusOK {
		h.events.Add(topics.Event{Type: topics.CommandRefused, Domain: name, Service: c.Service, Message: r.Error})
	}
}

// formerService takes what an earlier run left in the broker of a service, and
// clears it where a former configuration had it.
func (h *Hub) formerService(name string, m topics.Message) {
	if !m.Retain || len(m.Payload) == 0 {
		return
	}
	if h.defs.Has(name) {
		h.recall(name, m)
	} else if h.views.leftovers.AddService(name) {
		h.changed.TouchAll()
	}
}
