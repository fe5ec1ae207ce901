package hub

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// publishHub says what the hub is and counts. Each domain hears it for who we
// are and none for what we count, so new counts rest a millisecond for each
// domain beyond a hundred: a home has none of that, and a thousand domains are
// not told three times of a switch that one of them obeys.
func (h *Hub) publishHub(now time.Time) {
	s, was := h.hubStatus(), h.tally.status
	was.Domains, was.Services = s.Domains, s.Services
	if h.tally.due = s == was && now.Before(h.tally.rest); h.tally.due {
		h.due(h.tally.rest)
		return
	}
	payload := topics.Encode(s)
	if h.pub.Retain(h.tree.Hub(topics.HubStatus), payload) {
		h.tally = tally{status: s, rest: now.Add(time.Duration(h.fleet.Len()-countedAtOnce) * time.Millisecond)}
	}
}

// countedAtOnce is how many domains hear new counts at once.
const countedAtOnce = 100

// tally is the hub/status that was said last.
type tally struct {
	status topics.Hub
	rest   time.Time // until then new counts wait
	due    bool      // they do
}

// publishCounts says what publishHub held back.
func (h *Hub) publishCounts(now time.Time) {
	switch {
	case !h.tally.due || !h.connected:
	case now.Before(h.tally.rest):
		h.due(h.tally.rest)
	default:
		h.publishHub(now)
	}
}

func (h *Hub) hubStatus() topics.Hub {
	s := topics.Hub{
		ID: h.ID(), Name: h.cfg.Name, Version: h.version, Protocol: topics.Protocol,
		Epoch: h.epoch, StartedAt: h.startedAt(time.Now()), Ready: h.ready,
		Problem: strings.Join(h.ownProblems(), "; "), Domains: h.fleet.Count(),
	}
	if until := h.certificatesExpire(); !until.IsZero() {
		s.CertificateExpires = topics.At(until)
	}
	for _, v := range h.views {
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

// startedAt is when this run of the hub began, by the clock as it is now.
func (h *Hub) startedAt(now time.Time) topics.Time {
	h.startedShown = topics.StartedAt(h.started, now, h.startedShown)
	return h.startedShown
}
