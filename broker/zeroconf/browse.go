package zeroconf

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/grandcat/zeroconf"
)

// watchWindow is how long Watch listens before it queries again.
const watchWindow = 20 * time.Second

// Browse queries services of a type and returns those that answered within a window,
// sorted by instance. names are as for Interfaces. If there is no interface (yet), it
// waits and finds nothing.
func Browse(ctx context.Context, names []string, serviceType string, window time.Duration) ([]Found, error) {
	all := make(map[string]Found)
	err := browse(ctx, names, serviceType, window, func(f Found) { all[f.Instance] = merge(all[f.Instance], f) })
	return sorted(all), err
}

// Watch calls each with all services of a type whenever they change, until ctx ends:
// at once when one is found, and within three windows of 20 s when one has gone. A
// window in which no query could be sent counts as one without answers.
func Watch(ctx context.Context, names []string, serviceType string, each func([]Found)) {
	watch(ctx, names, serviceType, watchWindow, each)
}

// watch is Watch with a window.
func watch(ctx context.Context, names []string, serviceType string, window time.Duration, each func([]Found)) {
	found := make(map[string]Found)
	lastSeen := make(map[string]int) // the last window in which it answered
	var reported []Found
	report := func() {
		if now := sorted(found); !reflect.DeepEqual(now, reported) {
			reported = now
			each(slices.Clone(now))
		}
	}
	for number := 1; ctx.Err() == nil; number++ {
		_ = browse(ctx, names, serviceType, window, func(f Found) {
			if lastSeen[f.Instance] == number { // found by another socket
				f = merge(found[f.Instance], f)
			}
			found[f.Instance], lastSeen[f.Instance] = f, number
			report()
		})
		maps.DeleteFunc(found, func(instance string, _ Found) bool { return lastSeen[instance] < number-1 })
		if ctx.Err() == nil {
			report()
		}
	}
}

// browse calls each for what is found in one window. It queries by IPv4 and IPv6
// separately: the library gives up on both if one of them is not available.
func browse(ctx context.Context, names []string, serviceType string, window time.Duration, each func(Found)) error {
	ctx, cancel := context.WithTimeout(ctx, window)
	defer cancel()
	interfaces := Interfaces(names)
	if len(interfaces) == 0 {
		<-ctx.Done()
		return nil
	}
	var faults []error
	open := func(ip zeroconf.IPType) <-chan *zeroconf.ServiceEntry {
		entries := make(chan *zeroconf.ServiceEntry)
		r, err := zeroconf.NewResolver(zeroconf.SelectIfaces(interfaces), zeroconf.SelectIPTraffic(ip))
		if err == nil {
			err = r.Browse(ctx, serviceType, domain, entries)
		}
		if err != nil {
			faults = append(faults, err)
			return nil
		}
		return entries
	}
	over4, over6 := open(zeroconf.IPv4), open(zeroconf.IPv6)
	if over4 == nil && over6 == nil {
		<-ctx.Done() // the caller must not query faster because an interface has gone
		return fmt.Errorf("cannot browse for %s: %w", serviceType, errors.Join(faults...))
	}
	// Both are read until the library closes them: it waits for its reader.
	for over4 != nil || over6 != nil {
		var e *zeroconf.ServiceEntry
		var open bool
		select {
		case e, open = <-over4:
			if !open {
				over4 = nil
			}
		case e, open = <-over6:
			if !open {
				over6 = nil
			}
		}
		if open {
			each(toFound(e, interfaces))
		}
	}
	return nil
}

// toFound converts an entry of the library. A link-local address gets the zone of
// every interface, as the library does not return the right one.
func toFound(e *zeroconf.ServiceEntry, interfaces []net.Interface) Found {
	f := Found{Instance: e.Instance, Port: e.Port, Text: parseText(e.Text)}
	for _, ip := range append(slices.Clone(e.AddrIPv4), e.AddrIPv6...) {
		a, _ := netip.AddrFromSlice(ip)
		if a = a.Unmap(); !a.IsLinkLocalUnicast() || a.Is4() {
			f.Addresses = append(f.Addresses, a)
			continue
		}
		for _, i := range interfaces {
			f.Addresses = append(f.Addresses, a.WithZone(i.Name))
		}
	}
	f.Addresses = reachable(f.Addresses)
	return f
}

// merge adds to a service what another socket found of it.
func merge(a, b Found) Found {
	b.Addresses = reachable(append(slices.Clone(a.Addresses), b.Addresses...))
	return b
}

// sorted returns services by instance.
func sorted(all map[string]Found) []Found {
	return slices.SortedFunc(maps.Values(all), func(a, b Found) int { return strings.Compare(a.Instance, b.Instance) })
}
