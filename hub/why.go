package hub

import (
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// maxJudged is of how many copies why reports whether they would be placed elsewhere now.
const maxJudged = 8

// why answers the verb why: the state of a service, and for each domain why the service runs
// there or not, with what the domain itself reports of it.
func (h *Hub) why(ask topics.HubRequest) (topics.Why, error) {
	if err := h.checkService(ask.Service); err != nil {
		return topics.Why{}, err
	}
	if ask.Domain != "" {
		if _, err := h.findDomain(ask.Domain); err != nil {
			return topics.Why{}, err
		}
	}
	view, _ := h.views.statuses.Get(ask.Service)
	reason, lines, _ := strings.Cut(view.Reason, "\n") // the last lines of what failed
	if p := view.Update.Problem; p != "" && !strings.Contains(reason, p) {
		if _, trouble, of := strings.Cut(reason, ": "); of && strings.Contains(p, trouble) {
			reason = p // which holds it
		} else {
			reason += "; " + p
		}
	}
	if now := h.ops.scaling.FigureNow(ask.Service); now != "" {
		reason += "; now: " + now
	}
	if lines != "" {
		reason += "\n" + lines
	}
	w := topics.Why{Service: ask.Service, State: view.State, Reason: reason, Domains: []topics.WhyLine{}}
	judged := 0 // copies that are compared with each domain
	for _, c := range h.planner.Why(ask.Service) {
		if ask.Domain == "" || c.Domain == ask.Domain {
			better := ""
			if c.Action == topics.ActionKeep && judged < maxJudged {
				judged++
				if better = h.planner.Better(ask.Service, c.Domain); better != "" {
					better = "; it would be placed elsewhere now, as " + better + ": `dominionctl rebalance` moves it"
				}
			}
			w.Domains = append(w.Domains, topics.WhyLine{
				Domain: c.Domain, Runs: c.Runs(), State: h.stateOn(c.Domain, ask.Service),
				Reason:  c.Reason + h.rolloutReason(ask.Service, c.Domain) + h.trouble(ask.Service, c.Domain) + better,
				NextTry: h.nextTry(ask.Service, c.Domain),
			})
		}
	}
	return w, nil
}

// trouble returns what a domain reports of an instance that is not well, as a part of
// the reason for it; "" where all is well or nothing is reported.
func (h *Hub) trouble(service, domain string) string {
	for _, r := range h.directory.Rows(service) {
		if r.Domain != domain || r.State == topics.Running && r.Health == topics.Healthy || r.Done {
			continue
		}
		message, _, _ := strings.Cut(r.Message, "\n") // its last lines are in the log
		if r.State == topics.Running {
			message = strings.TrimSuffix(string(r.Health)+": "+message, ": ")
		}
		if message != "" {
			return "; " + message
		}
	}
	return ""
}

// nextTry returns when an instance is started again; zero: nothing is reported of that.
func (h *Hub) nextTry(service, domain string) topics.Time {
	for _, r := range h.directory.Rows(service) {
		if r.Domain == domain {
			return r.NextTry
		}
	}
	return topics.Time{}
}

// stateOn returns the state of a service that a domain reports; "" where it reports none,
// or is silent.
func (h *Hub) stateOn(domain, service string) topics.State {
	d := h.fleet.Get(domain)
	if d == nil || d.Silent() {
		return ""
	}
	if i := d.Instance(service); i != nil {
		return i.State
	}
	return ""
}
