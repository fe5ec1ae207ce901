package questions

import (
	"net/netip"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// work answers a question, on a goroutine of its own.
func (q *Questions) work(one Question) {
	began := time.Now()
	answer := q.workOut(one)
	answer.Publish = one.Publish
	q.answers <- worked{answer, one.Asker, time.Since(began)}
	q.options.Wake()
}

// workOut returns the answer, and of an order to rebalance the copies that are to move.
func (q *Questions) workOut(one Question) Answer {
	next, err := one.Definitions(q.options.Environ)
	if err != nil {
		return Answer{Reply: one.refuse(err)}
	}
	reply := make(chan homeReply, 1)
	q.homes <- homeRequest{one.Ask, next, reply}
	q.options.Wake()
	var r homeReply
	select {
	case r = <-reply:
	case <-q.done:
		return Answer{Reply: one.late()}
	}
	if r.err != nil {
		return Answer{Reply: one.refuse(r.err)}
	}
	stop := func() bool {
		select {
		case <-q.done:
			return true
		default:
			return !time.Now().Before(one.Until)
		}
	}
	if one.Verb == topics.VerbRebalance {
		moves, ok := planner.Rebalance(r.home.Input, stop)
		if !ok {
			return Answer{Reply: one.late()}
		}
		return Answer{Reply: one.answer(topics.Accept(one.Ask.Transaction, nil)), Moves: moves}
	}
	lines, ok := r.home.Plan(stop)
	if !ok {
		return Answer{Reply: one.late()}
	}
	if one.Ask.Without != "" && q.options.Machine != nil && hostsHub(r.home.Addresses, q.options.Machine()) {
		lines = slices.Insert(lines, 0, hubGoesDown(one.Ask.Without))
	}
	var data any = lines
	if one.Wrap != nil {
		data = one.Wrap(lines)
	}
	return Answer{Reply: one.answer(topics.Accept(one.Ask.Transaction, data))}
}

// Definitions reads the services of a question; nil where it asks about those that there
// are.
func (one Question) Definitions(environ []string) (map[string]services.Definition, error) {
	if one.Next != nil {
		return one.Next, nil
	}
	if one.Ask.Config == "" {
		return nil, nil
	}
	defs, err := config.ParseServices(one.Ask.Config, environ)
	if err != nil {
		return nil, err
	}
	all := make(map[string]services.Definition, len(defs))
	for _, d := range defs {
		all[d.Name] = d
	}
	return all, nil
}

// hostsHub reports whether a machine of these addresses is the hub's own.
func hostsHub(addresses, own []string) bool {
	return slices.ContainsFunc(addresses, func(a string) bool {
		ip, err := netip.ParseAddr(a)
		return slices.Contains(own, a) || err == nil && ip.IsLoopback()
	})
}

// hubGoesDown is the line of a plan that warns that the hub goes with a domain.
func hubGoesDown(domain string) topics.PlanLine {
	return topics.PlanLine{Action: topics.ActionGoesDown, Domain: domain, Reason: "the hub runs on this machine: without it nothing is moved, started or answered; what runs elsewhere goes on"}
}
