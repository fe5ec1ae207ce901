package servicestatus

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// Link returns the URL of the web page of a service with these endpoints, best first; ""
// where it has none that others can reach. While it runs nowhere that is where it was
// last: a page that comes and goes with each restart is of no use.
func (s *Statuses) Link(def services.Definition, endpoints []topics.Endpoint) string {
	one := s.service(def.Name)
	if len(endpoints) > 0 {
		one.link = ""
	}
	for _, e := range endpoints {
		if scheme := schemeOf(def, e.Port); scheme != "" && reachable(e.Address) {
			port := strconv.Itoa(e.Port)
			host := net.JoinHostPort(e.Address, port)
			if e.Port == 80 || e.Port == 443 {
				host = strings.TrimSuffix(host, ":"+port)
			}
			one.link = scheme + "://" + host + "/"
			break
		}
	}
	return one.link
}

// schemeOf returns the scheme of the web page at a port of a service; "": there is none as
// far as that is published.
func schemeOf(def services.Definition, port int) string {
	if port == 443 {
		return "https"
	}
	if port == 80 || def.Health != nil && def.Health.HTTP != "" {
		return "http"
	}
	return ""
}

// reachable reports whether other machines reach an address, which may be a host name. One
// of the local link needs a zone, which is another one on each machine.
func reachable(address string) bool {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address != "" && address != "localhost"
	}
	return !ip.IsLoopback() && !ip.IsUnspecified() && !ip.IsLinkLocalUnicast()
}
