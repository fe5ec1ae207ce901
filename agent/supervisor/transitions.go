package supervisor

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// transition is one step while it is made.
type transition struct {
	*instance
	now   time.Time
	event event
	// next is an event that follows within the same step; nil: none.
	next    event
	effects []effect

	// before is the former spec, where event is wanted.
	before topics.Spec
	// refused reports that the former spec was refused, where event is wanted.
	refused bool
	// wait is the delay before the next try, where event is failed.
	wait time.Duration
}

func (t *transition) do(e ...effect) { t.effects = append(t.effects, e...) }

func (t *transition) report(kind topics.EventType, message string) { t.do(report{kind, message}) }

// eventOf returns the event of a transition whose row has the type E.
func eventOf[E event](t *transition) E {
	e, _ := t.event.(E)
	return e
}

// applyEvent takes over the data of an event, whatever row matches.
func (t *transition) applyEvent() {
	switch ev := t.event.(type) {
	case wanted:
		t.before, t.refused = t.Spec, t.Refused != ""
		t.Spec, t.Wanted, t.Refused = ev.spec, true, ""
	case refused:
		t.Wanted = true
	case unwanted:
		t.Wanted, t.Refused = false, ""
	case notStarted:
		t.ExitCode = nil
		t.Run.PID, t.Run.Revision = 0, t.Spec.Revision
	case adopted:
		t.Spec, t.Run, t.Restarts, t.ExitCode = ev.spec, ev.run, ev.restarts, ev.exitCode
	case exited:
		t.ExitCode = ev.code
		if t.State != topics.Stopping {
			t.CannotStart = ev.unstartable && t.Run.Ready.IsZero()
		}
		switch {
		case leaseOver(t) && (t.State == topics.Starting || t.State == topics.Running): // by its guard
			t.Then, t.Why = thenStart, leaseOverReason
			t.report(topics.ServiceFenced, leaseOverReason+": its guard ended it")
		case t.State != topics.Stopping:
			t.Then, t.Why = thenEnded, ev.message
		case !t.StopSent:
			t.Why = ev.message
		}
		if !ev.leftovers {
			t.Run.PID = 0
		}
	case leased:
		if t.State == topics.Starting || t.State == topics.Running {
			t.Run.LeaseEnd = ev.until
		}
	case failed:
		if !ev.hung && !t.recordCrash(t.now) {
			t.wait = t.delay(ev.atLeast)
		}
	case checked:
		t.Checking = false
	case topicSubscribed:
		if !ev.subscribed {
			t.SubscribedSince = time.Time{}
		} else if t.SubscribedSince.IsZero() {
			t.SubscribedSince = t.now
		}
	}
}

// The actions of the table.

func noAction(*transition) {}

func (t *transition) setState(s topics.State, message string) {
	t.State, t.Since, t.Message = s, t.now, message
	if s != topics.Running {
		t.Health, t.WatchdogDue = topics.UnknownHealth, time.Time{}
	}
	if s != topics.Starting && s != topics.Running {
		t.CheckAt = time.Time{}
	}
}

// stop sends SIGTERM to the whole group, and plans what comes after its end.
func (t *transition) stop(then then, why string) {
	t.Then, t.Why = then, why
	t.Kill, t.Killed, t.StopSent = t.now.Add(t.stopTimeout()), false, true
	t.setState(topics.Stopping, "stopping: "+why)
	t.do(remember{}, send{})
}

// ready makes the instance running and healthy.
func (t *transition) ready() {
	t.Run.Ready = t.now
	t.setState(topics.Running, "")
	t.Health = topics.Healthy
	t.FailedChecks = 0
	rearmWatchdog(t)
	t.do(remember{})
	t.report(topics.ServiceReady, "ready after "+formatDuration(t.now.Sub(t.Run.Started)))
}

// restartChecks resets the checks, after a start or when the check has changed.
func (t *transition) restartChecks() {
	t.LastCheckError = ""
	t.FailedChecks, t.CheckEvery, t.CheckAt = 0, firstCheck, time.Time{}
	switch {
	case t.check().active() && t.State == topics.Starting:
		t.CheckAt = t.now.Add(firstCheck)
	case t.check().active():
		t.CheckAt = t.now
	case t.State == topics.Running:
		t.Health, t.Message = topics.Healthy, ""
	}
}

func startFirst(t *transition) {
	t.resetFailures()
	t.Restarts = 0
	t.Run = run{}
	t.do(start{})
}

func startWithReset(t *transition) {
	t.resetFailures()
	t.do(start{})
}

func startWhenStopped(t *transition) {
	t.Then = thenStart
	t.do(remember{})
}

func stopForRevision(t *transition) {
	t.resetFailures()
	t.stop(thenStart, "the start command changed")
}

func retrySooner(t *transition) {
	if soon := t.now.Add(t.Spec.Restart.MaxDelay.Duration()); soon.Before(t.Retry) {
		t.Retry = soon
	}
}

func setRefused(t *transition) {
	t.Refused = eventOf[refused](t).message
	t.report(topics.CommandRefused, t.Refused)
}

func failAsRefused(t *transition) {
	setRefused(t)
	t.Spec = eventOf[refused](t).spec
	t.Run.Revision = t.Spec.Revision
	t.Retry = time.Time{} // the same command would be refused again
	t.setState(topics.Failed, "")
}

func stopUnwanted(t *transition) { t.stop(thenStopped, topics.NotWanted) }

func stopForGood(t *transition) {
	if t.Then != thenStopped {
		t.Then, t.Why = thenStopped, topics.NotWanted
	}
	t.do(remember{})
}

func setStopped(t *transition) {
	t.do(forget{})
	t.setState(topics.Stopped, "")
}

func stopForRestart(t *transition) {
	t.resetFailures()
	t.stop(thenStart, "a restart was asked for")
}

func restartWhenStopped(t *transition) {
	t.resetFailures()
	startWhenStopped(t)
}

func beginLife(t *transition) {
	ev := eventOf[started](t)
	if t.Run.Token != "" { // not its first life
		t.Restarts++
	}
	t.Run, t.Spec = ev.run, ev.spec
	t.CannotStart = false
	t.Checking = false // a check of the former life does not count
	t.setState(topics.Starting, t.notReadyMessage())
	t.do(remember{})
	t.report(topics.ServiceStarted, fmt.Sprintf("started as process %d", t.Run.PID))
	t.restartChecks()
}

func handleNotStarted(t *transition) {
	t.do(forget{})
	ev := eventOf[notStarted](t)
	t.next = failed{ev.message, noStartDelay, !ev.soon && !ev.hung, ev.hung}
}

func adoptFinished(t *transition) {
	t.setState(topics.Finished, cmp.Or(eventOf[adopted](t).message, "it ended before the agent was started again"))
	t.Since = eventOf[adopted](t).since
}

// adoptStopping sends SIGTERM again: the former agent may have been killed before it
// did.
func adoptStopping(t *transition) {
	t.report(topics.ServiceAdopted, fmt.Sprintf("process %d goes on stopping", t.Run.PID))
	s := eventOf[adopted](t).stopping
	t.stop(s.Then, s.Why)
}

func adoptStarting(t *transition) {
	t.report(topics.ServiceAdopted, fmt.Sprintf("goes on as process %d", t.Run.PID))
	t.setState(topics.Starting, t.notReadyMessage())
	t.Since = eventOf[adopted](t).since
	t.restartChecks()
}

func adoptRunning(t *transition) {
	t.report(topics.ServiceAdopted, fmt.Sprintf("goes on as process %d", t.Run.PID))
	if t.Run.Ready.IsZero() {
		t.Run.Ready = t.now // it ran while the agent was away
	}
	t.setState(topics.Running, "")
	t.Health = topics.Healthy
	rearmWatchdog(t)
	t.Since = eventOf[adopted](t).since
	t.restartChecks()
}

func stopLeftovers(t *transition) {
	message := eventOf[exited](t).message
	t.stop(t.Then, message)
	t.Message = message + "; stopping what it left behind"
}

func startNow(t *transition) { t.do(start{}) }

const leaseOverReason = "its lease is over, as the hub did not renew it"

func waitForLease(t *transition) {
	t.do(forget{})
	t.setState(topics.Pending, "it is exclusive, and waits for a lease of the hub")
}

// keepWaitingForLease leaves the state, with its time, as it is.
func keepWaitingForLease(t *transition) {
	t.Message = "it is exclusive, and waits for a lease of the hub"
}

func stopUnguarded(t *transition) {
	why := eventOf[unguarded](t).message
	t.report(topics.ServiceFenced, why+": it is stopped")
	t.stop(thenStart, why)
}

func stopUnleased(t *transition) {
	t.report(topics.ServiceFenced, leaseOverReason+": it is stopped")
	t.stop(thenStart, leaseOverReason)
}

func finishStopped(t *transition) {
	t.do(forget{})
	t.setState(topics.Stopped, "")
	t.report(topics.ServiceStopped, "stopped: "+t.Why)
}

func finishUncommanded(t *transition) {
	t.do(forget{})
	t.setState(topics.Stopped, t.Why)
	t.report(topics.ServiceCrashed, t.Why)
}

func setFinished(t *transition) {
	t.do(remember{})
	t.setState(topics.Finished, t.Why+"; not started again: its restart policy is "+t.Spec.Restart.Policy)
	t.report(topics.ServiceFinished, t.Why)
}

func handleCrash(t *transition) {
	t.do(forget{})
	if t.CannotStart {
		t.next = failed{message: t.Why, atLeast: noStartDelay, cannotStart: true}
		return
	}
	why := t.Why
	if t.Then == thenEnded && t.ExitCode != nil && *t.ExitCode == 0 && t.now.Sub(t.Run.Started) < stableTime {
		why += foregroundHint
	}
	t.next = failed{message: why}
}

// foregroundHint follows the reason of a service that ends with code 0 and is started
// again and again.
const foregroundHint = " (a service stays in the foreground: without & or an option like --daemon; one that ends when its work is done is oneshot = true)"

// failOnThisDomain makes the instance failed at once, as it cannot start on this
// domain, so that another domain is tried. It is retried here as after a crash: the
// cause may go away. The lines of a former life are not quoted.
func failOnThisDomain(t *transition) {
	wait, message := t.wait, eventOf[failed](t).message
	if t.Failing {
		wait = failedRetry
	}
	repeated := t.State == topics.Failed && t.Message == message
	t.Retry = t.now.Add(wait)
	t.setState(topics.Failed, message)
	if !repeated {
		t.report(topics.ServiceFailed, t.withNextTry())
	}
}

// waitForDisk retries once soon, and then at each diskRetry until the disk answers.
// That does not count as failures, and is reported once.
func waitForDisk(t *transition) {
	message := eventOf[failed](t).message
	if t.State == topics.Backoff && t.Message == message {
		t.Retry = t.now.Add(diskRetry)
		return
	}
	t.Retry = t.now.Add(noStartDelay)
	t.setState(topics.Backoff, message)
	t.report(topics.ServiceCrashed, t.withNextTry())
}

func setFailed(t *transition) {
	t.Retry = t.now.Add(failedRetry)
	t.setState(topics.Failed, eventOf[failed](t).message+"; it failed too often")
	t.do(quote{})
}

func startAtOnce(t *transition) {
	t.Retry = t.now
	t.report(topics.ServiceCrashed, eventOf[failed](t).message+"; started again")
	t.do(start{})
}

func backOff(t *transition) {
	t.Retry = t.now.Add(t.wait)
	t.setState(topics.Backoff, eventOf[failed](t).message)
	t.report(topics.ServiceCrashed, t.withNextTry())
}

// withNextTry returns the message with the time until the next try, for an event.
// The state itself is retained and has the time of that instead.
func (t *transition) withNextTry() string {
	head, lines, more := strings.Cut(t.Message, "\n")
	head += "; next try in " + formatDuration(t.Retry.Sub(t.now))
	if more {
		head += "\n" + lines
	}
	return head
}

func quoteFailure(t *transition) {
	t.quote()
	t.report(topics.ServiceFailed, t.withNextTry())
}

// quote adds the last lines to the message.
func (t *transition) quote() {
	if lines := eventOf[quoted](t).lines; len(lines) > 0 {
		t.Message += "\n" + strings.Join(lines, "\n")
	}
}

func retryNow(t *transition) {
	t.Retry = time.Time{}
	t.do(start{})
}

func sendKill(t *transition) {
	if !t.Killed {
		t.Killed, t.StopSent = true, true
		t.Why += "; killed, because it did not end within " + formatDuration(t.stopTimeout())
	}
	t.Kill = t.now.Add(killInterval)
	t.Message = "stopping: " + t.Why
	t.do(send{kill: true})
}

func stopNotReady(t *transition) {
	why := "it was not ready within " + formatDuration(t.startTimeout())
	if t.LastCheckError != "" {
		why += ": " + t.LastCheckError + " (raise start_timeout if it needs longer, for example to compile)"
	}
	t.stop(thenFailed, why)
}
