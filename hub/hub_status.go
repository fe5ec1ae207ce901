package hub

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// publishHub publishes what the hub is and counts, where that may not wait.
func (h *Hub) publishHub(now time.Time) {
	s := h.hubStatus()
	if h.views.presence.Accepts(s, now) && h.pub.Retain(h.tree.Hub(topics.HubStatus), h.signedStatus(s)) {
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
	s.Name, s.Epoch, s.Run, s.Ready, s.Domains = h.cfg.Name, h.epoch, h.leases.Run(), h.fleet.Ready(), h.fleet.Count()
	if h.keys != nil {
		s.Key = h.keys.KeyHash()
	}
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

// hubStatusMessage is hub/status as it was signed last.
type hubStatusMessage struct {
	status  topics.Hub
	message []byte
}

// signedStatus returns a status of the hub as it is published: signed, if the hub has a key.
// It is asked for in each pass, and most change nothing.
func (h *Hub) signedStatus(s topics.Hub) []byte {
	if h.keys == nil {
		return topics.Encode(s)
	}
	last := &h.views.hubStatus
	if last.message != nil && reflect.DeepEqual(last.status, s) {
		return last.message
	}
	message, err := h.keys.SignOrder(topics.HubStatus.SignedKind(), "", topics.Encode(s))
	if err != nil {
		h.log.Error("hub/status could not be signed: domains will not believe it", "error", err)
		return topics.Encode(s)
	}
	*last = hubStatusMessage{s, message}
	return message
}

func itoa[N uint64 | int](n N) string { return strconv.FormatUint(uint64(n), 10) }

// count writes "1 domain", "2 domains".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
