// Package zeroconf announces services of this machine on the local network and
// finds those of others, by multicast DNS (RFC 6762) and DNS-SD (RFC 6763).
//
// It owns which interfaces and addresses are told to whom, and follows their
// changes. What it finds is a candidate only: a record outlives a crash by up
// to an hour. hub, agent and ctl may import it.
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
	TypeMQTT     = "_mqtt._tcp"            // a broker, for any MQTT client
	TypeDominion = "_dominion._tcp"        // a hub, for agents
	TypeDomain   = "_dominion-domain._tcp" // an agent that looks for a hub
)

// Service is what is announced.
type Service struct {
	Type     string // TypeMQTT and its like
	Instance string // a DNS label of a-z, 0-9 and -; it must be the only one of its type on the network
	Port     int
	Text     map[string]string
	// Addr is the address the port is bound to. Unspecified or not valid is
	// every address of each interface; a loopback one is not announced.
	Addr netip.Addr
}

func (s Service) validate() error {
	switch {
	case !topics.ValidName(s.Instance):
		return fmt.Errorf("cannot announce %s: %q is no DNS label of a-z, 0-9 and -", s.Type, s.Instance)
	case s.Port < 1 || s.Port > 65535:
		return fmt.Errorf("cannot announce %s %s: %d is no port", s.Type, s.Instance, s.Port)
	}
	for k, v := range s.Text {
		if k == "" || strings.Contains(k, "=") || len(k)+1+len(v) > 255 {
			return fmt.Errorf("cannot announce %s %s: text %q does not fit: a key without =, 255 bytes with its value", s.Type, s.Instance, k)
		}
	}
	return nil
}

// text returns the text of a service as key=value, sorted.
func (s Service) text() []string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(s.Text)) {
		all = append(all, k+"="+s.Text[k])
	}
	return all
}

// Found is a service that was found.
type Found struct {
	Instance  string
	Port      int
	Addresses []netip.Addr // IPv4 first
	Text      map[string]string
}

func parseText(lines []string) map[string]string {
	text := make(map[string]string)
	for _, l := range lines {
		k, v, _ := strings.Cut(l, "=")
		if _, twice := text[k]; k != "" && !twice { // the first counts (RFC 6763, 6.4)
			text[k] = v
		}
	}
	return text
}
