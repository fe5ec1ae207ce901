package hub

import (
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/jmbarzee/dominion/hub/directory"
	"github.com/jmbarzee/dominion/hub/servicestatus"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// viewServices publishes of every service that changed what is wanted, what runs,
// and why; and where it is reached.
func (h *Hub) viewServices(c *changes, now time.Time) {
	for name := range c.Services {
		o := h.plan.Services[name]
		if o == nil || !h.defs.Has(name) {
			continue
		}
		v := h.viewService(name, o, h.directory.Rows(name))
		v.Update = h.viewUpdate(name, h.directory.Rows(name))
		if words := h.ops.rollouts.Describe(name, v.Update); words != "" && (v.State == topics.Running || v.State == topics.Starting || v.State == topics.Stopping) {
			v.Reason = words
		}
		v.Problem = h.serviceProblem(v, o.On, now)
		v.Link, v.LastError = h.views.statuses.Link(h.defs.Get(name), h.directory.Endpoints(name)), h.views.statuses.LastError(name)
		h.views.statuses.Set(v)
		if len(v.Instances) == 0 {
			h.views.usage.Idle(name)
		}
		h.pub.Retain(h.tree.Service(topics.ServiceStatus, name), topics.Encode(v))
		h.pub.Retain(h.tree.Service(topics.ServiceEndpoints, name), h.encodedEndpoints(name))
		h.pub.Retain(h.tree.Service(topics.ServiceEndpoint, name), h.encodedEndpoint(name))
	}
	h.dueUnlessZero(h.views.statuses.Next())
	h.dueUnlessZero(h.views.usage.Next())
}

// encodedEndpoint is the best endpoint of a service alone; empty: it has none.
func (h *Hub) encodedEndpoint(name string) []byte {
	if all := h.directory.Endpoints(name); len(all) > 0 {
		return []byte(net.JoinHostPort(all[0].Address, strconv.Itoa(all[0].Port)))
	}
	return nil
}

// encodedEndpoints returns the payload that lists where a service is reached.
func (h *Hub) encodedEndpoints(name string) []byte {
	endpoints := h.directory.Endpoints(name)
	if endpoints == nil {
		endpoints = []topics.Endpoint{}
	}
	return topics.Encode(endpoints)
}

// viewService returns the status of a service: what the planner has decided, its instances as
// their domains report them, and the reason for its state.
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
			Address: r.Address, Port: r.Port, NextTry: r.NextTry, Progress: r.Progress,
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
	if trouble != "" && v.State != topics.Running {
		v.Reason = trouble
	} else if o.On && !h.fleet.Ready() && v.Running < v.Wanted {
		v.Reason = "the hub has just started and waits for the known domains"
	}
	return v
}

// whole returns the state of a service as a whole. It is an ordered table: the first row
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
	case has(topics.Fetching):
		return topics.Fetching
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

// serviceProblem returns what is wrong with a service, "" where nothing is. v is its status
// without that.
func (h *Hub) serviceProblem(v topics.Service, on bool, now time.Time) string {
	return h.views.statuses.Problem(servicestatus.Observed{
		Status: v, On: on, Ready: h.fleet.Ready(),
		Instances: func(yield func(servicestatus.Instance) bool) {
			for _, r := range h.directory.Rows(v.Service) {
				if !yield(servicestatus.Instance{Domain: r.Domain, State: r.State, Health: r.Health, Message: r.Message}) {
					return
				}
			}
		},
	}, now)
}

// noteCrash takes the event of a domain that an instance crashed or failed.
func (h *Hub) noteCrash(e topics.Event, now time.Time) {
	if (e.Type == topics.ServiceCrashed || e.Type == topics.ServiceFailed) && h.defs.Has(e.Service) {
		h.views.statuses.Crashed(e.Service, e.Domain, e.Message, now)
		h.touchService(e.Service)
	}
}

// expireStatuses views again the services whose problem the time alone changes.
func (h *Hub) expireStatuses(now time.Time) {
	for _, name := range h.views.statuses.Expire(now) {
		h.touchService(name)
	}
	h.dueUnlessZero(h.views.statuses.Next())
}
