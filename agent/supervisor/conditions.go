package supervisor

import (
	"maps"
	"reflect"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// The conditions of the table.

func (t *transition) reached(at time.Time) bool { return !at.IsZero() && !t.now.Before(at) }

func revisionChanged(t *transition) bool { return t.Spec.Revision != t.Run.Revision }
func changedOrRefused(t *transition) bool {
	return revisionChanged(t) || t.refused || !maps.Equal(t.before.Versions, t.Spec.Versions)
}

func stoppingForGoodOrChanged(t *transition) bool { return t.Then == thenStopped || revisionChanged(t) }

func checkChanged(t *transition) bool          { return !reflect.DeepEqual(t.before.Health, t.Spec.Health) }
func restartPolicyChanged(t *transition) bool  { return t.before.Restart != t.Spec.Restart }
func alreadyRefused(t *transition) bool        { return t.Refused == eventOf[refused](t).message }
func isAlive(t *transition) bool               { return t.State.Alive() }
func wasFinished(t *transition) bool           { return eventOf[adopted](t).finished }
func wasStopping(t *transition) bool           { return eventOf[adopted](t).stopping != nil }
func wasReady(t *transition) bool              { return !t.Run.Ready.IsZero() || t.check() == noCheck }
func hasLeftovers(t *transition) bool          { return eventOf[exited](t).leftovers }
func leftoversNotSignalled(t *transition) bool { return hasLeftovers(t) && !t.StopSent }
func startsAgain(t *transition) bool           { return t.Then == thenStart && t.Wanted }
func stopRequested(t *transition) bool         { return t.Then == thenStopped || t.Then == thenStart }
func notWanted(t *transition) bool             { return !t.Wanted }
func crashedTooOften(t *transition) bool       { return t.Failing }
func cannotStartHere(t *transition) bool       { return eventOf[failed](t).cannotStart }
func diskHangs(t *transition) bool             { return eventOf[failed](t).hung }
func noDelay(t *transition) bool               { return t.wait == 0 }
func notifiesReady(t *transition) bool         { return eventOf[notified](t).ready && t.check() == notifyCheck }
func notifiesStopping(t *transition) bool      { return eventOf[notified](t).stopping }
func watchdogTriggered(t *transition) bool     { return eventOf[notified](t).trigger && t.Run.Watchdog > 0 }
func noActiveCheck(t *transition) bool         { return !t.check().active() }
func checkPassed(t *transition) bool           { return eventOf[checked](t).ok }
func checkRecovered(t *transition) bool        { return checkPassed(t) && t.Health == topics.Unhealthy }
func retryDue(t *transition) bool              { return t.reached(t.Retry) }
func killDue(t *transition) bool               { return t.reached(t.Kill) }
func readyWithoutCheck(t *transition) bool     { return t.check() == noCheck && t.reached(t.readyBy()) }
func startTimedOut(t *transition) bool         { return t.reached(t.readyBy()) }
func checkDue(t *transition) bool              { return !t.Checking && t.reached(t.CheckAt) }

func watchdogExpired(t *transition) bool { return t.reached(t.WatchdogDue) }
func watchdogDelayed(t *transition) bool {
	return watchdogExpired(t) && t.now.Sub(t.WatchdogDue) > maxLoopDelay
}

func isWanted(t *transition) bool  { return t.Wanted }
func leaseOver(t *transition) bool { return t.reached(t.Run.LeaseEnd) }

func noTopicCheck(t *transition) bool { return t.check() != mqttCheck }
func retainedBeforeStart(t *transition) bool {
	return eventOf[topicMessage](t).retained && !eventOf[topicMessage](t).gap
}
func topicCleared(t *transition) bool { return eventOf[topicMessage](t).payload == "" } // the topic was cleared
func payloadMatches(t *transition) bool {
	return eventOf[topicMessage](t).payload == t.Spec.Health.Payload
}
func becameHealthy(t *transition) bool { return payloadMatches(t) && t.Health != topics.Healthy }
func becameUnhealthy(t *transition) bool {
	return !payloadMatches(t) && t.Message != t.payloadMessage()
}

func subscriptionRefused(t *transition) bool {
	return eventOf[topicSubscribed](t).problem != "" && t.check() == mqttCheck
}

// extendsTimeout reports whether a notification extends a timeout. That of an
// exclusive service does not: another domain relies on the end of its lease.
func extendsTimeout(t *transition) bool {
	return eventOf[notified](t).extend > 0 && !t.Killed && !t.Spec.Exclusive
}

func policyEnds(t *transition) bool {
	switch t.Spec.Restart.Policy {
	case topics.RestartNever:
		return true
	case topics.RestartOnFailure:
		return t.Then == thenEnded && t.ExitCode != nil && *t.ExitCode == 0
	}
	return false
}

// tooManyFailedChecks is of the misses of a check that is asked while it was well.
func tooManyFailedChecks(t *transition) bool {
	_, _, failures := t.checkTimes()
	return t.FailedChecks+1 >= failures && t.Health != topics.Unhealthy
}
