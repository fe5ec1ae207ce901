package zeroconf

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/grandcat/zeroconf"
)

// pollInterval is how often interfaces and addresses are checked for changes, which
// costs two system calls.
const pollInterval = 2 * time.Second

// domain is the domain of multicast DNS.
const domain = "local."

// Announce announces services until ctx ends, and then withdraws them. It follows
// changes of interfaces and addresses. names are as for Interfaces.
func Announce(ctx context.Context, names []string, log *slog.Logger, services ...Service) error {
	for _, s := range services {
		if err := s.validate(); err != nil {
			return err
		}
	}
	current := make(map[string]*registration)
	defer func() { withdraw(current, nil) }()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	lastError := "" // the last one that was logged
	for {
		wanted := plan(names, services)
		withdraw(current, wanted)
		for key, r := range wanted {
			if current[key] != nil {
				continue
			}
			if err := r.register(); err != nil {
				if err.Error() != lastError {
					lastError = err.Error()
					log.Warn("cannot announce by zeroconf, trying again", "service", r, "error", err)
				}
				continue
			}
			current[key] = r
			log.Info("announced by zeroconf", "service", r)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// withdraw withdraws the registrations that are no longer wanted, so that their
// records do not stay in caches until they expire.
func withdraw(current, wanted map[string]*registration) {
	for key, r := range current {
		if wanted[key] == nil {
			r.server.Shutdown()
			delete(current, key)
		}
	}
}

// registration is a service as it is announced: on which interfaces, with which
// addresses.
type registration struct {
	service    Service
	interfaces []net.Interface
	// addresses are those of each interface.
	addresses [][]netip.Addr
	server    *zeroconf.Server
}

// plan returns what is to be announced now, by a key that changes with it. A service
// without addresses is not.
func plan(names []string, services []Service) map[string]*registration {
	interfaces := Interfaces(names)
	all := make(map[string]*registration)
	for _, s := range services {
		if s.Addr.IsLoopback() {
			continue // other machines cannot reach it
		}
		r := &registration{service: s}
		for _, i := range interfaces {
			at := addresses(i)
			if s.bound() {
				at = slices.DeleteFunc(interfaceAddresses(i), func(a netip.Addr) bool { return a != s.Addr.Unmap().WithZone("") })
			}
			if len(at) > 0 {
				r.interfaces = append(r.interfaces, i)
				r.addresses = append(r.addresses, at)
			}
		}
		if len(r.interfaces) > 0 {
			all[r.String()] = r
		}
	}
	return all
}

// register announces the service. An unbound service is registered once and without
// addresses: the library then answers each question with the addresses of the
// interface it came from. (If it were registered once for each interface with its
// addresses, each registration would answer on the others too, as the kernel passes a
// multicast packet to every socket of the group.)
func (r *registration) register() (err error) {
	s := r.service
	var ips []string
	if s.bound() {
		ips = []string{s.Addr.Unmap().WithZone("").String()}
	}
	r.server, err = zeroconf.RegisterProxy(s.Instance, s.Type, domain, s.Port, s.host(), ips, s.text(), r.interfaces)
	return err
}

// host returns the name under which the addresses are announced. It is not the
// machine's own, which another responder (avahi) may own with other addresses.
func (s Service) host() string {
	kind := strings.TrimSuffix(strings.TrimPrefix(s.Type, "_"), "._tcp")
	name := kind + "-" + s.Instance
	return strings.TrimRight(name[:min(len(name), 63)], "-")
}

// bound reports whether the service is bound to one address.
func (s Service) bound() bool { return s.Addr.IsValid() && !s.Addr.IsUnspecified() }

// String identifies the registration: it changes with the interfaces and addresses.
func (r *registration) String() string {
	var all []string
	for n, i := range r.interfaces {
		all = append(all, fmt.Sprintf("%s (%d) %v", i.Name, i.Index, r.addresses[n]))
	}
	return fmt.Sprintf("%s %s port %d at %s", r.service.Type, r.service.Instance, r.service.Port, strings.Join(all, ", "))
}
