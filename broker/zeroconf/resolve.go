package zeroconf

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// resolveTimeout bounds a look-up of a name. queryInterval is the time between two
// queries: a packet may be lost.
const (
	resolveTimeout = time.Second
	queryInterval  = 300 * time.Millisecond
)

// IsLocal reports whether a host name is resolved by multicast DNS: it ends in .local
// (RFC 6762, 3).
func IsLocal(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return strings.HasSuffix(host, ".local") && len(host) > len(".local")
}

// Resolve returns the addresses of a name that ends in .local, IPv4 first. It is a
// one-shot query (RFC 6762, 5.1) on the interfaces of the given names, as for
// Interfaces, and takes a second at most.
func Resolve(ctx context.Context, names []string, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	name := dns.Fqdn(host)
	var questions []dns.Question
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		questions = append(questions, dns.Question{Name: name, Qtype: kind, Qclass: dns.ClassINET})
	}
	var found []netip.Addr
	sent, err := query(ctx, names, questions, func(answer *dns.Msg, zone string) {
		if len(found) == 0 {
			found = addressesOf(answer, name, zone)
		}
		if len(found) > 0 {
			cancel()
		}
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot look up %s: %w", host, err)
	case !sent:
		return nil, fmt.Errorf("cannot look up %s by multicast DNS: no interface for it is up", host)
	case len(found) == 0:
		return nil, fmt.Errorf("cannot look up %s by multicast DNS: there was no answer", host)
	}
	return found, nil
}

// query sends a one-shot query (RFC 6762, 5.1) on the interfaces of the given names,
// several times, until ctx ends. It calls each with every answer and the interface by
// which it came, one at a time. sent is false if there is no interface; then query
// returns at once.
func query(ctx context.Context, names []string, questions []dns.Question, each func(answer *dns.Msg, zone string)) (sent bool, err error) {
	q := new(dns.Msg)
	q.Id = uint16(rand.N(1 << 16)) // answers must have it and come to the port: other networks cannot answer
	q.Question = questions
	packet, err := q.Pack()
	if err != nil {
		return false, err
	}
	var one sync.Mutex
	var sockets sync.WaitGroup
	for _, i := range Interfaces(names) {
		for _, s := range queriers(i) {
			sent = true
			sockets.Go(func() { s.send(ctx, packet) })
			sockets.Go(func() {
				s.read(ctx, q.Id, func(answer *dns.Msg) {
					one.Lock()
					defer one.Unlock()
					each(answer, i.Name)
				})
			})
		}
	}
	sockets.Wait()
	return sent, nil
}

// querier is a socket for queries on one interface.
type querier struct {
	conn *net.UDPConn
	to   *net.UDPAddr
}

// queriers opens a socket for each protocol of an interface. The kernel sends
// multicast on the interface whose address the socket has.
func queriers(i net.Interface) (all []querier) {
	const port = 5353
	has4, has6 := false, false
	for _, a := range interfaceAddresses(i) {
		if a.Is4() && !has4 {
			if c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: a.AsSlice()}); err == nil {
				has4, all = true, append(all, querier{c, &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: port}})
			}
		} else if a.Is6() && a.IsLinkLocalUnicast() && !has6 {
			if c, err := net.ListenUDP("udp6", &net.UDPAddr{IP: a.AsSlice(), Zone: i.Name}); err == nil {
				has6, all = true, append(all, querier{c, &net.UDPAddr{IP: net.ParseIP("ff02::fb"), Port: port, Zone: i.Name}})
			}
		}
	}
	return all
}

// send sends the query until ctx ends.
func (q querier) send(ctx context.Context, packet []byte) {
	tick := time.NewTicker(queryInterval)
	defer tick.Stop()
	defer q.conn.Close() // ends read
	for {
		_, _ = q.conn.WriteToUDP(packet, q.to)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// read calls each with the answers to the query of that id until ctx ends.
func (q querier) read(ctx context.Context, id uint16, each func(*dns.Msg)) {
	packet := make([]byte, 9000) // RFC 6762, 17
	for {
		n, err := q.conn.Read(packet)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			continue
		}
		answer := new(dns.Msg)
		if answer.Unpack(packet[:n]) == nil && answer.Response && answer.Id == id {
			each(answer)
		}
	}
}

// addressesOf returns the addresses that an answer has for a name.
func addressesOf(answer *dns.Msg, name, zone string) []netip.Addr {
	var all []netip.Addr
	for _, r := range append(answer.Answer, answer.Extra...) {
		if !strings.EqualFold(r.Header().Name, name) {
			continue
		}
		var ip net.IP
		switch r := r.(type) {
		case *dns.A:
			ip = r.A
		case *dns.AAAA:
			ip = r.AAAA
		}
		if a, ok := netip.AddrFromSlice(ip); ok {
			if a = a.Unmap(); a.Is6() && a.IsLinkLocalUnicast() {
				a = a.WithZone(zone)
			}
			all = append(all, a)
		}
	}
	return reachable(all)
}
