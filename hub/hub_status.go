package hub

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// publishHub publishes what the hub is and counts, where that may not wait.
func (h *Hub) publishHub(now time.Time) {
	s := h.hubStatus()
	if h.views.presence.Accepts(s, now) && h.pub.Retain(h.tree.Hub(topics.HubStatus), topics.Encode(s)) {
		h.views.presence.Published(s, h.fleet.Len(), now)
	}
	h.dueUnlessZero(h.views.presence.Next())
}

// publishCounts publishes what had to wait.
func (h *Hub) publishCounts(now time.Time) {
	if !h.bus.connected {
		return
	}
	if h.views.presence.StatusDue(now) {
		h.publishHub(now)
	}
	h.dueUnlessZero(h.views.presence.Next())
}

// hubStatus returns what the hub is and counts.
func (h *Hub) hubStatus() topics.Hub {
	s := h.views.presence.Status(time.Now())
	s.Name, s.Epoch, s.Ready, s.Domains = h.cfg.Name, h.epoch, h.fleet.Ready(), h.fleet.Count()
	s.Problem = strings.Join(h.views.ownProblems.All(time.Now()), "; ")
	if until := h.views.ownProblems.CertificatesExpire(); !until.IsZero() {
		s.CertificateExpires = topics.At(until)
	}
	for _, v := range h.views.statuses.All() {
		finished := 0 // done: they are not to run any more
		for _, r := range h.directory.Rows(v.Service) {
			if r.State == topics.Finished {
				finished++
			}
		}
		s.Services.Wanted += max(v.Wanted-finished, min(v.Wanted, v.Running))
		s.Services.Running += v.Running
	}
	return s
}

func itoa[N uint64 | int](n N) string { return strconv.FormatUint(uint64(n), 10) }

// count writes "1 domain", "2 domains".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
