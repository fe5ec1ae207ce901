package identity

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// Names is how a hub is reached: what its certificates name.
type Names struct {
	// Hosts are in lower case, sorted, each once.
	Hosts []string
	// Addresses are without zone, sorted, each once.
	Addresses []netip.Addr
}

// Equal reports whether both hold the same.
func (n Names) Equal(o Names) bool {
	return slices.Equal(n.Hosts, o.Hosts) && slices.Equal(n.Addresses, o.Addresses)
}

// maxNames bounds the host names and the addresses of a certificate: a machine with
// thousands of containers has thousands of addresses.
const maxNames = 64

// MakeNames returns the names of a machine: its host name, alone and as <host>.local, the names
// and addresses that were added, localhost, and loopback. What is not a name or an
// address is left out.
func MakeNames(hostname string, addrs []netip.Addr, added ...string) Names {
	var n Names
	addrs = append([]netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}, addrs...)
	hosts := []string{"localhost"}
	if label, _, _ := strings.Cut(strings.ToLower(hostname), "."); label != "" && label != "localhost" {
		hosts = append(hosts, strings.ToLower(strings.TrimSuffix(hostname, ".")), label, label+".local")
	}
	for _, name := range added {
		if a, err := netip.ParseAddr(name); err == nil {
			addrs = append(addrs, a)
		} else {
			hosts = append(hosts, strings.ToLower(strings.TrimSuffix(name, ".")))
		}
	}
	for _, host := range hosts {
		if topics.ValidAddress(host) && !slices.Contains(n.Hosts, host) && len(n.Hosts) < maxNames {
			n.Hosts = append(n.Hosts, host)
		}
	}
	for _, a := range addrs {
		a = a.Unmap().WithZone("")
		if a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !slices.Contains(n.Addresses, a) && len(n.Addresses) < maxNames {
			n.Addresses = append(n.Addresses, a)
		}
	}
	slices.Sort(n.Hosts)
	slices.SortFunc(n.Addresses, netip.Addr.Compare)
	return n
}

// LocalNames returns the names of this machine. added are further ones, such as an address
// that the hub was told to listen on.
func LocalNames(added ...string) (Names, error) {
	hostname, err := os.Hostname()
	if err != nil {
		return Names{}, fmt.Errorf("cannot find out the machine's name: %w", err)
	}
	addrs, err := interfaceAddresses()
	if err != nil {
		return Names{}, fmt.Errorf("cannot list the machine's addresses: %w", err)
	}
	// Without IPv6 the file does not exist.
	table, _ := os.ReadFile("/proc/net/if_inet6")
	temporary := temporaryAddresses(string(table))
	addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool { return temporary[a.WithZone("")] })
	return MakeNames(hostname, addrs, added...), nil
}

// interfaceAddresses returns the addresses of the interfaces that are up.
func interfaceAddresses() ([]netip.Addr, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		on, err := i.Addrs()
		if err != nil {
			continue // it is gone by now
		}
		for _, a := range on {
			if n, is := a.(*net.IPNet); is {
				if addr, ok := netip.AddrFromSlice(n.IP); ok {
					addrs = append(addrs, addr.Unmap())
				}
			}
		}
	}
	return addrs, nil
}

// temporaryAddresses returns the addresses of a table as /proc/net/if_inet6 that are temporary
// (RFC 8981: made anew each day) or not usable yet or any more.
func temporaryAddresses(table string) map[netip.Addr]bool {
	// Flags of the kernel, linux/if_addr.h.
	const temporary, dadFailed, deprecated, tentative = 0x01, 0x08, 0x20, 0x40
	found := make(map[netip.Addr]bool)
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 6 || len(fields[0]) != 32 {
			continue
		}
		address, err := hex.DecodeString(fields[0])
		flags, errFlags := strconv.ParseUint(fields[4], 16, 32)
		if err != nil || errFlags != nil {
			continue
		}
		if flags&(temporary|dadFailed|deprecated|tentative) != 0 {
			found[netip.AddrFrom16([16]byte(address))] = true
		}
	}
	return found
}
