package hub

import (
	"fmt"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/fleet"
	"github.com/jmbarzee/dominion/hub/ownproblems"
	"github.com/jmbarzee/dominion/topics"
)

// newOwnProblems returns the part that holds the problems of the hub itself.
func (h *Hub) newOwnProblems(o Options) *ownproblems.Problems {
	var listeners func() []string
	if o.Broker != nil {
		listeners = o.Broker.ListenProblems
	}
	p := ownproblems.Options{
		Keys: o.KeyProblem, Secrets: o.SecretProblem, Listeners: listeners,
		ID: h.ID(), Name: o.Config.Name, HTTP: o.Problems, Control: o.ControlProblem,
		NotPersisted: h.store.Err, OpenToAll: func() string { return "" },
	}
	if h.broker != nil {
		p.OpenToAll = func() string {
			if h.broker.OpenToAll() {
				return config.OpenToAll
			}
			return ""
		}
	}
	if o.Certificate != nil {
		p.Certificates = append(p.Certificates, ownproblems.Certificate{Name: "the broker's certificate", Keys: "cert_file and key_file", Expires: o.Certificate})
	}
	if o.HTTPCertificate != nil {
		p.Certificates = append(p.Certificates, ownproblems.Certificate{Name: "the certificate of HTTPS", Keys: "http.cert_file and http.key_file", Expires: o.HTTPCertificate})
	}
	return ownproblems.New(p)
}

// expireOwnProblems warns of certificates that end.
func (h *Hub) expireOwnProblems(now time.Time) {
	warned, changed := h.views.ownProblems.Expire(now)
	for _, warning := range warned {
		h.events.Add(topics.Event{Type: topics.CertificateExpires, Message: warning})
	}
	if changed {
		h.changed.TouchAll()
	}
	h.dueUnlessZero(h.views.ownProblems.Next())
}

// explainedByUpdate reports whether a service has the problem that its update has: what
// failed is the instance that was changed, for the reason that the update gives.
func explainedByUpdate(v topics.Service) bool {
	_, cause, found := strings.Cut(v.Problem, ": ") // the domain is before it
	cause, _, _ = strings.Cut(cause, "\n")
	cause = topics.CutNextTry(cause)
	return found && cause != "" && (v.State == topics.Failed || v.State == topics.Backoff) && strings.Contains(v.Update.Problem, cause)
}

// problems names what needs a human.
func (h *Hub) problems() []string {
	all := []string{}
	all = append(all, h.views.ownProblems.All(time.Now())...)
	if restored := h.adoption.Restored(time.Now()); restored != "" {
		all = append(all, restored)
	}
	all = append(all, h.rotationProblems()...)
	for _, b := range h.viewBridges() {
		for _, p := range b.Problems {
			all = append(all, "bridge "+b.Name+": "+p)
		}
	}
	for _, d := range h.domainViews() {
		switch {
		case d.Problem != "" && d.State == topics.DomainIsLost:
			all = append(all, d.Name+" is lost, and "+d.Problem)
		case d.Problem != "":
			all = append(all, d.Name+": "+d.Problem)
		case d.Micro && d.State == topics.DomainIsOffline:
			all = append(all, d.Name+" is offline: "+fleet.LookAfter)
		case d.State == topics.DomainIsLost:
			all = append(all, d.Name+" is lost: "+fleet.LookAfter)
		}
	}
	pending := make(map[string][]string) // services by reason: one cause is one problem
	services := h.views.statuses.Sorted()
	broken := func(v topics.Service) string { // a dependency runs in no version that it can use
		if o := h.plan.Services[v.Service]; o != nil {
			return o.Broken
		}
		return ""
	}
	for _, v := range services {
		if v.State == topics.Pending && v.Problem != "" && broken(v) == "" {
			pending[v.Reason] = append(pending[v.Reason], v.Service)
		}
	}
	for _, v := range services {
		if problem := broken(v); problem != "" {
			all = append(all, problem)
		}
		if v.Update.Problem != "" {
			all = append(all, v.Service+": "+v.Update.Problem)
		}
		if v.Problem == "" || v.Problem == v.Update.Problem || explainedByUpdate(v) || v.State == topics.Pending && broken(v) != "" {
			continue // what was added above includes it
		}
		switch {
		case v.State == topics.Pending && len(pending[v.Reason]) > 1:
			if same := pending[v.Reason]; same[0] == v.Service {
				last := len(same) - 1
				all = append(all, fmt.Sprintf("%s and %s are pending: %s", strings.Join(same[:last], ", "), same[last], v.Reason))
			}
		case v.State == topics.Failed, v.State == topics.Backoff, v.State == topics.Pending:
			all = append(all, fmt.Sprintf("%s is %s: %s", v.Service, v.State, v.Problem))
		default:
			all = append(all, v.Service+" "+v.Problem)
		}
	}
	return all
}
