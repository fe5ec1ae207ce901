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

// watchWindow is how long Watch listens before it asks again.
const watchWindow = 20 * time.Second

// Browse asks for services of a type and returns what answered within a window,
// sorted by instance. names are as for Interfaces. Where there is no interface
// (yet) it waits and finds nothing.
func Browse(ctx context.Context, names []string, serviceType string, window time.Duration) ([]Found, error) {
	all := make(map[string]Found)
	err := browse(ctx, names, serviceType, window, func(f Found) { all[f.Instance] = merge(all[f.Instance], f) })
	return sorted(all), err
}

// Watch calls each with all services of a type whenever they change, until ctx
// ends: at once when one is found, within three windows of 20 s when one has
// gone. A window in which it cannot even ask is one in which nothing answers.
func Watch(ctx context.Context, names []string, serviceType string, each func([]Found)) {
	watch(ctx, names, serviceType, watchWindow, each)
}

func watch(ctx context.Context, names []string, serviceType string, window time.Duration, each func([]Found)) {
	known := make(map[string]Found)
	seen := make(map[string]int) // the last window it was seen in
	var told []Found
	tell := func() {
		if now := sorted(known); !reflect.DeepEqual(now, told) {
			told = now
			each(slices.Clone(now))
		}
	}
	for number := 1; ctx.Err() == nil; number++ {
		_ = browse(ctx, names, serviceType, window, func(f Found) {
			if seen[f.Instance] == number { // by another of our sockets
				f = merge(known[f.Instance], f)
			}
			known[f.Instance], seen[f.Instance] = f, number
			tell()
		})
		maps.DeleteFunc(known, func(instance string, _ Found) bool { return seen[instance] < number-1 })
		if ctx.Err() == nil {
			tell()
		}
	}
}

// browse calls each for what is found in one window. It asks over IPv4 and IPv6
// by themselves: the library gives up on both where one of them is missing.
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
		<-ctx.Done() // an interface that just went is no reason to ask all the faster
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
			each(found(e, interfaces))
		}
	}
	return nil
}

func found(e *zeroconf.ServiceEntry, interfaces []net.Interface) Found {
	f := Found{Instance: e.Instance, Port: e.Port, Text: parseText(e.Text)}
	for _, ip := range append(slices.Clone(e.AddrIPv4), e.AddrIPv6...) {
		a, _ := netip.AddrFromSlice(ip)
		if a = a.Unmap(); !a.IsLinkLocalUnicast() || a.Is4() {
			f.Addresses = append(f.Addresses, a)
			continue
		}
		for _, i := range interfaces { // the library does not tell by which one
			f.Addresses = append(f.Addresses, a.WithZone(i.Name))
		}
	}
	f.Addresses = best(f.Addresses)
	return f
}

// merge adds to what was found by one socket what was found by another.
func merge(a, b Found) Found {
	b.Addresses = best(append(slices.Clone(a.Addresses), b.Addresses...))
	return b
}

func sorted(all map[string]Found) []Found {
	return slices.SortedFunc(maps.Values(all), func(a, b Found) int { return strings.Compare(a.Instance, b.Instance) })
}
