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

// poll is how often interfaces and addresses are looked at for changes. It
// costs two system calls.
const poll = 2 * time.Second

// domain is the domain of multicast DNS.
const domain = "local."

// Announce tells the network about services until ctx ends, then says goodbye.
// It follows interfaces that come and go and addresses that change. names are
// as for Interfaces.
func Announce(ctx context.Context, names []string, log *slog.Logger, services ...Service) error {
	for _, s := range services {
		if err := s.validate(); err != nil {
			return err
		}
	}
	current := make(map[string]*registration)
	defer func() { withdraw(current, nil) }()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	failure := "" // the last one that was told
	for {
		wanted := plan(names, services)
		withdraw(current, wanted)
		for key, r := range wanted {
			if current[key] != nil {
				continue
			}
			if err := r.register(); err != nil {
				if err.Error() != failure {
					failure = err.Error()
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

// withdraw says goodbye to what is not wanted any more, so that nobody has to
// wait until its records are stale.
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
	addresses  [][]netip.Addr // of each interface
	server     *zeroconf.Server
}

// plan says what is to be announced now, by what tells one registration from
// another: nothing where there is no address.
func plan(names []string, services []Service) map[string]*registration {
	interfaces := Interfaces(names)
	all := make(map[string]*registration)
	for _, s := range services {
		if s.Addr.IsLoopback() {
			continue // nobody else can reach it
		}
		r := &registration{service: s}
		for _, i := range interfaces {
			at := addresses(i)
			if s.bound() {
				at = slices.DeleteFunc(all4and6(i), func(a netip.Addr) bool { return a != s.Addr.Unmap().WithZone("") })
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

// register announces. An unbound service is registered once and without
// addresses: the library then gives, for each question, the addresses of the
// interface the question came by. (Registered once an interface with its
// addresses, each registration would answer on the others too, as the kernel
// hands a multicast packet to every socket of the group.)
func (r *registration) register() (err error) {
	s := r.service
	var ips []string
	if s.bound() {
		ips = []string{s.Addr.Unmap().WithZone("").String()}
	}
	r.server, err = zeroconf.RegisterProxy(s.Instance, s.Type, domain, s.Port, s.host(), ips, s.text(), r.interfaces)
	return err
}

// host is the name that the addresses are told under. It is not the machine's
// own, which another responder (avahi) may own, with other addresses.
func (s Service) host() string {
	kind := strings.TrimSuffix(strings.TrimPrefix(s.Type, "_"), "._tcp")
	name := kind + "-" + s.Instance
	return strings.TrimRight(name[:min(len(name), 63)], "-")
}

func (s Service) bound() bool { return s.Addr.IsValid() && !s.Addr.IsUnspecified() }

func (r *registration) String() string {
	var all []string
	for n, i := range r.interfaces {
		all = append(all, fmt.Sprintf("%s (%d) %v", i.Name, i.Index, r.addresses[n]))
	}
	return fmt.Sprintf("%s %s port %d at %s", r.service.Type, r.service.Instance, r.service.Port, strings.Join(all, ", "))
}
