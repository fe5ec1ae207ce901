// Package locate decides which brokers a zeroconf announcement means, and to which of
// them a program may connect with its credentials. Agent and command line share it.
//
// Anyone in the network can announce anything. So a password is sent to an address
// that only an announcement names if the authority of its certificate is pinned
// (cafile) and the name is one for which no public authority issues certificates;
// otherwise it is not sent. Addresses from the configuration are not checked here.
// Only agent and ctl may import it.
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

// The ports of MQTT and of MQTT over TLS, as registered with IANA.
const (
	PortMQTT  = 1883
	PortMQTTS = 8883
)

// maxAddresses bounds the time that a false announcement can cost.
const maxAddresses = 6

// URLs returns the brokers that an announcement means: the external one that it names,
// or otherwise its own addresses, IPv4 first.
func URLs(f zeroconf.Found) []string {
	if first := f.Text["broker"]; first != "" {
		var all []string
		for b := range strings.SplitSeq(first+","+f.Text["brokers"], ",") {
			if at := externalBroker(b); at != "" && !slices.Contains(all, at) {
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
			continue // the link is not known
		}
		if all = append(all, brokerURL(scheme, a.String(), f.Port)); len(all) == maxAddresses {
			break
		}
	}
	return all
}

// externalBroker returns the URL of an external broker that an announcement names,
// without the user, which is the hub's own. "": it is not valid.
func externalBroker(b string) string {
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
	return brokerURL(u.Scheme, u.Hostname(), port)
}

// brokerURL returns the URL of a broker.
func brokerURL(scheme, host string, port int) string {
	u := url.URL{Scheme: scheme, Host: net.JoinHostPort(host, strconv.Itoa(port))}
	return u.String()
}

// Encrypted reports whether a URL is one of TLS.
func Encrypted(url string) bool { return strings.HasPrefix(url, "mqtts://") }

// Credentials describes what a program sends to a hub, and how it authenticates the
// hub.
type Credentials struct {
	// Password is set if a password would be sent.
	Password bool
	// Pinned is set if a cafile replaces the authorities of the system.
	Pinned bool
}

// Allow returns those of the URLs, named by an announcement only, to which the program
// may connect, best first. If there is none, it returns the reason.
func (c Credentials) Allow(urls []string) (allowed []string, reason error) {
	if !c.Password && !c.Pinned { // no secret can leak
		return unencryptedFirst(urls), nil
	}
	for _, u := range urls {
		if err := c.refusal(u); err == nil {
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

// unencryptedFirst returns the URLs with unencrypted ones first: without a pinned
// authority, TLS that cannot be verified fails.
func unencryptedFirst(urls []string) []string {
	sorted := slices.Clone(urls)
	slices.SortStableFunc(sorted, func(a, b string) int {
		if Encrypted(a) == Encrypted(b) {
			return 0
		}
		if Encrypted(b) {
			return -1
		}
		return 1
	})
	return sorted
}

// refusal returns why the program must not connect to an announced address; nil: it
// may.
func (c Credentials) refusal(address string) error {
	what := "it is not joined"
	if c.Password {
		what = "a password is not sent there"
	}
	switch {
	case !Encrypted(address):
		return fmt.Errorf("it was found by zeroconf alone and without TLS: %s", what)
	case !c.Pinned:
		return fmt.Errorf("it was found by zeroconf alone, and no cafile is set to verify its certificate: %s", what)
	case !locallyNamed(address):
		return fmt.Errorf("zeroconf alone names %s, for which anyone can get a certificate: %s", address, what)
	}
	return nil
}

// localDomains are the domains for which no public authority issues certificates (RFC
// 6761, 6762, 8375 and ICANN's .internal; .lan and .home are used by routers).
var localDomains = []string{"local", "lan", "home", "home.arpa", "internal", "localhost"}

// locallyNamed reports whether no public authority issues a certificate for the host
// of a URL (CA/Browser Forum baseline requirements, 7.1.2.7.12). A certificate for
// such a host shows that the pinned authority meant this network.
func locallyNamed(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		return ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || carrierGrade.Contains(ip)
	}
	if !strings.Contains(host, ".") {
		return host != ""
	}
	return slices.ContainsFunc(localDomains, func(d string) bool { return strings.HasSuffix(host, "."+d) })
}

// carrierGrade is the shared address space (RFC 6598), which tunnels use too.
var carrierGrade = netip.MustParsePrefix("100.64.0.0/10")
