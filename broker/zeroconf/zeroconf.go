// Package zeroconf announces services of this machine on the local network and finds
// those of others, by multicast DNS (RFC 6762) and DNS-SD (RFC 6763).
//
// It decides which interfaces and addresses are announced, and follows their changes.
// A service that it finds is only a candidate: a record outlives a crash by up to an
// hour. hub, agent and ctl may import it.
package zeroconf

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// The types of services.
const (
	// TypeMQTT is a broker, for any MQTT client.
	TypeMQTT = "_mqtt._tcp"
	// TypeDominion is a hub, for agents.
	TypeDominion = "_dominion._tcp"
	// TypeDomain is an agent that looks for a hub.
	TypeDomain = "_dominion-domain._tcp"
)

// Service is a service to be announced.
type Service struct {
	// Type is TypeMQTT or another of the types.
	Type string
	// Instance is a DNS label of a-z, 0-9 and -; it must be unique for its type on the
	// network.
	Instance string
	Port     int
	Text     map[string]string
	// Addr is the address that the port is bound to. Unspecified or invalid means
	// every address of each interface; a loopback address is not announced.
	Addr netip.Addr
}

// validate returns an error if the service cannot be announced.
func (s Service) validate() error {
	if !topics.ValidName(s.Instance) {
		return fmt.Errorf("cannot announce %s: %q is not a valid DNS label: use a-z, 0-9 and -", s.Type, s.Instance)
	}
	if s.Port < 1 || s.Port > 65535 {
		return fmt.Errorf("cannot announce %s %s: %d is not a valid port: use 1 to 65535", s.Type, s.Instance, s.Port)
	}
	for k, v := range s.Text {
		if k == "" || strings.Contains(k, "=") || len(k)+1+len(v) > 255 {
			return fmt.Errorf("cannot announce %s %s: text %q is not valid: use a key without =, at most 255 bytes with its value", s.Type, s.Instance, k)
		}
	}
	return nil
}

// text returns the text of the service as key=value, sorted.
func (s Service) text() []string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(s.Text)) {
		all = append(all, k+"="+s.Text[k])
	}
	return all
}

// Found is a service that was found.
type Found struct {
	Instance string
	Port     int
	// Addresses has IPv4 first.
	Addresses []netip.Addr
	Text      map[string]string
}

// parseText decodes a TXT record. Of repeated keys the first counts (RFC 6763, 6.4).
func parseText(lines []string) map[string]string {
	text := make(map[string]string)
	for _, l := range lines {
		k, v, _ := strings.Cut(l, "=")
		if _, twice := text[k]; k != "" && !twice {
			text[k] = v
		}
	}
	return text
}
