package zeroconf

import (
	"net"
	"net/netip"
	"slices"
	"strings"
)

// skipped are the beginnings of the names of interfaces that lead to no other
// machine of the home: containers, virtual machines, tunnels. They are left out
// by name and not by kind, because a container's own eth0 is a veth too.
var skipped = []string{"docker", "br-", "veth", "virbr", "tailscale", "wg"}

// Interfaces returns the interfaces to speak multicast DNS on, those of the
// given names or, where none are given, all but loopback and the skipped ones.
// They are up and know multicast.
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

func wanted(names []string, i net.Interface) bool {
	if len(names) > 0 {
		return slices.Contains(names, i.Name)
	}
	return i.Flags&net.FlagLoopback == 0 &&
		!slices.ContainsFunc(skipped, func(s string) bool { return strings.HasPrefix(i.Name, s) })
}

// addresses returns the addresses of an interface that others can reach it at.
func addresses(i net.Interface) []netip.Addr { return best(all4and6(i)) }

func all4and6(i net.Interface) []netip.Addr {
	all, err := i.Addrs()
	if err != nil {
		return nil
	}
	return parseAddresses(all)
}

func parseAddresses(nets []net.Addr) (all []netip.Addr) {
	for _, n := range nets {
		if prefix, err := netip.ParsePrefix(n.String()); err == nil {
			all = append(all, prefix.Addr().Unmap())
		}
	}
	return all
}

// best sorts addresses, those that work everywhere first: IPv4, then IPv6,
// without link-local ones unless there is nothing else.
func best(all []netip.Addr) []netip.Addr {
	all = slices.DeleteFunc(slices.Clone(all), func(a netip.Addr) bool {
		return !a.IsValid() || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast()
	})
	slices.SortFunc(all, netip.Addr.Compare) // IPv4 before IPv6
	all = slices.Compact(all)
	if wide := slices.DeleteFunc(slices.Clone(all), netip.Addr.IsLinkLocalUnicast); len(wide) > 0 {
		return wide
	}
	return all
}
