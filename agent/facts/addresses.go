package facts

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// Addresses returns where this machine is reached: the address of the default
// route's interface, else of the first of the given interfaces that has one,
// "" where there is none; and all addresses of the given interfaces. An IPv6
// address of the local link is taken where there is no other, with its zone.
func Addresses(interfaces []net.Interface) (address string, all []string) {
	var candidates []netip.Addr
	if name := defaultInterface(read("/proc/net/route"), read("/proc/net/ipv6_route")); name != "" {
		if i, err := net.InterfaceByName(name); err == nil {
			candidates = addressesOf(*i)
		}
	}
	primary := len(candidates)
	for _, i := range interfaces {
		candidates = append(candidates, addressesOf(i)...)
	}
	for _, a := range candidates[primary:] {
		if len(all) == topics.MaxAddresses { // of a machine with hundreds of containers
			break
		}
		all = append(all, a.String())
	}
	best, ok := choose(candidates[:primary])
	if !ok {
		best, ok = choose(candidates)
	}
	if !ok {
		best, ok = linkLocal(interfaces)
	}
	if ok {
		address = best.String()
	}
	return address, all
}

// choose takes the first IPv4 address, else the first IPv6 one; one of the
// local link only where there is no other.
func choose(addresses []netip.Addr) (netip.Addr, bool) {
	for _, fits := range []func(netip.Addr) bool{
		func(a netip.Addr) bool { return a.Is4() && a.IsGlobalUnicast() },
		func(a netip.Addr) bool { return a.Is6() && a.IsGlobalUnicast() },
		func(a netip.Addr) bool { return a.Is4() },
	} {
		if i := slices.IndexFunc(addresses, fits); i >= 0 {
			return addresses[i], true
		}
	}
	return netip.Addr{}, false
}

// linkLocal returns the first IPv6 address of the local link, which other
// machines reach by the name of their own interface.
func linkLocal(interfaces []net.Interface) (netip.Addr, bool) {
	for _, i := range interfaces {
		networks, _ := i.Addrs()
		if a := zoned(networks, i.Name); a.IsValid() {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func zoned(networks []net.Addr, name string) netip.Addr {
	for _, n := range networks {
		if prefix, err := netip.ParsePrefix(n.String()); err == nil && prefix.Addr().Is6() && prefix.Addr().IsLinkLocalUnicast() {
			if a := prefix.Addr().WithZone(name); topics.ValidAddress(a.String()) {
				return a
			}
		}
	}
	return netip.Addr{}
}

// addressesOf leaves out IPv6 addresses of the local link: without their zone
// they mean nothing to another machine.
func addressesOf(i net.Interface) []netip.Addr {
	networks, err := i.Addrs()
	if err != nil {
		return nil
	}
	var all []netip.Addr
	for _, n := range networks {
		prefix, err := netip.ParsePrefix(n.String())
		if a := prefix.Addr().Unmap(); err == nil && (a.Is4() || a.IsGlobalUnicast()) {
			all = append(all, a)
		}
	}
	return all
}

// defaultInterface names the interface of the default route with the lowest
// metric, IPv4 before IPv6, of the content of /proc/net/route and
// /proc/net/ipv6_route.
func defaultInterface(route4, route6 string) string {
	const none = "00000000"
	const up = 0x1 // RTF_UP
	best, lowest := "", uint64(0)
	consider := func(name, flags, metric string, base int) {
		f, _ := strconv.ParseUint(flags, 16, 32)
		m, err := strconv.ParseUint(metric, base, 32)
		if name != "lo" && f&up != 0 && err == nil && (best == "" || m < lowest) {
			best, lowest = name, m
		}
	}
	for line := range strings.Lines(route4) {
		if f := strings.Fields(line); len(f) >= 8 && f[1] == none && f[7] == none {
			consider(f[0], f[3], f[6], 10)
		}
	}
	if best != "" {
		return best
	}
	for line := range strings.Lines(route6) {
		if f := strings.Fields(line); len(f) >= 10 && strings.Trim(f[0], "0") == "" && f[1] == "00" {
			consider(f[9], f[8], f[5], 16)
		}
	}
	return best
}

// read returns the content of a file of the kernel, "" where there is none.
func read(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b)
}
