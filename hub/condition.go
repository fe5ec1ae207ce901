package hub

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// publishConditions says how we see the domains that changed: of one that is
// away nobody else can. Before we are ready we see nothing that counts.
func (h *Hub) publishConditions(c *changes) {
	if !h.ready {
		return
	}
	for _, d := range h.touched(c) {
		h.publishCondition(d)
	}
}

func (h *Hub) publishCondition(d *domain) {
	v := topics.Condition{Domain: d.Name, State: d.State, Reason: cmp.Or(h.problemOf(d), d.trouble())}
	v.Problem = v.Reason != ""
	if !d.Since.IsZero() {
		v.Since = topics.At(d.Since)
	}
	h.pub.Retain(h.tree.Domain(topics.DomainCondition, d.Name), topics.Encode(v))
}

// trouble says what is wrong with a domain and what to do, "" where it is well.
func (d *domain) trouble() string {
	switch problem := d.problem(); {
	case problem != "":
		return problem
	case d.Micro && d.State == topics.DomainIsOffline:
		return "is offline: " + lookAfter
	case d.State == topics.DomainIsLost:
		return "is lost: " + lookAfter
	}
	return ""
}

const lookAfter = "is it switched on and connected? `forget` it if it is gone for good"

// problem says what is wrong with a domain besides that it is away.
func (d *domain) problem() string {
	switch s := d.Status; {
	case s != nil && !d.Micro && !topics.SameMajor(s.Protocol):
		return fmt.Sprintf("speaks protocol %s, this hub %s: it is given no services; bring both to the same version", s.Protocol, topics.Protocol)
	case d.Ahead:
		return fmt.Sprintf("reports epoch %d, which this hub never gave: it obeys no start commands; `dominionctl resync %s`", d.Heartbeat.Epoch, d.Name)
	case d.awaited.asked && !(d.awaited.absent && d.Available): // the next heartbeat notices that it came
		return d.awaited.problem()
	case d.flaps.now():
		return d.flaps.problem()
	case s != nil && len(s.Problems) > 0 && d.State == topics.DomainIsOnline:
		return "reports: " + strings.Join(s.Problems, "; ")
	}
	return ""
}
