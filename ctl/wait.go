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
	// tells of.
	pollEvery = time.Second
)

// goal is what --wait waits for.
type goal struct {
	watch []string // what changes when it may have been reached
	met   func(topics.Overview) (reached bool, stands string)
	// idle reports whether nothing was to be done and nothing has begun; nil: it
	// cannot be. What begins, begins within beginsWithin.
	idle func(topics.Overview) bool
}

// beginsWithin is until when an update has begun: a catalog is read every 3 s, and
// what it has is taken when it has stood there for 5 s.
const beginsWithin = 20 * time.Second

// goalOf returns the goal of an order. It is made before the order is given:
// a restart is seen by what was there before.
func (s *session) goalOf(ctx context.Context, verb string, ask topics.Ask, planned []topics.PlanLine, timeout time.Duration) (goal, error) {
	switch verb {
	case topics.VerbDrain, topics.VerbUndrain:
		return s.drainGoal(ask.Domain, verb == topics.VerbDrain), nil
	case topics.VerbRebalance:
		return s.movedGoal(planned), nil
	}
	g := goal{watch: []string{s.tree.Service(topics.ServiceStatus, ask.Service)}}
	before := make(map[string]bool)
	if verb == topics.VerbUpdate {
		o, err := s.overview(ctx, timeout)
		if err != nil {
			return goal{}, err
		}
		g.idle = idleSince(o, ask.Service)
	}
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
	g.met = func(o topics.Overview) (bool, string) {
		i := slices.IndexFunc(o.Services, func(v topics.Service) bool { return v.Service == ask.Service })
		if i < 0 {
			return false, "the hub does not list it"
		}
		v := o.Services[i]
		stands := standing(v)
		if g.idle != nil && g.idle(o) {
			return false, stands + "; " + cmp.Or(cleanWords(v.Update.Waits), "nothing has changed: it runs what its machines have on their disks")
		}
		switch verb {
		case topics.VerbStop:
			return (v.State == topics.Stopped || v.State == topics.Finished) && len(v.Instances) == 0, stands
		case topics.VerbUpdate:
			switch u := v.Update; {
			case u.InProgress, u.Problem != "":
				return false, stands + "; " + cleanWords(cmp.Or(u.Problem, u.Waits))
			case u.Latest != "" && u.Latest != u.Installed:
				return false, stands + "; the newest version is " + cleanWords(u.Latest)
			case u.Waits != "": // what can be had is there
				return wellRun(v), stands + "; " + cleanWords(u.Waits)
			}
		case topics.VerbReset:
			if v.Wanted == 0 && len(v.Instances) == 0 { // nothing needs it
				return true, stands
			}
		case topics.VerbScale:
			n := *ask.Replicas
			if n > 0 && v.Replicas != 0 && v.Replicas != n {
				return false, fmt.Sprintf("%s; somebody has scaled it to %d since", stands, v.Replicas)
			}
			if n > 0 && v.Wanted != n {
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
				return stateOn(o, ask.Domain, ask.Service) == topics.Finished || slices.ContainsFunc(v.Instances, func(i topics.ServiceInstance) bool {
					return i.Domain == ask.Domain && i.State == topics.Running && i.Health == topics.Healthy
				}), stands
			}
		}
		return wellRun(v), stands
	}
	return g, nil
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

// wellRun tells whether all wanted instances of a service run and are
// healthy, and none more is on its way out; or it has done what it is for.
func wellRun(v topics.Service) bool {
	return v.State == topics.Finished ||
		v.Wanted > 0 && v.State == topics.Running && v.Running == v.Wanted && v.Healthy == v.Running &&
			!slices.ContainsFunc(v.Instances, func(i topics.ServiceInstance) bool { return i.State == topics.Stopping })
}

// stateOn is what a domain says of a service.
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
		s += " (" + cleanLines(v.Reason)[0] + ")"
	}
	return s
}

// drainGoal is that the domain has the flag, and for a drain that nothing
// runs there any more.
func (s *session) drainGoal(domain string, drain bool) goal {
	return goal{
		watch: []string{s.tree.Domain(topics.DomainStatus, domain)},
		met: func(o topics.Overview) (bool, string) {
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

// movedGoal is that what moves by a plan has left its domain, and runs as well as
// it is to run.
func (s *session) movedGoal(planned []topics.PlanLine) goal {
	left := make(map[string][]string) // by service
	for _, l := range planned {
		if l.Action == topics.ActionMoves {
			left[l.Service] = append(left[l.Service], l.From)
		}
	}
	return goal{
		watch: []string{s.tree.Filter(topics.ServiceStatus)},
		met: func(o topics.Overview) (bool, string) {
			for _, v := range o.Services {
				still := slices.ContainsFunc(v.Instances, func(i topics.ServiceInstance) bool { return slices.Contains(left[v.Service], i.Domain) })
				if still || len(left[v.Service]) > 0 && !wellRun(v) {
					return false, v.Service + " moves: " + standing(v)
				}
			}
			if len(left) == 0 {
				return true, "nothing was to move"
			}
			return true, "moved: " + strings.Join(slices.Sorted(maps.Keys(left)), ", ")
		},
	}
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
	for began := time.Now(); ; {
		o, err := s.overview(waiting, askTimeout)
		reached, stands := false, last
		if err == nil {
			reached, stands = g.met(o)
		}
		switch {
		case err == nil && g.idle != nil && g.idle(o) && time.Since(began) >= beginsWithin:
			not := false
			f := fail(ExitFailed, "put the new code into services_dir of the machines that run it; where service.toml has a version, give it another one", "there is nothing to update: %s", stands)
			f.reached = &not
			return "", f
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

// rest waits until something changes, or until it is time to look again. What
// came in meanwhile is thrown away: it only says that something changed. The
// answers to others who ask come to us as well and say nothing: two who wait
// would else wake each other for ever.
func (s *session) rest(ctx context.Context) error {
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
	s.dropHeld(func(topics.Message) bool { return true })
	for len(s.taken) > 0 {
		if _, err := s.receive(ctx); err != nil {
			return err
		}
	}
	return nil
}
