package supervisor

import (
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jmbarzee/dominion/internal/atomicfile"
)

// The ports that are given to services without one of their own.
const (
	firstPort = 20000
	portCount = 10000
)

// ports remembers which port each service was given, so that it stays the same.
type ports struct {
	file     string
	assigned map[string]int
	dirty    bool
	// check returns why nothing could listen on it; nil: something could.
	check func(port int) error
}

func loadPorts(file string, log *slog.Logger) *ports {
	given, _, err := atomicfile.ReadJSON[map[string]int](file, log)
	if err != nil {
		log.Warn("ports may change: those given before cannot be read", "error", err)
	}
	p := &ports{file: file, assigned: make(map[string]int), check: bindable}
	taken := make(map[int]bool)
	for name, port := range given {
		if port >= firstPort && port < firstPort+portCount && !taken[port] {
			p.assigned[name], taken[port] = port, true
		}
	}
	return p
}

// assign returns the port of a service, tested free: the fixed one, or where
// that is 0 the one it was given before, or a new one.
func (p *ports) assign(service string, fixed int) (int, error) {
	if fixed != 0 {
		switch err := p.check(fixed); {
		case errors.Is(err, unix.EADDRINUSE):
			return 0, fmt.Errorf("port %d is taken by another program on this domain: stop that (ss -ltnp), or give %s another port", fixed, service)
		case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
			return 0, fmt.Errorf("the user of this domain may not listen on port %d: give %s a port from 1024 on, or the unit AmbientCapabilities=CAP_NET_BIND_SERVICE", fixed, service)
		case err != nil:
			return 0, fmt.Errorf("nothing can listen on port %d of this domain: %w", fixed, err)
		}
		return fixed, nil
	}
	if port, ok := p.assigned[service]; ok && p.check(port) == nil {
		return port, nil
	}
	taken := make(map[int]bool, len(p.assigned))
	for port := range maps.Values(p.assigned) {
		taken[port] = true
	}
	// The search begins at a port that depends on the domain and the name: two
	// domains on one machine (make demo) that start the same service at the same
	// time would both find the first free one, before either service listens.
	h := fnv.New32a()
	_, _ = h.Write([]byte(p.file + "\x00" + service))
	for i := range portCount {
		port := firstPort + (int(h.Sum32()%portCount)+i)%portCount
		if !taken[port] && p.check(port) == nil {
			p.assigned[service], p.dirty = port, true
			return port, nil
		}
	}
	return 0, fmt.Errorf("no port between %d and %d is free", firstPort, firstPort+portCount-1)
}

// reserve records the port that a running service has.
func (p *ports) reserve(service string, port int) {
	if port >= firstPort && port < firstPort+portCount && p.assigned[service] != port {
		p.assigned[service], p.dirty = port, true
	}
}

// savePorts keeps the ports on disk, if they changed.
func (s *Supervisor) savePorts(now time.Time) error {
	if !s.ports.dirty {
		return nil
	}
	file := s.ports.file
	content, err := atomicfile.Encode(file, s.ports.assigned)
	if err != nil {
		return err
	}
	err = s.onDisk(func() error { return atomicfile.Write(file, content, 0o600) })
	if err == nil || errors.Is(err, errHung) {
		s.budget.Charge(len(content), now)
	}
	s.ports.dirty = err != nil
	return err
}

// bindable returns why nothing could listen on a port on all addresses: another
// program does on one of them (EADDRINUSE), or this user may not (EACCES).
func bindable(port int) error {
	err := tryBind(unix.AF_INET6, &unix.SockaddrInet6{Port: port})
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) { // no IPv6, or switched off
		err = tryBind(unix.AF_INET, &unix.SockaddrInet4{Port: port})
	}
	return err
}

// tryBind binds, of IPv6 also its IPv4 half, and does not listen: so another
// agent that asks at the same moment is not in the way (SO_REUSEADDR,
// socket(7)).
func tryBind(family int, address unix.Sockaddr) error {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
			return err
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	return unix.Bind(fd, address)
}
