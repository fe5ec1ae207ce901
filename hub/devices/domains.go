package devices

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// Announced is how the firmware of a microcontroller announces itself by Home
// Assistant's discovery.
type Announced struct {
	Identifiers                                 []string
	Connections                                 []topics.DeviceConnection
	Name, Manufacturer, Model, ModelID, Version string
}

// OfDomain returns how the firmware that publishes its availability at the topic of a
// domain announces itself by Home Assistant's discovery, which makes one device of
// it: of different announcements that of the most, and of as many the first. ok is
// false where there is none.
func (s *State) OfDomain(domain string) (best Announced, ok bool) {
	at := s.availabilityTopics[s.prefix+"/domain/"+domain+"/availability"]
	if at == nil {
		return Announced{}, false
	}
	all := make(map[string][]*announcement)
	for a := range at.users {
		if a.by == topics.ByHomeAssistant {
			identity := fmt.Sprintf("%q %q", a.identifiers, a.connections)
			all[identity] = append(all[identity], a)
		}
	}
	if len(all) == 0 {
		return Announced{}, false
	}
	most := slices.MinFunc(slices.Collect(maps.Keys(all)), func(x, y string) int {
		return cmp.Or(len(all[y])-len(all[x]), cmp.Compare(x, y))
	})
	device := all[most]
	slices.SortFunc(device, func(x, y *announcement) int { return cmp.Compare(x.source, y.source) })
	return Announced{
		Identifiers: device[0].identifiers, Connections: device[0].connections,
		Name:         preferred(device, func(a *announcement) string { return a.name }),
		Manufacturer: preferred(device, func(a *announcement) string { return a.manufacturer }),
		Model:        preferred(device, func(a *announcement) string { return a.model }),
		ModelID:      preferred(device, func(a *announcement) string { return a.modelID }),
		Version:      preferred(device, func(a *announcement) string { return a.version }),
	}, true
}

// domainPayload is the availability that one of our domains published.
type domainPayload struct {
	payload string
	// order is as itemState.order.
	order uint64
}

// recordDomainPayload stores the payload at the availability topic of a domain of ours.
// The hub subscribes to these topics for itself, so the broker does not replay them
// when an announcement that comes later names one of them.
func (s *State) recordDomainPayload(topic string, payload []byte, live bool) {
	if _, ours := s.domainOf(topic); !ours {
		return
	}
	w := domainPayload{payload: string(payload)}
	if s.payloads++; live {
		w.order = s.payloads
	}
	_, had := s.domainPayloads[topic]
	if len(payload) == 0 || len(payload) > maxDomainPayload {
		delete(s.domainPayloads, topic)
	} else if had || len(s.domainPayloads) < s.limits.Watched {
		s.domainPayloads[strings.Clone(topic)] = w
	}
}

// maxDomainPayload is the longest availability of a domain of ours, in bytes.
const maxDomainPayload = 128

// domainOf returns the domain that publishes its availability at a topic.
func (s *State) domainOf(topic string) (domain string, ok bool) {
	below, ok := strings.CutPrefix(topic, s.prefix+"/domain/")
	if !ok {
		return "", false
	}
	domain, ok = strings.CutSuffix(below, "/availability")
	return domain, ok && topics.ValidName(domain)
}
