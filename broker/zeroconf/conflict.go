package zeroconf

import (
	"cmp"
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/jmbarzee/dominion/topics"
)

// The library neither probes for a name before it announces it nor notices a
// conflict afterwards (RFC 6762, 8.1 and 9), and it finds one answer for each
// name, so that two responders of one name do not find each other. A conflict is
// looked for by a one-shot query of the type, which each responder answers by
// itself. No other name is taken because of one, as 8.1 has it for names that
// programs choose: the name of a dominion was chosen by a person, who is informed.
const (
	conflictFirst    = 3 * time.Second  // after the first announcement, which takes a second
	conflictInterval = time.Minute      // between two queries
	conflictAgain    = 15 * time.Second // the same while there is a conflict
	conflictSilence  = 2                // queries without its answer after which a conflict is over
	maxConflicts     = 32
)

// WatchConflicts calls each, until ctx ends, with the services of other responders
// that have the type and the instance name, or the type and the text "id", of one of
// own: whenever they change. names are as for Interfaces. All of own have one type.
func WatchConflicts(ctx context.Context, names []string, own []Service, each func([]Found)) {
	if len(own) > 0 {
		watchConflicts(ctx, func() []Found { return conflicts(ctx, names, own) }, each)
	}
}

// watchConflicts is WatchConflicts with what asks once.
func watchConflicts(ctx context.Context, ask func() []Found, each func([]Found)) {
	type conflict struct {
		Found
		unanswered int // queries without its answer
	}
	var current []conflict
	var last []Found
	for wait := conflictFirst; ; wait = conflictWait(len(current)) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		for i := range current {
			current[i].unanswered++
		}
		for _, f := range ask() {
			i := slices.IndexFunc(current, func(c conflict) bool { return sameResponder(c.Found, f) })
			if i >= 0 {
				current[i] = conflict{Found: f}
			} else {
				current = append(current, conflict{Found: f})
			}
		}
		if ctx.Err() != nil {
			return
		}
		current = slices.DeleteFunc(current, func(c conflict) bool { return c.unanswered >= conflictSilence })
		var now []Found
		for _, c := range current {
			now = append(now, c.Found)
		}
		slices.SortFunc(now, compareFound)
		if !reflect.DeepEqual(now, last) {
			last = now
			each(slices.Clone(now))
		}
	}
}

// conflictWait returns the time until the next query: not the same for all hubs
// that a power cut started at once.
func conflictWait(conflicts int) time.Duration {
	interval := conflictInterval
	if conflicts > 0 {
		interval = conflictAgain
	}
	return interval - interval/8 + rand.N(interval/4)
}

// conflicts asks once for what WatchConflicts describes.
func conflicts(ctx context.Context, names []string, own []Service) (all []Found) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	here := machineAddresses()
	name := own[0].Type + "." + domain
	const unicast = 1 << 15 // the responses come to the socket of the question (RFC 6762, 5.4)
	var answers []Found
	question := []dns.Question{{Name: name, Qtype: dns.TypePTR, Qclass: dns.ClassINET | unicast}}
	_, err := query(ctx, names, question, func(answer *dns.Msg, zone string) {
		if len(answers) < 8*maxConflicts { // several from each responder
			answers = append(answers, instances(answer, name, zone)...)
		}
	})
	if err != nil {
		return nil
	}
	here = append(here, machineAddresses()...) // an address that came or went meanwhile is ours, too
	for _, f := range answers {
		if !conflicting(own, f) || isOwn(own, f, here) {
			continue
		}
		i := slices.IndexFunc(all, func(o Found) bool { return sameResponder(o, f) })
		if i >= 0 {
			all[i] = merge(all[i], f)
		} else if len(all) < maxConflicts {
			all = append(all, f)
		}
	}
	return all
}

// instances returns the services of an answer to a question for their type. The
// responder gives all that is known of them with it (RFC 6763, 12.1); what is
// not complete is left out.
func instances(answer *dns.Msg, name, zone string) (all []Found) {
	records := slices.Concat(answer.Answer, answer.Extra)
	for _, r := range records {
		ptr, is := r.(*dns.PTR)
		if !is || ptr.Hdr.Ttl == 0 || !strings.EqualFold(ptr.Hdr.Name, name) {
			continue
		}
		instance, ofType := strings.CutSuffix(ptr.Ptr, "."+name)
		if !ofType || !topics.ValidName(instance) {
			continue // no hub announces itself so
		}
		f := Found{Instance: instance}
		for _, r := range records {
			if !strings.EqualFold(r.Header().Name, ptr.Ptr) {
				continue
			}
			switch r := r.(type) {
			case *dns.SRV:
				f.Port, f.Addresses = int(r.Port), addressesOf(answer, r.Target, zone)
			case *dns.TXT:
				f.Text = parseText(r.Txt)
			}
		}
		if f.Port != 0 && len(f.Addresses) > 0 {
			all = append(all, f)
		}
	}
	return all
}

// conflicting reports whether what was found has the name or the id of one of own.
func conflicting(own []Service, f Found) bool {
	return slices.ContainsFunc(own, func(s Service) bool {
		return s.Instance == f.Instance || s.Text["id"] != "" && s.Text["id"] == f.Text["id"]
	})
}

// isOwn reports whether an answer is our own: it has the data of one of own and
// an address of this machine. The sender of the packet proves nothing, since
// there are routers that repeat multicast DNS in another network.
func isOwn(own []Service, f Found, here []netip.Addr) bool {
	return slices.ContainsFunc(own, func(s Service) bool {
		return s.Instance == f.Instance && s.Port == f.Port && s.Text["id"] == f.Text["id"]
	}) && slices.ContainsFunc(f.Addresses, func(a netip.Addr) bool { return slices.Contains(here, a.WithZone("")) })
}

// sameResponder reports whether two answers count as those of one responder: one
// that is in several networks answers in each with the address that it has there.
func sameResponder(a, b Found) bool {
	return a.Instance == b.Instance && a.Port == b.Port && a.Text["id"] == b.Text["id"]
}

func compareFound(a, b Found) int {
	return cmp.Or(strings.Compare(a.Instance, b.Instance), strings.Compare(a.Text["id"], b.Text["id"]), cmp.Compare(a.Port, b.Port))
}

// machineAddresses returns all addresses of this machine, also those of interfaces
// that are not spoken on.
func machineAddresses() []netip.Addr {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	return parseAddresses(all)
}
