package ctl

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

const (
	waitTimeout = 60 * time.Second
	// pollEvery bounds how late a change is seen that no subscribed topic
	// tells of.
	pollEvery = time.Second
)

// goal is what --wait waits for.
type goal struct {
	watch []string // what changes when it may have been reached
	plan  bool     // the plan is needed to tell
	met   func(topics.Overview, []topics.PlanLine) (reached bool, stands string)
}

// goalOf returns the goal of an order. It is made before the order is given:
// a restart is seen by what was there before.
func (s *session) goalOf(ctx context.Context, verb string, ask topics.Ask, timeout time.Duration) (goal, error) {
	switch verb {
	case topics.VerbDrain, topics.VerbUndrain:
		return s.drainGoal(ask.Domain, verb == topics.VerbDrain), nil
	}
	g := goal{watch: []string{s.tree.Service(topics.ServiceStatus, ask.Service)}}
	before := make(map[string]bool)
	if verb == topics.VerbRestart {
		// the since of an instance is in its domain's status alone
		g.watch = append(g.watch, s.tree.Filter(topics.DomainStatus))
		o, err := s.overview(ctx, timeout)
		if err != nil {
			return goal{}, err
		}
		for run := range runsOf(o, ask.Service, ask.Domain) {
			before[run] = true
		}
	}
	g.met = func(o topics.Overview, _ []topics.PlanLine) (bool, string) {
		i := slices.IndexFunc(o.Services, func(v topics.Service) bool { return v.Service == ask.Service })
		if i < 0 {
			return false, "the hub does not list it"
		}
		v := o.Services[i]
		stands := standing(v)
		switch verb {
		case topics.VerbStop:
			return (v.State == topics.Stopped || v.State == topics.Finished) && len(v.Instances) == 0, stands
		case topics.VerbScale:
			if n := *ask.Replicas; n > 0 && v.Wanted != n {
				return false, stands
			}
			if v.Wanted == 0 && len(v.Instances) == 0 { // nothing needs it
				return true, stands
			}
		case topics.VerbRestart:
			for run := range runsOf(o, ask.Service, ask.Domain) {
				if before[run] {
					return false, "not restarted yet: " + stands
				}
			}
			if ask.Domain != "" { // how it does elsewhere is another matter
				return slices.ContainsFunc(v.Instances, func(i topics.ServiceInstance) bool {
					return i.Domain == ask.Domain && i.State == topics.Running && i.Health == topics.Healthy
				}), stands
			}
		}
		return wellRun(v), stands
	}
	return g, nil
}

// wellRun tells whether all wanted instances of a service run and are
// healthy, or it has done what it is for.
func wellRun(v topics.Service) bool {
	return v.State == topics.Finished ||
		v.Wanted > 0 && v.State == topics.Running && v.Running == v.Wanted && v.Healthy == v.Running
}

// runsOf yields a name for each run of a service: another run of it on the
// same domain has another name.
func runsOf(o topics.Overview, service, domain string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, d := range o.Domains {
			for _, i := range d.Services {
				if i.Service != service || !i.State.Alive() || domain != "" && d.Name != domain {
					continue
				}
				// not the state: starting → running is the same run
				run := fmt.Sprintf("%s %d %d %s", d.Name, i.PID, i.Restarts, i.Revision)
				if i.PID == 0 {
					run += i.Since.String()
				}
				if !yield(run) {
					return
				}
			}
		}
	}
}

func standing(v topics.Service) string {
	s := fmt.Sprintf("%s, %d of %d", v.State, v.Running, v.Wanted)
	if v.Healthy < v.Running {
		s += fmt.Sprintf(", %d healthy", v.Healthy)
	}
	var on []string
	for _, i := range v.Instances {
		on = append(on, i.Domain)
	}
	if len(on) > 0 {
		s += " on " + strings.Join(on, ", ")
	}
	if !wellRun(v) && v.Reason != "" {
		s += " (" + v.Reason + ")"
	}
	return s
}

// drainGoal is that the domain has the flag, and for a drain that what may
// run elsewhere has left: the plan stops nothing there any more, and all that
// is left there is settled.
func (s *session) drainGoal(domain string, drain bool) goal {
	return goal{
		watch: []string{s.tree.Domain(topics.DomainStatus, domain), s.tree.Filter(topics.ServiceStatus)},
		plan:  drain,
		met: func(o topics.Overview, plan []topics.PlanLine) (bool, string) {
			i := slices.IndexFunc(o.Domains, func(d topics.DomainView) bool { return d.Name == domain })
			if i < 0 {
				return false, "the hub does not list it"
			}
			d := o.Domains[i]
			if d.Draining != drain {
				return false, fmt.Sprintf("%s, its agent has not said that it is draining=%t", d.State, drain)
			}
			if !drain {
				return true, "not draining"
			}
			var leaving, staying []string
			for _, i := range d.Services {
				switch {
				case !i.State.Listed():
				case settled(i, o, plan):
					staying = append(staying, i.Service)
				default:
					leaving = append(leaving, i.Service)
				}
			}
			if len(leaving) > 0 {
				return false, "still there: " + strings.Join(leaving, ", ")
			}
			if len(staying) > 0 {
				return true, "drained; cannot run elsewhere: " + strings.Join(staying, ", ")
			}
			return true, "drained, nothing runs there"
		},
	}
}

// settled tells whether an instance on a draining domain stays: nothing is
// planned for its service, and no other instance of it is on its way.
func settled(i topics.Instance, o topics.Overview, plan []topics.PlanLine) bool {
	for _, l := range plan {
		if l.Service == i.Service && l.Action != topics.ActionKeep {
			return false
		}
	}
	for _, v := range o.Services {
		for _, other := range v.Instances {
			if v.Service == i.Service && (other.State == topics.Starting || other.State == topics.Stopping || other.State == topics.Pending) {
				return false
			}
		}
	}
	return i.State != topics.Stopping
}

// await returns when a goal is met, and says how it stands; if it is not met
// in time that is an error.
func (a *app) await(ctx context.Context, s *session, g goal, timeout time.Duration) (string, error) {
	waiting, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := s.subscribe(waiting, g.watch...); err != nil {
		return "", err
	}
	last := ""
	for {
		stands, reached, err := a.look(waiting, s, g)
		switch {
		case ctx.Err() != nil:
			return "", ctx.Err()
		case waiting.Err() != nil:
			if last == "" {
				return "", s.silence(timeout, nil)
			}
			not := false
			f := fail(ExitFailed, "dominionctl status shows what is wrong", "accepted, but not reached within %v: %s", timeout, last)
			f.reached = &not
			return "", f
		case err != nil:
			return "", err
		case reached:
			return stands, nil
		}
		if stands != last && a.talks && !a.json {
			a.say("… %s", stands)
		}
		last = stands
		if err := s.rest(waiting); err != nil && waiting.Err() == nil {
			return "", err
		}
	}
}

func (a *app) look(ctx context.Context, s *session, g goal) (stands string, reached bool, err error) {
	o, err := s.overview(ctx, askTimeout)
	if err != nil {
		return "", false, err
	}
	var plan []topics.PlanLine
	if g.plan {
		if plan, err = askFor[[]topics.PlanLine](ctx, s, topics.VerbPlan, topics.Ask{}, askTimeout); err != nil {
			return "", false, err
		}
	}
	reached, stands = g.met(o, plan)
	return stands, reached, nil
}

// rest waits for a message, or until it is time to look again. What came in
// meanwhile is thrown away: it only says that something changed.
func (s *session) rest(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pollEvery)
	defer cancel()
	_, err := s.next(ctx)
	for s.held = nil; len(s.taken) > 0; {
		_, _ = s.receive(ctx)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}
