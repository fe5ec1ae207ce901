package hub

import (
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/keys"
	"github.com/jmbarzee/dominion/identity"
	protocol "github.com/jmbarzee/dominion/identity/adoption"
)

// maxReach bounds the addresses of a token.
const maxReach = 6

// runtimeDirectory returns the directory that systemd makes for the unit; "": there is none.
func runtimeDirectory(environ []string) string {
	for _, v := range environ {
		if list, found := strings.CutPrefix(v, "RUNTIME_DIRECTORY="); found && list != "" {
			first, _, _ := strings.Cut(list, ":")
			return first
		}
	}
	return ""
}

// tokenFiles returns where the token of the hub's own machine is written.
func (s Service) tokenFiles() []string {
	all := []string{filepath.Join(s.Config.DataDir, identity.Directory, protocol.LocalTokenFile)}
	if dir := runtimeDirectory(s.Environ); dir != "" {
		all = append(all, filepath.Join(dir, protocol.LocalTokenFile))
	}
	return all
}

// reachEmbedded returns where domains reach a broker of our own: on this machine without
// TLS where that is served, others with it.
func reachEmbedded(own *keys.Keys, listeners func() []broker.Listener) func() (string, []string) {
	return func() (local string, others []string) {
		port := ""
		for _, l := range listeners() {
			at, err := netip.ParseAddrPort(l.Addr.String())
			if err != nil || l.Scheme != "mqtt" && l.Scheme != "mqtts" {
				continue
			}
			host := at.Addr().Unmap()
			if host.IsUnspecified() {
				host = netip.MustParseAddr("127.0.0.1")
			}
			if local == "" && host.IsLoopback() {
				local = netip.AddrPortFrom(host, at.Port()).String()
			}
			if _, p, err := net.SplitHostPort(l.Addr.String()); err == nil && l.Scheme == "mqtts" && !at.Addr().IsLoopback() {
				port = p
			}
		}
		if own == nil || port == "" {
			return local, nil
		}
		for _, host := range hostsOf(own) {
			if port != "8883" {
				host = net.JoinHostPort(host, port)
			}
			others = append(others, host)
		}
		return local, others
	}
}

// hostsOf returns the addresses and names by which others reach the hub's machine.
func hostsOf(own *keys.Keys) (all []string) {
	hosts, addresses := own.Names()
	for _, host := range append(addresses, hosts...) {
		if len(all) == maxReach {
			break
		}
		if a, err := netip.ParseAddr(host); err == nil && a.IsLinkLocalUnicast() {
			continue // of use only with a zone, which differs on each machine
		}
		all = append(all, host)
	}
	return all
}

// reachExternal returns where domains reach a broker elsewhere.
func (s Service) reachExternal() (local string, others []string) {
	for _, a := range config.Addresses(s.Config.Broker.External) {
		u, err := url.Parse(a)
		if err != nil || u.Hostname() == "" || len(others) == maxReach {
			continue
		}
		port := u.Port()
		if port == "" {
			port = map[bool]string{false: "1883", true: "8883"}[u.Scheme == "mqtts"]
		}
		if local == "" {
			local = net.JoinHostPort(u.Hostname(), port)
		}
		if brokerText(a) != "" { // not on this machine's loopback
			others = append(others, net.JoinHostPort(u.Hostname(), port))
		}
	}
	return local, others
}
