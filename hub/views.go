package hub

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/directory"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// viewServices says of every service that changed what is wanted, what runs,
// and why; and where it is reached.
func (h *Hub) viewServices(c *changes, now time.Time) {
	for name := range c.services {
		o := h.plan.Services[name]
		if o == nil || !h.defined(name) {
			continue
		}
		v := h.viewService(name, o, h.directory.Rows(name))
		v.Update = h.viewUpdate(name, h.directory.Rows(name))
		if words := h.updating(name, v.Update); words != "" && (v.State == topics.Running || v.State == topics.Starting || v.State == topics.Stopping) {
			v.Reason = words
		}
		v.Problem = h.judgeService(name, v, o, now)
		v.Link, v.LastError = h.linkOf(name), h.detailsOf(name).lastError
		h.views[name] = v
		if len(v.Instances) == 0 {
			h.usageIdle(name)
		}
		h.pub.Retain(h.tree.Service(topics.ServiceStatus, name), topics.Encode(v))
		h.pub.Retain(h.tree.Service(topics.ServiceEndpoints, name), h.encodedEndpoints(name))
		h.pub.Retain(h.tree.Service(topics.ServiceEndpoint, name), h.encodedEndpoint(name))
	}
}

// encodedEndpoint is the best endpoint of a service alone; empty: it has none.
func (h *Hub) encodedEndpoint(name string) []byte {
	if all := h.directory.Endpoints(name); len(all) > 0 {
		return []byte(net.JoinHostPort(all[0].Address, strconv.Itoa(all[0].Port)))
	}
	return nil
}

// encodedEndpoints is what is said of where a service is reached.
func (h *Hub) encodedEndpoints(name string) []byte {
	endpoints := h.directory.Endpoints(name)
	if endpoints == nil {
		endpoints = []topics.Endpoint{}
	}
	return topics.Encode(endpoints)
}

func (h *Hub) viewService(name string, o *planner.Outcome, rows []directory.Row) topics.Service {
	v := topics.Service{
		Service: name, Switch: topics.Off, Wanted: o.Wanted, Replicas: h.replicas(name), Reason: o.Reason,
		Instances: []topics.ServiceInstance{},
	}
	if o.On {
		v.Switch = topics.On
	}
	var finished int
	var trouble string
	for _, r := range rows {
		if r.State == topics.Finished {
			finished++
			if !r.Done && trouble == "" {
				trouble = r.Domain + ": " + r.Message
			}
		}
		if !r.State.Listed() {
			continue
		}
		v.Instances = append(v.Instances, topics.ServiceInstance{
			Domain: r.Domain, State: r.State, Health: r.Health, Version: r.Version,
			Address: r.Address, Port: r.Port, NextTry: r.NextTry,
		})
		if r.State == topics.Running {
			v.Running++
		}
		if r.Health == topics.Healthy {
			v.Healthy++
		}
		if r.Message != "" && trouble == "" {
			trouble = r.Domain + ": " + r.Message
		}
	}
	rank := make(map[string]int, len(v.Instances)) // as the endpoints are ordered, others behind
	for i, e := range h.directory.Endpoints(name) {
		rank[e.Domain] = i - len(h.directory.Endpoints(name))
	}
	slices.SortStableFunc(v.Instances, func(a, b topics.ServiceInstance) int { return rank[a.Domain] - rank[b.Domain] })
	if len(v.Instances) > 0 {
		v.Version = v.Instances[0].Version
	}
	v.State = whole(v, o.On, finished)
	if micro := h.builtIn(v.Instances); !o.On && len(micro) > 0 && len(micro) == len(v.Instances) {
		v.State, v.Reason = topics.Running, runsOn(o.Reason, micro)
	}
	switch {
	case trouble != "" && v.State != topics.Running:
		v.Reason = trouble
	case o.On && !h.ready && v.Running < v.Wanted:
		v.Reason = "the hub has just started and waits for the known domains"
	}
	return v
}

// whole is the state of a service as a whole. An ordered table: the first row
// that fits decides.
func whole(v topics.Service, on bool, finished int) topics.State {
	has := func(s topics.State) bool {
		return slices.ContainsFunc(v.Instances, func(i topics.ServiceInstance) bool { return i.State == s })
	}
	switch {
	case !on && len(v.Instances) > 0:
		return topics.Stopping
	case !on:
		return topics.Stopped
	case has(topics.Failed):
		return topics.Failed
	case has(topics.Backoff):
		return topics.Backoff
	case has(topics.Starting):
		return topics.Starting
	case finished >= max(v.Wanted, 1) && len(v.Instances) == 0:
		return topics.Finished
	case v.Running+finished < max(v.Wanted, 1) && has(topics.Stopping):
		return topics.Stopping // it restarts
	case v.Running+finished < max(v.Wanted, 1):
		return topics.Pending
	default:
		return topics.Running
	}
}

// sortedDomains lists the domains by name. It must not be changed.
func (h *Hub) sortedDomains() []*domain {
	if h.sorted == nil {
		h.sorted = slices.SortedFunc(maps.Values(h.domains), func(a, b *domain) int { return cmp.Compare(a.Name, b.Name) })
	}
	return h.sorted
}

// viewDomain is a domain as the hub sees it.
func (h *Hub) viewDomain(d *domain) topics.DomainView {
	v := topics.DomainView{
		Name: d.Name, ID: d.ID, State: d.State, Micro: d.Micro,
		Traits: []string{}, Services: []topics.Instance{}, Catalog: []string{},
	}
	if !d.Since.IsZero() {
		v.Since = topics.At(d.Since)
	}
	if d.HasBeat {
		last := d.Heartbeat
		v.Heartbeat = &last
	}
	v.Problem = h.problemOf(d)
	s := d.Status
	if s == nil {
		return v
	}
	v.Draining, v.Address, v.Version, v.OS, v.Arch = s.Draining, s.Address, s.Version, s.OS, s.Arch
	v.Traits = append(v.Traits, s.Traits...)
	v.Services = append(v.Services, s.Services...)
	v.Stale = d.State == topics.DomainIsLost || d.Micro && d.State == topics.DomainIsOffline
	for _, row := range s.Catalog {
		v.Catalog = append(v.Catalog, row.Service)
	}
	return v
}

// viewDomains lists every domain that is known, was seen or was refused.
func (h *Hub) viewDomains() []topics.DomainView {
	all := []topics.DomainView{}
	for _, d := range h.sortedDomains() {
		all = append(all, h.viewDomain(d))
	}
	for _, name := range slices.Sorted(maps.Keys(h.lonely)) {
		l := h.lonely[name]
		if h.refused[refusedKey{l.ID, l.Name}] == nil && !h.ours(l) {
			all = append(all, other(l.Name, l.ID, l.Address, topics.DomainIsLonely, whyLonely(l, h.ID(), h.alone)))
		}
	}
	byKey := func(a, b refusedKey) int { return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.name, b.name)) }
	for _, key := range slices.SortedFunc(maps.Keys(h.refused), byKey) {
		r := h.refused[key]
		all = append(all, other(r.name, r.id, r.address, topics.DomainIsRefused, r.reason))
	}
	return append(all, h.viewUnreadable()...)
}

// ours reports whether a machine that has not joined is a domain that we know.
func (h *Hub) ours(l Lonely) bool {
	d := h.domains[l.Name]
	return d != nil && d.ID == l.ID
}

// problemOf is what is wrong with a domain. One that is away and announces
// itself cannot join: that is the one problem that it has.
func (h *Hub) problemOf(d *domain) string {
	if problem := cmp.Or(h.whyUnreadable(d.Name), d.problem()); problem != "" {
		return problem
	}
	if l, announced := h.lonely[d.Name]; announced && h.ours(l) && d.State != topics.DomainIsOnline {
		return whyLonely(l, h.ID(), h.alone)
	}
	return ""
}

// whyLonely returns why a domain has not joined, as far as the hub of dominion
// own can tell, which is alone if no other machine reaches it.
func whyLonely(l Lonely, own string, alone bool) string {
	switch {
	case l.Dominion != "" && l.Dominion != own:
		return fmt.Sprintf("belongs to another dominion, %q with id %q: to move it here set dominion = %q in its domain.toml", l.DominionName, l.Dominion, own)
	case alone:
		return `announces itself and cannot join: no other machine reaches a listener for MQTT (listen = ":1883" in [broker] lets others in)`
	}
	return "announces itself and has not joined: does it reach the broker? Are its user and password right? Its log says why (journalctl -u dominion-domain)"
}

func other(name, id, address string, state topics.DomainState, problem string) topics.DomainView {
	return topics.DomainView{
		Name: name, ID: id, State: state, Address: address, Problem: problem,
		Traits: []string{}, Services: []topics.Instance{}, Catalog: []string{},
	}
}

func (h *Hub) viewAll() []topics.Service {
	all := []topics.Service{}
	for _, name := range slices.Sorted(maps.Keys(h.views)) {
		all = append(all, h.views[name])
	}
	return all
}

// ownProblems names what of the hub itself needs a human.
func (h *Hub) ownProblems() (all []string) {
	if h.problem != "" {
		all = append(all, h.problem)
	}
	if err := h.store.Err(); err != nil {
		all = append(all, "what was changed is not kept over a restart of the hub: "+err.Error())
	}
	for i := range h.certificates {
		if problem := h.certificates[i].problem(time.Now()); problem != "" {
			all = append(all, problem)
		}
	}
	if h.broker != nil && h.broker.OpenToAll() {
		all = append(all, config.OpenToAll)
	}
	for _, c := range h.conflicts {
		all = append(all, h.conflictProblem(c))
	}
	return append(all, h.httpProblems...)
}

// toldByUpdate reports whether a service has the problem that its update has: what
// failed is the instance that was changed, for the reason that the update gives.
func toldByUpdate(v topics.Service) bool {
	_, cause, found := strings.Cut(v.Problem, ": ") // the domain is before it
	cause, _, _ = strings.Cut(cause, "\n")
	cause = withoutSpan(cause)
	return found && cause != "" && (v.State == topics.Failed || v.State == topics.Backoff) && strings.Contains(v.Update.Problem, cause)
}

// problems names what needs a human.
func (h *Hub) problems() []string {
	all := []string{}
	all = append(all, h.ownProblems()...)
	for _, b := range h.viewBridges() {
		for _, p := range b.Problems {
			all = append(all, "bridge "+b.Name+": "+p)
		}
	}
	for _, d := range h.viewDomains() {
		switch {
		case d.Problem != "" && d.State == topics.DomainIsLost:
			all = append(all, d.Name+" is lost, and "+d.Problem)
		case d.Problem != "":
			all = append(all, d.Name+": "+d.Problem)
		case d.Micro && d.State == topics.DomainIsOffline:
			all = append(all, d.Name+" is offline: "+lookAfter)
		case d.State == topics.DomainIsLost:
			all = append(all, d.Name+" is lost: "+lookAfter)
		}
	}
	pending := make(map[string][]string) // services by reason: one cause is one problem
	services := h.viewAll()
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
		switch {
		case v.State == topics.Pending && broken(v) != "": // it says so
		case v.Problem == "", v.Problem == v.Update.Problem, toldByUpdate(v):
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
