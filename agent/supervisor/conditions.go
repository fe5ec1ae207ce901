package supervisor

import (
	"maps"
	"reflect"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// The conditions of the table.

func (m *move) reached(t time.Time) bool { return !t.IsZero() && !m.now.Before(t) }

func changed(m *move) bool { return m.Spec.Revision != m.Run.Revision }
func changedOrRefusedBefore(m *move) bool {
	return changed(m) || m.refused || !maps.Equal(m.before.Versions, m.Spec.Versions)
}
func endsForGoodOrChanged(m *move) bool { return m.Then == thenStopped || changed(m) }
func checkedOtherwise(m *move) bool     { return !reflect.DeepEqual(m.before.Health, m.Spec.Health) }
func restartedOtherwise(m *move) bool   { return m.before.Restart != m.Spec.Restart }
func saidBefore(m *move) bool           { return m.Refused == of[refused](m).message }
func isAlive(m *move) bool              { return m.State.Alive() }
func wasFinished(m *move) bool          { return of[adopted](m).finished }
func wasStopping(m *move) bool          { return of[adopted](m).stopping != nil }
func wasReady(m *move) bool             { return !m.Run.Ready.IsZero() || m.check() == noCheck }
func left(m *move) bool                 { return of[exited](m).left }
func leftUntold(m *move) bool           { return left(m) && !m.Told }
func startsAgain(m *move) bool          { return m.Then == thenStart && m.Wanted }
func toldToEnd(m *move) bool            { return m.Then == thenStopped || m.Then == thenStart }
func nobodyWants(m *move) bool          { return !m.Wanted }
func tooOften(m *move) bool             { return m.Failing }
func cannotStartHere(m *move) bool      { return of[failed](m).elsewhere }
func diskHangs(m *move) bool            { return of[failed](m).hung }
func noDelay(m *move) bool              { return m.wait == 0 }
func saysReady(m *move) bool            { return of[notified](m).ready && m.check() == notifyCheck }
func saysStopping(m *move) bool         { return of[notified](m).stopping }
func triggers(m *move) bool             { return of[notified](m).trigger && m.Run.Watchdog > 0 }
func noActiveCheck(m *move) bool        { return !m.check().active() }
func good(m *move) bool                 { return of[checked](m).ok }
func goodAgain(m *move) bool            { return good(m) && m.Health == topics.Unhealthy }
func retryDue(m *move) bool             { return m.reached(m.Retry) }
func killDue(m *move) bool              { return m.reached(m.Kill) }
func settled(m *move) bool              { return m.check() == noCheck && m.reached(m.readyBy()) }
func tooSlow(m *move) bool              { return m.reached(m.readyBy()) }
func checkDue(m *move) bool             { return !m.Checking && m.reached(m.CheckAt) }

func barkDue(m *move) bool  { return m.reached(m.BarkAt) }
func barkLate(m *move) bool { return barkDue(m) && m.now.Sub(m.BarkAt) > ownDelay }

func isWanted(m *move) bool  { return m.Wanted }
func leaseOver(m *move) bool { return m.reached(m.Run.LeaseEnd) }

func noTopic(m *move) bool         { return m.check() != mqttCheck }
func saidBeforeStart(m *move) bool { return of[told](m).stored && !of[told](m).missed }
func saysNothing(m *move) bool     { return of[told](m).payload == "" } // the topic was cleared
func saysWell(m *move) bool        { return of[told](m).payload == m.Spec.Health.Payload }
func saysWellAnew(m *move) bool    { return saysWell(m) && m.Health != topics.Healthy }
func saysIllAnew(m *move) bool     { return !saysWell(m) && m.Message != m.theWord() }
func mayNotListen(m *move) bool    { return of[listening](m).problem != "" && m.check() == mqttCheck }

// extends: never what runs under a lease, which somebody else counts on.
func extends(m *move) bool { return of[notified](m).extend > 0 && !m.Killed && !m.Spec.Exclusive }

func policyEnds(m *move) bool {
	switch m.Spec.Restart.Policy {
	case topics.RestartNever:
		return true
	case topics.RestartOnFailure:
		return m.Then == thenEnded && m.ExitCode != nil && *m.ExitCode == 0
	}
	return false
}

// oneTooMany is of the misses of a check that is asked while it was well.
func oneTooMany(m *move) bool {
	_, _, failures := m.checkTimes()
	return m.Misses+1 >= failures && m.Health != topics.Unhealthy
}
