package supervisor

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// step is the whole behaviour of a service on a domain: what happens to it
// and what follows. It does no I/O and reads no clock.
func step(in instance, ev event, now time.Time) (instance, []effect) {
	m := move{instance: &in, now: now}
	switch ev := ev.(type) {
	case adopted:
		m.adopted(ev)
	case wanted:
		m.wanted(ev.spec)
	case refused:
		m.refused(ev)
	case unwanted:
		m.unwanted()
	case restart:
		m.restart()
	case started:
		m.started(ev)
	case notStarted:
		m.notStarted(ev.message)
	case exited:
		m.exited(ev)
	case notified:
		m.notified(ev)
	case checked:
		m.checked(ev)
	case quoted:
		m.quoted(ev.lines)
	case tick:
		m.tick()
	}
	return in, m.effects
}

// move is one step under way.
type move struct {
	*instance
	now     time.Time
	effects []effect
}

func (m *move) do(e ...effect) { m.effects = append(m.effects, e...) }

func (m *move) report(kind topics.EventType, message string) { m.do(report{kind, message}) }

func (m *move) become(s topics.State, message string) {
	m.State, m.Since, m.Message = s, m.now, message
	if s != topics.Running {
		m.Health = topics.UnknownHealth
	}
	if s != topics.Starting && s != topics.Running {
		m.CheckAt = time.Time{}
	}
}

// wanted: the start command holds the service. First match wins.
func (m *move) wanted(spec topics.Spec) {
	before, obeyed := m.Spec, m.Refused == ""
	m.Spec, m.Wanted, m.Refused = spec, true, ""
	changed := spec.Revision != m.Run.Revision
	switch m.State {
	// Nothing of it is here.
	case "", topics.Pending, topics.Stopped:
		m.forgive()
		m.Restarts = 0
		m.Run = run{}
		m.do(start{})

	// It is on its way out: it starts again when nothing is left.
	case topics.Stopping:
		if m.Then == thenStopped || changed {
			m.Then = thenStart
			m.do(remember{})
		}

	// It lives. Only another revision restarts it; the rest is taken over.
	case topics.Starting, topics.Running:
		if changed {
			m.forgive()
			m.stop(thenStart, "the start command changed")
			return
		}
		if !reflect.DeepEqual(before.Health, spec.Health) {
			m.checkAnew()
		}

	// It waits, gave up or is done. Another revision gets a fresh chance, and so
	// does what was refused: not all that can be refused is in a revision.
	case topics.Backoff, topics.Failed, topics.Finished:
		if changed || !obeyed {
			m.forgive()
			m.do(start{})
			return
		}
		if m.State == topics.Backoff && before.Restart != spec.Restart {
			if soon := m.now.Add(spec.Restart.MaxDelay.Duration()); soon.Before(m.Retry) {
				m.Retry = soon
			}
		}
	}
}

// refused: the start command holds the service, but in a form that this
// domain does not obey. What lives, lives on as it is.
func (m *move) refused(ev refused) {
	m.Wanted = true
	if m.Refused == ev.message {
		return // said already
	}
	m.Refused = ev.message
	m.report(topics.CommandRefused, ev.message)
	if !m.State.Alive() {
		m.Spec, m.Run.Revision = ev.spec, ev.spec.Revision
		m.Retry = time.Time{} // the same command would be refused again
		m.become(topics.Failed, "")
	}
}

// unwanted: the start command does not hold the service.
func (m *move) unwanted() {
	m.Wanted, m.Refused = false, ""
	switch m.State {
	case topics.Starting, topics.Running:
		m.stop(thenStopped, "it is no longer wanted")
	case topics.Stopping:
		m.Then = thenStopped
		m.do(remember{})
	case topics.Stopped:
	default:
		m.do(forget{})
		m.become(topics.Stopped, "")
	}
}

// restart: somebody asked for it.
func (m *move) restart() {
	m.forgive()
	switch m.State {
	case topics.Starting, topics.Running:
		m.stop(thenStart, "a restart was asked for")
	case topics.Stopping:
		m.Then = thenStart
		m.do(remember{})
	default:
		m.do(start{})
	}
}

// started: its process runs.
func (m *move) started(ev started) {
	r := ev.run
	if m.Run.Token != "" { // not its first life
		m.Restarts++
	}
	m.Run, m.Spec = r, ev.spec
	m.Checking = false // one of the life before says nothing about this one
	m.become(topics.Starting, "")
	m.do(remember{})
	m.report(topics.ServiceStarted, fmt.Sprintf("started as process %d", r.PID))
	m.checkAnew()
}

// adopted: the agent before this one left it.
func (m *move) adopted(ev adopted) {
	m.Spec, m.Run, m.Restarts, m.ExitCode = ev.spec, ev.run, ev.restarts, ev.exitCode
	if ev.finished {
		m.become(topics.Finished, "it ended before the agent was started again")
		m.Since = ev.since
		return
	}
	if ev.stopping != nil { // told again: the agent may have been killed before it said so
		m.report(topics.ServiceAdopted, fmt.Sprintf("process %d goes on stopping", ev.run.PID))
		m.stop(ev.stopping.Then, ev.stopping.Why)
		return
	}
	m.report(topics.ServiceAdopted, fmt.Sprintf("goes on as process %d", ev.run.PID))
	if m.Run.Ready.IsZero() && m.check() == noCheck {
		m.Run.Ready = m.now // it ran while the agent was away
	}
	m.become(topics.Starting, "")
	if !m.Run.Ready.IsZero() {
		m.become(topics.Running, "")
		m.Health = topics.Healthy
	}
	m.Since = ev.since
	m.checkAnew()
}

// notStarted: there is no process.
func (m *move) notStarted(message string) {
	m.ExitCode = nil
	m.Run.PID, m.Run.Revision = 0, m.Spec.Revision
	m.do(forget{})
	m.fail(message, noStartDelay)
}

// exited: the leader of its group ended, or the last one it left behind.
func (m *move) exited(ev exited) {
	m.ExitCode = ev.code
	switch asked := m.State == topics.Stopping; {
	case asked && ev.left:
		return

	// Some are left: they end before it counts as ended.
	case ev.left:
		m.stop(thenEnded, ev.message)
		m.Message = ev.message + "; stopping what it left behind"
		return

	case !asked:
		m.Then, m.Why = thenEnded, ev.message
	}
	m.gone()
}

// gone: nothing of its group is left. First match wins.
func (m *move) gone() {
	m.Run.PID = 0
	switch policy := m.Spec.Restart.Policy; {
	case m.Then == thenStart && m.Wanted:
		m.do(start{})

	case m.Then == thenStopped, m.Then == thenStart:
		m.do(forget{})
		m.become(topics.Stopped, "")
		m.report(topics.ServiceStopped, "stopped: "+m.Why)

	// Adopted, and no start command was seen since: that one decides.
	case !m.Wanted:
		m.do(forget{})
		m.become(topics.Stopped, m.Why)
		m.report(topics.ServiceCrashed, m.Why)

	case policy == topics.RestartNever,
		policy == topics.RestartOnFailure && m.Then == thenEnded && m.ExitCode != nil && *m.ExitCode == 0:
		m.do(remember{})
		m.become(topics.Finished, m.Why+"; not started again: its restart policy is "+policy)
		m.report(topics.ServiceFinished, m.Why)

	default:
		m.do(forget{})
		m.fail(m.Why, 0)
	}
}

// fail: it crashed or did not start.
func (m *move) fail(message string, atLeast time.Duration) {
	if m.crashed(m.now) {
		m.Retry = m.now.Add(failedRetry)
		m.become(topics.Failed, fmt.Sprintf("%s; it failed too often, next try in %s", message, words(failedRetry)))
		m.do(quote{})
		return
	}
	delay := m.delay(atLeast)
	m.Retry = m.now.Add(delay)
	if delay == 0 {
		m.report(topics.ServiceCrashed, message+"; started again")
		m.do(start{})
		return
	}
	m.become(topics.Backoff, message+"; next try in "+words(delay))
	m.report(topics.ServiceCrashed, m.Message)
}

// quoted: these are the last lines of what failed.
func (m *move) quoted(lines []string) {
	if len(lines) > 0 {
		m.Message += "\n" + strings.Join(lines, "\n")
	}
	m.report(topics.ServiceFailed, m.Message)
}

// stop tells the whole group to end.
func (m *move) stop(then then, why string) {
	m.Then, m.Why = then, why
	m.Kill, m.Killed = m.now.Add(m.stopTimeout()), false
	m.become(topics.Stopping, "stopping: "+why)
	m.do(remember{}, send{})
}

// ready: it can be used.
func (m *move) ready() {
	m.Run.Ready = m.now
	m.become(topics.Running, "")
	m.Health = topics.Healthy
	m.Misses = 0
	m.do(remember{})
	m.report(topics.ServiceReady, "ready after "+words(m.now.Sub(m.Run.Started)))
}

// checkAnew begins with the checks, after a start or with another check.
func (m *move) checkAnew() {
	m.Misses, m.CheckEvery, m.CheckAt = 0, firstCheck, time.Time{}
	switch {
	case m.check().active() && m.State == topics.Starting:
		m.CheckAt = m.now.Add(firstCheck)
	case m.check().active():
		m.CheckAt = m.now
	case m.State == topics.Running:
		m.Health, m.Message = topics.Healthy, ""
	}
}

// checked: a check has its result. One of a check that is no longer wanted
// only makes room for the next.
func (m *move) checked(ev checked) {
	m.Checking = false
	interval, _, failures := m.checkTimes()
	switch {
	case !m.check().active():
	case m.State == topics.Starting && ev.ok:
		m.ready()
		m.CheckAt = m.now.Add(interval)
	case m.State == topics.Starting:
		if m.now.Sub(m.Run.Started) >= settleTime {
			m.Message = "not ready yet: " + ev.message
		}
		m.CheckEvery = min(2*m.CheckEvery, slowCheck)
		m.CheckAt = m.now.Add(m.CheckEvery)
	case m.State == topics.Running && ev.ok:
		m.CheckAt, m.Misses = m.now.Add(interval), 0
		if m.Health == topics.Unhealthy {
			m.Health, m.Message = topics.Healthy, ""
			m.report(topics.ServiceReady, "healthy again")
		}
	case m.State == topics.Running:
		m.CheckAt = m.now.Add(interval)
		if m.Misses++; m.Misses >= failures && m.Health != topics.Unhealthy {
			m.Health = topics.Unhealthy
			m.Message = fmt.Sprintf("%d checks in a row failed: %s", m.Misses, ev.message)
			m.report(topics.ServiceUnhealthy, m.Message)
		}
	}
}

// notified: it said something to its NOTIFY_SOCKET.
func (m *move) notified(ev notified) {
	if m.State != topics.Starting && m.State != topics.Running {
		return
	}
	if ev.ready && m.State == topics.Starting && m.check() == notifyCheck {
		m.ready()
	}
	if ev.status != "" {
		m.Message = ev.status
	}
}

// tick: time went by.
func (m *move) tick() {
	reached := func(t time.Time) bool { return !t.IsZero() && !m.now.Before(t) }
	switch m.State {
	case topics.Backoff, topics.Failed:
		if reached(m.Retry) {
			m.Retry = time.Time{}
			m.do(start{})
		}
		return
	case topics.Stopping:
		if reached(m.Kill) {
			if !m.Killed {
				m.Killed = true
				m.Why += "; killed, because it did not end within " + words(m.stopTimeout())
			}
			m.Kill = m.now.Add(killAgain)
			m.Message = "stopping: " + m.Why
			m.do(send{kill: true})
		}
		return
	case topics.Starting:
		switch late := reached(m.readyBy()); {
		case late && m.check() == noCheck:
			m.ready()
		case late:
			m.stop(thenFailed, "it was not ready within "+words(m.startTimeout()))
			return
		}
	}
	if !m.Checking && reached(m.CheckAt) && (m.State == topics.Starting || m.State == topics.Running) {
		m.Checking, m.CheckAt = true, time.Time{}
		m.do(check{})
	}
}
