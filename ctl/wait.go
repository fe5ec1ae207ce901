package ctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

const (
	waitTimeout = 60 * time.Second
	// pollEvery bounds how late a change is seen that no subscribed topic
	// reports.
	pollEvery = time.Second
)

// condition is what --wait waits for.
type condition struct {
	// watch holds the topics whose messages may mean that it is reached.
	watch []string
	// check reports whether it is reached, and the progress for people.
	check func(topics.Overview) (reached bool, progress string)
	// idle reports whether nothing was to be done and nothing has begun; nil: it
	// cannot be. What begins, begins within updateBegins.
	idle func(topics.Overview) bool
	// failed returns why it will not be reached; "": it may be. Nil: it always may.
	failed func(topics.Overview) string
}

// updateBegins is until when an update has begun: a catalog is read every 3 s, and
// what it has is used when it has been there for 5 s.
const updateBegins = 20 * time.Second

// conditionOf returns the condition that an order has to reach. It is made before
// the order is sent: a restart is recognised by what ran before.
func (s *session) conditionOf(ctx context.Context, verb string, ask topics.HubRequest, planned []topics.PlanLine, timeout time.Duration) (condition, error) {
	switch verb {
	case topics.VerbDrain, topics.VerbUndrain:
		return s.drainCondition(ask.Domain, verb == topics.VerbDrain), nil
	case topics.VerbRebalance:
		return s.moveCondition(planned), nil
	}
	c := condition{watch: []string{s.tree.Service(topics.ServiceStatus, ask.Service)}}
	var before topics.Overview
	if verb == topics.VerbUpdate || verb == topics.VerbRestart {
		var err error
		if before, err = s.overview(ctx, timeout); err != nil {
			return condition{}, err
		}
	}
	check := serviceCheck(verb, ask)
	switch verb {
	case topics.VerbUpdate:
		c.idle = idleSince(before, ask.Service)
	case topics.VerbRestart:
		// the since of an instance is in its domain's status alone
		c.watch = append(c.watch, s.tree.Filter(topics.DomainStatus))
		check = restartCheck(before, ask)
	}
	c.check = func(o topics.Overview) (bool, string) {
		v, listed := serviceIn(o, ask.Service)
		if !listed {
			return false, "the hub does not list it"
		}
		progress := serviceProgress(v)
		if c.idle != nil && c.idle(o) {
			return false, progress + "; " + cmp.Or(cleanWords(v.Update.Waits), "nothing has changed: it runs what its machines have on their disks")
		}
		return check(o, v, progress)
	}
	return c, nil
}

// checkService reports whether an order about a service is carried out, and the
// progress: what it was given, with what the order adds to it.
type checkService func(o topics.Overview, v topics.Service, progress string) (bool, string)

// serviceCheck returns the check of an order that needs to know of the service
// alone, as it is now.
func serviceCheck(verb string, ask topics.HubRequest) checkService {
	switch verb {
	case topics.VerbStop:
		return func(_ topics.Overview, v topics.Service, progress string) (bool, string) {
			return (v.State == topics.Stopped || v.State == topics.Finished) && len(v.Instances) == 0, progress
		}
	case topics.VerbUpdate:
		return checkUpdate
	case topics.VerbReset:
		return func(_ topics.Overview, v topics.Service, progress string) (bool, string) {
			return notNeeded(v) || allHealthy(v), progress
		}
	case topics.VerbScale:
		return scaleCheck(*ask.Replicas)
	}
	return func(_ topics.Overview, v topics.Service, progress string) (bool, string) {
		return allHealthy(v), progress
	}
}

// notNeeded reports whether nothing needs a service, and none of it is left.
func notNeeded(v topics.Service) bool { return v.Wanted == 0 && len(v.Instances) == 0 }

// checkUpdate reports whether a service runs the newest version that it can have.
func checkUpdate(_ topics.Overview, v topics.Service, progress string) (bool, string) {
	switch u := v.Update; {
	case u.InProgress, u.Problem != "":
		return false, progress + "; " + cleanWords(cmp.Or(u.Problem, u.Waits))
	case u.Latest != "" && u.Latest != u.Installed:
		return false, progress + "; the newest version is " + cleanWords(u.Latest)
	case u.Waits != "": // what can be had is there
		return allHealthy(v), progress + "; " + cleanWords(u.Waits)
	}
	return allHealthy(v), progress
}

// scaleCheck returns the check that a service is scaled to n instances; 0: to what
// the configuration says.
func scaleCheck(n int) checkService {
	return func(_ topics.Overview, v topics.Service, progress string) (bool, string) {
		if n > 0 && v.Replicas != 0 && v.Replicas != n {
			return false, fmt.Sprintf("%s; somebody has scaled it to %d since", progress, v.Replicas)
		}
		if n > 0 && v.Wanted != n {
			return false, progress
		}
		return notNeeded(v) || allHealthy(v), progress
	}
}

// restartCheck returns the check that none of the instances of an earlier overview
// runs any more, and that their successors are healthy.
func restartCheck(earlier topics.Overview, ask topics.HubRequest) checkService {
	before := make(map[string]bool)
	for run := range runsOf(earlier, ask.Service, ask.Domain) {
		before[run] = true
	}
	return func(o topics.Overview, v topics.Service, progress string) (bool, string) {
		for run := range runsOf(o, ask.Service, ask.Domain) {
			if before[run] {
				return false, "not restarted yet: " + progress
			}
		}
		if ask.Domain == "" {
			return allHealthy(v), progress
		}
		// The instances on other domains do not matter.
		return stateOn(o, ask.Domain, ask.Service) == topics.Finished || slices.ContainsFunc(v.Instances, func(i topics.ServiceInstance) bool {
			return i.Domain == ask.Domain && i.State == topics.Running && i.Health == topics.Healthy
		}), progress
	}
}

// idleSince returns what reports whether a service is as it was in an overview,
// in which there was nothing to update.
func idleSince(before topics.Overview, service string) func(topics.Overview) bool {
	was, there := serviceIn(before, service)
	runs := slices.Sorted(runsOf(before, service, ""))
	if u := was.Update; !there || u.InProgress || u.Problem != "" || u.Latest != u.Installed {
		return nil
	}
	return func(o topics.Overview) bool {
		is, _ := serviceIn(o, service)
		return is.Update == was.Update && slices.Equal(slices.Sorted(runsOf(o, service, "")), runs)
	}
}

func serviceIn(o topics.Overview, service string) (topics.Service, bool) {
	i := slices.IndexFunc(o.Services, func(v topics.Service) bool { return v.Service == service })
	if i < 0 {
		return topics.Service{}, false
	}
	return o.Services[i], true
}

// allHealthy reports whether all wanted instances of a service run and are
// healthy, and none more is stopping; or it has finished.
func allHealthy(v topics.Service) bool {
	return v.State == topics.Finished ||
		v.Wanted > 0 && v.State == topics.Running && v.Running == v.Wanted && v.Healthy == v.Running &&
			!slices.ContainsFunc(v.Instances, func(i topics.ServiceInstance) bool { return i.State == topics.Stopping })
}

// stateOn returns the state of a service that a domain reports.
func stateOn(o topics.Overview, domain, service string) topics.State {
	for _, d := range o.Domains {
		for _, i := range d.Services {
			if d.Name == domain && i.Service == service {
				return i.State
			}
		}
	}
	return ""
}

// runsOf yields a name for each run of a service: another run of it on the
// same domain has another name.
func runsOf(o topics.Overview, service, domain string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, d := range o.Domains {
			for _, i := range d.Services {
				if i.Service != service || !i.State.Alive() && i.State != topics.Finished || domain != "" && d.Name != domain {
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

// serviceProgress describes for people how far a service is.
func serviceProgress(v topics.Service) string {
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
	if !allHealthy(v) && v.Reason != "" {
		s += " (" + cleanLines(v.Reason)[0] + ")"
	}
	return s
}

// drainCondition is that the domain has the flag, and for a drain that nothing
// runs there any more.
func (s *session) drainCondition(domain string, drain bool) condition {
	return condition{
		watch: []string{s.tree.Domain(topics.DomainStatus, domain)},
		check: func(o topics.Overview) (bool, string) {
			i := slices.IndexFunc(o.Domains, func(d topics.DomainView) bool { return d.Name == domain })
			if i < 0 {
				return false, "the hub does not list it"
			}
			d := o.Domains[i]
			switch {
			case !drain && d.Draining:
				return false, fmt.Sprintf("its agent has not ended the drain; it is %s", d.State)
			case !drain:
				return true, "not draining"
			case !d.Draining:
				return false, fmt.Sprintf("its agent has not begun to drain; it is %s", d.State)
			}
			var left []string
			for _, i := range d.Services {
				if i.State.Listed() {
					left = append(left, i.Service)
				}
			}
			if len(left) > 0 {
				return false, "still there: " + strings.Join(left, ", ")
			}
			return true, "drained, nothing runs there"
		},
	}
}

// moveCondition is that what moves by a plan has left its domain, and runs as well as
// it is to run.
func (s *session) moveCondition(planned []topics.PlanLine) condition {
	left := make(map[string][]string) // by service
	for _, l := range planned {
		if l.Action == topics.ActionMoves {
			left[l.Service] = append(left[l.Service], l.From)
		}
	}
	return condition{
		watch: []string{s.tree.Filter(topics.ServiceStatus)},
		check: func(o topics.Overview) (bool, string) {
			for _, v := range o.Services {
				still := slices.ContainsFunc(v.Instances, func(i topics.ServiceInstance) bool { return slices.Contains(left[v.Service], i.Domain) })
				if still || len(left[v.Service]) > 0 && !allHealthy(v) {
					return false, v.Service + " moves: " + serviceProgress(v)
				}
			}
			if len(left) == 0 {
				return true, "nothing was to move"
			}
			return true, "moved: " + strings.Join(slices.Sorted(maps.Keys(left)), ", ")
		},
	}
}

// await returns when a condition is reached, with the progress; if it is not
// reached in time that is an error.
func (a *app) await(ctx context.Context, s *session, c condition, timeout time.Duration) (string, error) {
	waiting, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := s.subscribe(waiting, c.watch...); err != nil {
		return "", err
	}
	last := ""
	for began := time.Now(); ; {
		o, err := s.overview(waiting, askTimeout)
		reached, progress := false, last
		if err == nil {
			reached, progress = c.check(o)
		}
		why := ""
		if err == nil && c.failed != nil {
			why = c.failed(o)
		}
		switch {
		case why != "":
			not := false
			f := fail(ExitFailed, "", "%s", why)
			f.reached = &not
			return "", f
		case err == nil && c.idle != nil && c.idle(o) && time.Since(began) >= updateBegins:
			not := false
			f := fail(ExitFailed, "put the new code into services_dir of the machines that run it; where service.toml has a version, give it another one", "there is nothing to update: %s", progress)
			f.reached = &not
			return "", f
		case ctx.Err() != nil:
			return "", ctx.Err()
		case waiting.Err() != nil:
			if last == "" {
				return "", s.noAnswer(timeout, nil)
			}
			not := false
			f := fail(ExitFailed, "dominionctl status shows what is wrong", "accepted, but not reached within %v: %s", timeout, last)
			f.reached = &not
			return "", f
		case err != nil:
			return "", err
		case reached:
			return progress, nil
		}
		if progress != last && a.interactive && !a.json {
			a.infof("… %s", progress)
		}
		last = progress
		if err := s.waitForChange(waiting); err != nil && waiting.Err() == nil {
			return "", err
		}
	}
}

// waitForChange waits until something changes, or until it is time to ask again.
// What was received meanwhile is discarded: it only means that something changed.
// The answers to other clients come here as well and mean nothing: two that wait
// would otherwise wake each other for ever.
func (s *session) waitForChange(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pollEvery)
	defer cancel()
	for changed := false; !changed; {
		m, err := s.next(ctx)
		if err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				return nil
			}
			return err
		}
		a, ours := s.tree.Parse(m.Topic)
		changed = !ours || a.Kind != topics.Response
	}
	s.dropQueued(func(topics.Message) bool { return true })
	for len(s.received) > 0 {
		if _, err := s.receive(ctx); err != nil {
			return err
		}
	}
	return nil
}
