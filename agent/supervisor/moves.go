package supervisor

import (
	"fmt"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// move is one step under way.
type move struct {
	*instance
	now     time.Time
	event   event
	next    event // what follows within the same step; nil: nothing
	effects []effect

	before  topics.Spec   // wanted: the spec until now
	refused bool          // wanted: that was not obeyed
	wait    time.Duration // failed: before the next try
}

func (m *move) do(e ...effect) { m.effects = append(m.effects, e...) }

func (m *move) report(kind topics.EventType, message string) { m.do(report{kind, message}) }

// of returns the event of a move whose row says what it is.
func of[E event](m *move) E {
	e, _ := m.event.(E)
	return e
}

// note takes over what an event says by itself, whatever row fits.
func (m *move) note() {
	switch ev := m.event.(type) {
	case wanted:
		m.before, m.refused = m.Spec, m.Refused != ""
		m.Spec, m.Wanted, m.Refused = ev.spec, true, ""
	case refused:
		m.Wanted = true
	case unwanted:
		m.Wanted, m.Refused = false, ""
	case notStarted:
		m.ExitCode = nil
		m.Run.PID, m.Run.Revision = 0, m.Spec.Revision
	case adopted:
		m.Spec, m.Run, m.Restarts, m.ExitCode = ev.spec, ev.run, ev.restarts, ev.exitCode
	case exited:
		m.ExitCode = ev.code
		if m.State != topics.Stopping {
			m.Unable = ev.unstartable && m.Run.Ready.IsZero()
		}
		switch {
		case leaseOver(m) && (m.State == topics.Starting || m.State == topics.Running): // by its guard
			m.Then, m.Why = thenStart, theLease
			m.report(topics.ServiceFenced, theLease+": its guard ended it")
		case m.State != topics.Stopping:
			m.Then, m.Why = thenEnded, ev.message
		case !m.Told:
			m.Why = ev.message
		}
		if !ev.left {
			m.Run.PID = 0
		}
	case leased:
		if m.State == topics.Starting || m.State == topics.Running {
			m.Run.LeaseEnd = ev.until
		}
	case failed:
		if !ev.hung && !m.crashed(m.now) {
			m.wait = m.delay(ev.atLeast)
		}
	case checked:
		m.Checking = false
	case listening:
		switch {
		case !ev.on:
			m.Listening = time.Time{}
		case m.Listening.IsZero():
			m.Listening = m.now
		}
	}
}

// What the table does.

func nothing(*move) {}

func (m *move) become(s topics.State, message string) {
	m.State, m.Since, m.Message = s, m.now, message
	if s != topics.Running {
		m.Health, m.BarkAt = topics.UnknownHealth, time.Time{}
	}
	if s != topics.Starting && s != topics.Running {
		m.CheckAt = time.Time{}
	}
}

// stop tells the whole group to end.
func (m *move) stop(then then, why string) {
	m.Then, m.Why = then, why
	m.Kill, m.Killed, m.Told = m.now.Add(m.stopTimeout()), false, true
	m.become(topics.Stopping, "stopping: "+why)
	m.do(remember{}, send{})
}

// ready: it can be used.
func (m *move) ready() {
	m.Run.Ready = m.now
	m.become(topics.Running, "")
	m.Health = topics.Healthy
	m.Misses = 0
	petWatchdog(m)
	m.do(remember{})
	m.report(topics.ServiceReady, "ready after "+words(m.now.Sub(m.Run.Started)))
}

// checkAnew begins with the checks, after a start or with another check.
func (m *move) checkAnew() {
	m.Unready = ""
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

func begin(m *move) {
	m.forgive()
	m.Restarts = 0
	m.Run = run{}
	m.do(start{})
}

func startAfresh(m *move) {
	m.forgive()
	m.do(start{})
}

func startAfterwards(m *move) {
	m.Then = thenStart
	m.do(remember{})
}

func replace(m *move) {
	m.forgive()
	m.stop(thenStart, "the start command changed")
}

func retrySooner(m *move) {
	if soon := m.now.Add(m.Spec.Restart.MaxDelay.Duration()); soon.Before(m.Retry) {
		m.Retry = soon
	}
}

func refuse(m *move) {
	m.Refused = of[refused](m).message
	m.report(topics.CommandRefused, m.Refused)
}

func failRefused(m *move) {
	refuse(m)
	m.Spec = of[refused](m).spec
	m.Run.Revision = m.Spec.Revision
	m.Retry = time.Time{} // the same command would be refused again
	m.become(topics.Failed, "")
}

func stopUnwanted(m *move) { m.stop(thenStopped, topics.NotWanted) }

func stopForGood(m *move) {
	if m.Then != thenStopped {
		m.Then, m.Why = thenStopped, topics.NotWanted
	}
	m.do(remember{})
}

func forgetIt(m *move) {
	m.do(forget{})
	m.become(topics.Stopped, "")
}

func restartIt(m *move) {
	m.forgive()
	m.stop(thenStart, "a restart was asked for")
}

func restartAfterwards(m *move) {
	m.forgive()
	startAfterwards(m)
}

func live(m *move) {
	ev := of[started](m)
	if m.Run.Token != "" { // not its first life
		m.Restarts++
	}
	m.Run, m.Spec = ev.run, ev.spec
	m.Unable = false
	m.Checking = false // one of the life before says nothing about this one
	m.become(topics.Starting, m.awaited())
	m.do(remember{})
	m.report(topics.ServiceStarted, fmt.Sprintf("started as process %d", m.Run.PID))
	m.checkAnew()
}

func failToStart(m *move) {
	m.do(forget{})
	ev := of[notStarted](m)
	m.next = failed{ev.message, noStartDelay, !ev.soon && !ev.hung, ev.hung}
}

func stayFinished(m *move) {
	m.become(topics.Finished, "it ended before the agent was started again")
	m.Since = of[adopted](m).since
}

// goOnStopping tells it again: the agent may have been killed before it did.
func goOnStopping(m *move) {
	m.report(topics.ServiceAdopted, fmt.Sprintf("process %d goes on stopping", m.Run.PID))
	s := of[adopted](m).stopping
	m.stop(s.Then, s.Why)
}

func goOnStarting(m *move) {
	m.report(topics.ServiceAdopted, fmt.Sprintf("goes on as process %d", m.Run.PID))
	m.become(topics.Starting, m.awaited())
	m.Since = of[adopted](m).since
	m.checkAnew()
}

func goOnRunning(m *move) {
	m.report(topics.ServiceAdopted, fmt.Sprintf("goes on as process %d", m.Run.PID))
	if m.Run.Ready.IsZero() {
		m.Run.Ready = m.now // it ran while the agent was away
	}
	m.become(topics.Running, "")
	m.Health = topics.Healthy
	petWatchdog(m)
	m.Since = of[adopted](m).since
	m.checkAnew()
}

func stopTheOthers(m *move) {
	message := of[exited](m).message
	m.stop(m.Then, message)
	m.Message = message + "; stopping what it left behind"
}

func startNext(m *move) { m.do(start{}) }

const theLease = "its lease is over, as the hub was not heard"

func waitForLease(m *move) {
	m.do(forget{})
	m.become(topics.Pending, "it is exclusive, and waits for a lease of the hub")
}

// waitOn does not begin to wait anew.
func waitOn(m *move) { m.Message = "it is exclusive, and waits for a lease of the hub" }

func stopUnguarded(m *move) {
	why := of[unguarded](m).message
	m.report(topics.ServiceFenced, why+": it is stopped")
	m.stop(thenStart, why)
}

func stopUnleased(m *move) {
	m.report(topics.ServiceFenced, theLease+": it is stopped")
	m.stop(thenStart, theLease)
}

func beStopped(m *move) {
	m.do(forget{})
	m.become(topics.Stopped, "")
	m.report(topics.ServiceStopped, "stopped: "+m.Why)
}

func beStoppedUnasked(m *move) {
	m.do(forget{})
	m.become(topics.Stopped, m.Why)
	m.report(topics.ServiceCrashed, m.Why)
}

func finish(m *move) {
	m.do(remember{})
	m.become(topics.Finished, m.Why+"; not started again: its restart policy is "+m.Spec.Restart.Policy)
	m.report(topics.ServiceFinished, m.Why)
}

func crash(m *move) {
	m.do(forget{})
	if m.Unable {
		m.next = failed{message: m.Why, atLeast: noStartDelay, elsewhere: true}
		return
	}
	why := m.Why
	if m.Then == thenEnded && m.ExitCode != nil && *m.ExitCode == 0 && m.now.Sub(m.Run.Started) < goodTime {
		why += endsWell
	}
	m.next = failed{message: why}
}

// endsWell follows the reason of a service that ends with code 0 and is started
// again and again.
const endsWell = " (a service stays in the foreground: without & or an option like --daemon; one that ends when its work is done is oneshot = true)"

// failHere shows at once that it cannot start here, so that another domain is
// tried, and tries it here as often as before: what is in its way may go. What
// it wrote in a life before says nothing about this.
func failHere(m *move) {
	wait, message := m.wait, of[failed](m).message
	if m.Failing {
		wait = failedRetry
	}
	repeated := m.State == topics.Failed && m.Message == message
	m.Retry = m.now.Add(wait)
	m.become(topics.Failed, message)
	if !repeated {
		m.report(topics.ServiceFailed, m.withNextTry())
	}
}

// waitForDisk tries soon once, and then now and then, for as long as the disk takes:
// that is not counted, and told once.
func waitForDisk(m *move) {
	message := of[failed](m).message
	if m.State == topics.Backoff && m.Message == message {
		m.Retry = m.now.Add(diskRetry)
		return
	}
	m.Retry = m.now.Add(noStartDelay)
	m.become(topics.Backoff, message)
	m.report(topics.ServiceCrashed, m.withNextTry())
}

func giveUp(m *move) {
	m.Retry = m.now.Add(failedRetry)
	m.become(topics.Failed, of[failed](m).message+"; it failed too often")
	m.do(quote{})
}

func startAtOnce(m *move) {
	m.Retry = m.now
	m.report(topics.ServiceCrashed, of[failed](m).message+"; started again")
	m.do(start{})
}

func backOff(m *move) {
	m.Retry = m.now.Add(m.wait)
	m.become(topics.Backoff, of[failed](m).message)
	m.report(topics.ServiceCrashed, m.withNextTry())
}

// withNextTry is the message with the time until the next try, for an event. The
// state itself is retained and has the moment instead.
func (m *move) withNextTry() string {
	head, lines, more := strings.Cut(m.Message, "\n")
	head += "; next try in " + words(m.Retry.Sub(m.now))
	if more {
		head += "\n" + lines
	}
	return head
}

func quoteFailure(m *move) {
	m.quote()
	m.report(topics.ServiceFailed, m.withNextTry())
}

// quote adds the last lines to the message.
func (m *move) quote() {
	if lines := of[quoted](m).lines; len(lines) > 0 {
		m.Message += "\n" + strings.Join(lines, "\n")
	}
}

func tryAgain(m *move) {
	m.Retry = time.Time{}
	m.do(start{})
}

func kill(m *move) {
	if !m.Killed {
		m.Killed, m.Told = true, true
		m.Why += "; killed, because it did not end within " + words(m.stopTimeout())
	}
	m.Kill = m.now.Add(killAgain)
	m.Message = "stopping: " + m.Why
	m.do(send{kill: true})
}

func giveUpStarting(m *move) {
	why := "it was not ready within " + words(m.startTimeout())
	if m.Unready != "" {
		why += ": " + m.Unready + " (raise start_timeout if it needs longer, for example to compile)"
	}
	m.stop(thenFailed, why)
}
