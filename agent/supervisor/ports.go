package supervisor

import (
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"net"

	"github.com/jmbarzee/dominion/atomicfile"
)

// The ports that are given to services without one of their own.
const (
	firstPort = 20000
	portCount = 10000
)

// ports remembers which port each service was given, so that it stays the same.
type ports struct {
	file  string
	given map[string]int
	dirty bool
	free  func(port int) bool
}

func loadPorts(file string, log *slog.Logger) *ports {
	given, _, err := atomicfile.ReadJSON[map[string]int](file, log)
	if err != nil {
		log.Warn("ports may change: those given before cannot be read", "error", err)
	}
	p := &ports{file: file, given: make(map[string]int), free: portFree}
	taken := make(map[int]bool)
	for name, port := range given {
		if port >= firstPort && port < firstPort+portCount && !taken[port] {
			p.given[name], taken[port] = port, true
		}
	}
	return p
}

// take returns the port of a service, tested free: the fixed one, or where
// that is 0 the one it was given before, or a new one.
func (p *ports) take(service string, fixed int) (int, error) {
	if fixed != 0 {
		if !p.free(fixed) {
			return 0, fmt.Errorf("port %d is taken by another program on this domain: stop that (ss -ltnp), or give %s another port", fixed, service)
		}
		return fixed, nil
	}
	if port, ok := p.given[service]; ok && p.free(port) {
		return port, nil
	}
	taken := make(map[int]bool, len(p.given))
	for port := range maps.Values(p.given) {
		taken[port] = true
	}
	// From a place that its name tells: domains that start the same service
	// anew mostly find the same port.
	h := fnv.New32a()
	_, _ = h.Write([]byte(service))
	for i := range portCount {
		port := firstPort + (int(h.Sum32()%portCount)+i)%portCount
		if !taken[port] && p.free(port) {
			p.given[service], p.dirty = port, true
			return port, nil
		}
	}
	return 0, fmt.Errorf("no port between %d and %d is free", firstPort, firstPort+portCount-1)
}

// save keeps the ports on disk, if they changed.
func (p *ports) save() error {
	if !p.dirty {
		return nil
	}
	if err := atomicfile.WriteJSON(p.file, p.given); err != nil {
		return err
	}
	p.dirty = false
	return nil
}

// portFree tells whether nobody listens on a port, on any address.
func portFree(port int) bool {
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
