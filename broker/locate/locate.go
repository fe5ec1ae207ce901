// Package locate decides which brokers a zeroconf announcement means, and which
// of them a program may connect to with what it has to show. It is the one
// place for that: agent and command line share it.
//
// Anybody in the network can announce anything. So a password goes to an address
// that only an announcement names where the authority of its certificate is
// pinned (cafile) and the announcement does not choose a name for which any
// public authority would issue a certificate; else to nobody. An address that
// the configuration names is not this package's affair. Only agent and ctl may
// import it.
package locate

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/jmbarzee/dominion/broker/zeroconf"
)

// The ports of MQTT and of MQTT over TLS, as IANA has them.
const (
	PortMQTT  = 1883
	PortMQTTS = 8883
)

// maxAddresses bounds how long a hub that announces nonsense keeps us busy.
const maxAddresses = 6

// URLs returns the brokers that an announcement means: the external one that
// it names, else its own addresses, IPv4 first.
func URLs(f zeroconf.Found) []string {
	if first := f.Text["broker"]; first != "" {
		var all []string
		for b := range strings.SplitSeq(first+","+f.Text["brokers"], ",") {
			if at := external(b); at != "" && !slices.Contains(all, at) {
				all = append(all, at)
			}
			if len(all) == maxAddresses {
				break
			}
		}
		return all
	}
	scheme := "mqtt"
	if f.Text["tls"] == "1" {
		scheme = "mqtts"
	}
	addresses := slices.Clone(f.Addresses)
	slices.SortStableFunc(addresses, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	var all []string
	for _, a := range addresses {
		if a.IsLinkLocalUnicast() && a.Is6() && a.Zone() == "" {
			continue // of which link?
		}
		if all = append(all, address(scheme, a.String(), f.Port)); len(all) == maxAddresses {
			break
		}
	}
	return all
}

// external returns the address of an external broker that an announcement names,
// without a user: that is the hub's own. "": it names none.
func external(b string) string {
	u, err := url.Parse(b)
	if err != nil || u.Hostname() == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return ""
	}
	port := PortMQTT
	switch u.Scheme {
	case "mqtt":
	case "mqtts":
		port = PortMQTTS
	default:
		return ""
	}
	if p := u.Port(); p != "" {
		if port, err = strconv.Atoi(p); err != nil || port < 1 || port > 65535 {
			return ""
		}
	}
	return address(u.Scheme, u.Hostname(), port)
}

func address(scheme, host string, port int) string {
	u := url.URL{Scheme: scheme, Host: net.JoinHostPort(host, strconv.Itoa(port))}
	return u.String()
}

// Encrypted reports whether a URL is one of TLS.
func Encrypted(url string) bool { return strings.HasPrefix(url, "mqtts://") }

// Credentials is what a program has to show to a hub, and by what it would know
// the hub again.
type Credentials struct {
	Password bool // it would be sent
	Pinned   bool // cafile: authorities of the configuration instead of the system's
}

// Allow returns those of the URLs that an announcement alone named which may be
// connected to, best first. Where none is left it returns why.
func (c Credentials) Allow(urls []string) (allowed []string, reason error) {
	if !c.Password && !c.Pinned { // nothing to lose but who is obeyed
		return order(urls), nil
	}
	for _, u := range urls {
		if err := c.refuses(u); err == nil {
			allowed = append(allowed, u)
		} else if reason == nil {
			reason = err
		}
	}
	if len(allowed) > 0 {
		reason = nil
	}
	return allowed, reason
}

// order puts what is not encrypted first: TLS that cannot be checked fails.
func order(urls []string) []string {
	sorted := slices.Clone(urls)
	slices.SortStableFunc(sorted, func(a, b string) int {
		switch {
		case Encrypted(a) == Encrypted(b):
			return 0
		case Encrypted(b):
			return -1
		}
		return 1
	})
	return sorted
}

// refuses returns why nobody connects to an announced address.
func (c Credentials) refuses(address string) error {
	what := "it is not joined"
	if c.Password {
		what = "a password is not sent there"
	}
	switch {
	case !Encrypted(address):
		return fmt.Errorf("it was found by zeroconf alone and without TLS: %s", what)
	case !c.Pinned:
		return fmt.Errorf("it was found by zeroconf alone, and no cafile says whose certificate it must have: %s", what)
	case !private(address):
		return fmt.Errorf("zeroconf alone names %s, for which anybody may have a certificate: %s", address, what)
	}
	return nil
}

// localDomains are the names for which no public authority issues certificates
// (RFC 6761, 6762, 8375 and ICANN's .internal; .lan and .home are what routers
// use).
var localDomains = []string{"local", "lan", "home", "home.arpa", "internal", "localhost"}

// private reports whether no public authority issues a certificate for the host
// of a URL (CA/Browser Forum baseline requirements, 7.1.2.7.12): a certificate
// for it says that the pinned authority meant this network.
func private(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		return ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || shared.Contains(ip)
	}
	if !strings.Contains(host, ".") {
		return host != ""
	}
	return slices.ContainsFunc(localDomains, func(d string) bool { return strings.HasSuffix(host, "."+d) })
}

// shared is the address space of carriers (RFC 6598), which tunnels use too.
var shared = netip.MustParsePrefix("100.64.0.0/10")
