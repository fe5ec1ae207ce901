package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"syscall"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// life holds the resources of one life of a service.
type life struct {
	group  Group
	plan   plan
	notify *notifySocket
	// bundle is what it runs from; nil: its directory in services_dir.
	bundle *topics.Bundle
	// guard is that of an exclusive service; nil: it has none.
	guard Guard
	// guardsLost is how many guards ended by themselves.
	guardsLost int
	ctx        context.Context
	end        context.CancelFunc
}

// endLife releases the resources of a life that is over, or did not begin.
func (s *Supervisor) endLife(v *service) {
	s.lease.remove(v.life.guard)
	v.life.close()
	v.life = life{}
}

func (l *life) close() {
	if l.end != nil {
		l.end()
	}
	_ = l.notify.Close()
	if l.guard != nil {
		l.guard.Close()
	}
}

// step moves a service on and carries out what follows, until nothing does.
func (s *Supervisor) step(v *service, ev event, now time.Time) {
	for events := []event{ev}; len(events) > 0; events = events[1:] {
		var effects []effect
		v.instance, effects = step(v.instance, events[0], now)
		if v.Run.PID == 0 && v.life.group.PID != 0 {
			s.endLife(v)
		}
		for _, e := range effects {
			if answer := s.execute(v, e, now); answer != nil {
				events = append(events, answer)
			}
		}
	}
}

// execute carries out an effect of a step. It returns the event that answers it; nil
// if there is none.
func (s *Supervisor) execute(v *service, e effect, now time.Time) event {
	switch e := e.(type) {
	case start:
		return s.start(v, now)
	case send:
		if e.kill {
			s.lease.remove(v.life.guard)
			s.o.Runner.Signal(v.life.group, syscall.SIGKILL)
			break
		}
		if v.life.guard != nil {
			s.lease.remove(v.life.guard)
			v.life.guard.Ends(s.Clock() + v.stopTimeout())
		}
		requestStop(func(sig syscall.Signal) { s.o.Runner.Signal(v.life.group, sig) })
	case check:
		s.check(v)
	case quote:
		return quoted{s.lastLines(v.Service)}
	case remember:
		v.dirty = true
	case forget:
		v.dirty = false
		s.removeRecord(v.Service)
	case report:
		if !s.reports.allow(v.Service, now) {
			break
		}
		s.o.Log.Log(context.Background(), levelOf(e.kind), e.message, "event", e.kind, "service", v.Service)
		s.o.Report(e.kind, v.Service, e.message)
	}
	return nil
}

// levelOf returns the log level of an event.
func levelOf(kind topics.EventType) slog.Level {
	switch kind {
	case topics.ServiceCrashed, topics.ServiceFailed, topics.ServiceUnhealthy, topics.ServiceFenced, topics.CommandRefused:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// start starts a service.
func (s *Supervisor) start(v *service, now time.Time) event {
	if v.commandSpec.Exclusive && s.lease.until() <= s.Clock() {
		return unleased{}
	}
	if v.commandSpec.Oneshot && v.Run.Revision != "" && v.Run.Revision != v.commandSpec.Revision && s.o.Done(v.Service, v.commandSpec) {
		ended := 0
		v.dirty = true
		return adopted{
			spec: v.Spec, restarts: v.Restarts, since: now, finished: true, exitCode: &ended, message: "it had ended with 0 before another version was tried",
			run: run{Token: v.Run.Token, Revision: v.commandSpec.Revision},
		}
	}
	token := newToken(v.commandSpec.Revision)
	p, err := s.plan(v, token)
	if err != nil {
		var no refusedError
		if errors.As(err, &no) {
			return refused{v.commandSpec, no.Error()}
		}
		return notStarted{err.Error(), errors.Is(err, errChowning), errors.Is(err, errHung)}
	}
	v.life = life{plan: p, bundle: p.bundle()}
	v.life.ctx, v.life.end = context.WithCancel(s.ctx)
	r := run{
		Token: token, Revision: v.Spec.Revision, Version: p.version, Port: p.port,
		Started: now, Command: len(p.health) > 0, Watchdog: p.watchdog(),
	}
	if err := s.startLife(v, &r); err != nil {
		s.endLife(v)
		return notStarted{message: err.Error(), hung: errors.Is(err, errHung)}
	}
	s.topicsChanged = true // its service.toml may be another by now
	return started{r, p.spec}
}

// startLife starts what a life consists of, the processes last.
func (s *Supervisor) startLife(v *service, r *run) (err error) {
	post := s.poster(v.Service, r.Token)
	if path := v.life.plan.notifyPath; path != "" {
		own := v.life.plan.owner
		if v.life.notify, err = openOnDisk(s, func() (*notifySocket, error) { return listenNotify(path, own, post) }); err != nil {
			return fmt.Errorf("cannot make its NOTIFY_SOCKET: %w (health notify needs a data_dir that can be written)", err)
		}
	}
	logs, err := s.openLogs(v.Service, v.life.plan.owner)
	if err != nil {
		return err
	}
	defer logs.Close()
	if v.commandSpec.Exclusive { // first: nothing of it ever runs unguarded
		r.LeaseEnd = s.leaseEnd(r.Started)
		if v.life.guard, err = s.guard(v, r.Token); err != nil {
			return err
		}
	}
	s.writeIntent(v, *r) // an agent that is killed now leaves a record of what it was about to start
	c := v.life.plan.command
	c.Stdout, c.Stderr = logs.stdout, logs.stderr
	output := s.output(v, logs.stdout, logs.stderr)
	v.life.group, err = s.o.Runner.Start(c, func(e Exit) { post(output.explain(e)) })
	if err != nil {
		if v.life.guard != nil {
			v.life.guard.Void()
		}
		return unstartable(c, err)
	}
	if v.life.guard != nil {
		v.life.guard.Life(v.life.group)
		s.lease.add(v.life.guard, v.stopTimeout())
	}
	r.PID = v.life.group.PID
	return nil
}

// poster returns the function that posts events of one life of a service.
func (s *Supervisor) poster(name, token string) func(event) {
	return func(what event) { s.o.Post(Event{name, token, what}) }
}

func (s *Supervisor) lastLines(name string) []string {
	if s.o.Logs == nil {
		return nil
	}
	var lines []string
	for _, l := range s.o.Logs.Last(name, quotedLines) {
		lines = append(lines, l.Line)
	}
	return lines
}
