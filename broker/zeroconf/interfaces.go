package zeroconf

import (
	"net"
	"net/netip"
	"slices"
	"strings"
)

// skippedPrefixes are name prefixes of interfaces that lead to no other machine of the
// home: containers, virtual machines, tunnels. They are skipped by name and not by
// kind, because a container's own eth0 is a veth, too.
var skippedPrefixes = []string{"docker", "br-", "veth", "virbr", "tailscale", "wg"}

// Interfaces returns the interfaces for multicast DNS: those of the given names or, if
// none are given, all but loopback and those with a skipped prefix. They are up and
// support multicast.
func Interfaces(names []string) []net.Interface {
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(all, func(i net.Interface) bool {
		const needed = net.FlagUp | net.FlagMulticast
		return i.Flags&needed != needed || !wanted(names, i)
	})
}

// wanted reports whether an interface is among names, or suitable if there are none.
func wanted(names []string, i net.Interface) bool {
	if len(names) > 0 {
		return slices.Contains(names, i.Name)
	}
	return i.Flags&net.FlagLoopback == 0 &&
		!slices.ContainsFunc(skippedPrefixes, func(s string) bool { return strings.HasPrefix(i.Name, s) })
}

// addresses returns the addresses at which other machines can reach an interface.
func addresses(i net.Interface) []netip.Addr { return reachable(interfaceAddresses(i)) }

// interfaceAddresses returns all addresses of an interface.
func interfaceAddresses(i net.Interface) []netip.Addr {
	all, err := i.Addrs()
	if err != nil {
		return nil
	}
	return parseAddresses(all)
}

// parseAddresses returns the addresses of networks.
func parseAddresses(nets []net.Addr) (all []netip.Addr) {
	for _, n := range nets {
		if prefix, err := netip.ParsePrefix(n.String()); err == nil {
			all = append(all, prefix.Addr().Unmap())
		}
	}
	return all
}

// reachable returns the addresses that other machines can reach, IPv4 first, without
// link-local ones unless there are no others.
func reachable(all []netip.Addr) []netip.Addr {
	all = slices.DeleteFunc(slices.Clone(all), func(a netip.Addr) bool {
		return !a.IsValid() || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast()
	})
	slices.SortFunc(all, netip.Addr.Compare) // IPv4 before IPv6
	all = slices.Compact(all)
	if global := slices.DeleteFunc(slices.Clone(all), netip.Addr.IsLinkLocalUnicast); len(global) > 0 {
		return global
	}
	return all
}
