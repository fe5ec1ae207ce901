package supervisor

import (
	"slices"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// step is the whole behaviour of a service on a domain: what happens to it
// and what follows. It does no I/O and reads no clock. What is done is looked
// up in the table below; the conditions are in conditions.go, how it is done in
// transitions.go.
func step(in instance, ev event, now time.Time) (instance, []effect) {
	t := transition{instance: &in, now: now}
	t.run(ev, nil)
	return in, t.effects
}

// run does what the table has for an event, and for those that follow from it.
// fits, if not nil, is called with each row that matched.
func (t *transition) run(ev event, fits func(row int)) {
	for t.event = ev; t.event != nil; t.event, t.next = t.next, nil {
		t.applyEvent()
		row := match(t)
		if row < 0 {
			continue
		}
		if fits != nil {
			fits(row)
		}
		table[row].do(t)
	}
}

// match returns the first row of the table that matches; -1 if there is none.
func match(t *transition) int {
	return slices.IndexFunc(table, func(r rule) bool {
		return r.on(t.event) && (r.in == nil || slices.Contains(r.in, t.State)) && (r.when == nil || r.when(t))
	})
}

// rule is a row of the table.
type rule struct {
	// on is the kind of event.
	on func(event) bool
	// in are the states of the instance; nil: any.
	in []topics.State
	// when is a further condition; nil: none.
	when func(*transition) bool
	// description is for people, such as readers of a failed test.
	description string
	do          func(*transition)
}

// The states, as the table needs them.
var (
	anyState            []topics.State
	notPresent          = []topics.State{"", topics.Pending, topics.Stopped} // it has no processes and is not to be retried
	inPending           = []topics.State{topics.Pending}
	inWaiting           = []topics.State{topics.Backoff, topics.Failed, topics.Finished} // it ended by itself
	inRetry             = []topics.State{topics.Backoff, topics.Failed}                  // and is started again later
	inStarting          = []topics.State{topics.Starting}                                // its processes run, and it is not ready
	inRunning           = []topics.State{topics.Running}                                 // it is ready
	inStartingOrRunning = []topics.State{topics.Starting, topics.Running}
	inStopping          = []topics.State{topics.Stopping} // its end was requested
	inBackoff           = []topics.State{topics.Backoff}
	inStopped           = []topics.State{topics.Stopped}
)

// The table: the first row that matches counts, and an event without one changes
// nothing more. Each row is covered by a transcript in testdata.
var table = []rule{
	// The start command has the service. Only another revision restarts what runs;
	// any other change is taken over without a restart.
	{is[wanted], notPresent, nil, "it starts for the first time", startFirst},
	{is[wanted], inStopping, stoppingForGoodOrChanged, "it starts again when it has stopped", startWhenStopped},
	{is[wanted], inStartingOrRunning, revisionChanged, "another revision replaces it", stopForRevision},
	{is[wanted], inStartingOrRunning, checkChanged, "another check is taken over", (*transition).restartChecks},
	// One that was refused starts again, too: not everything that can be refused is
	// part of the revision.
	{is[wanted], inWaiting, changedOrRefused, "it starts by another command, and its failures are forgotten", startWithReset},
	{is[wanted], inBackoff, restartPolicyChanged, "a shorter delay takes effect at once", retrySooner},

	// The start command has it with values that this domain refuses.
	{is[refused], anyState, alreadyRefused, "it was refused for the same reason before", noAction},
	{is[refused], anyState, isAlive, "what runs goes on with the former values", setRefused},
	{is[refused], anyState, nil, "it waits for another command", failAsRefused},

	// The start command does not have it.
	{is[unwanted], inStartingOrRunning, nil, "it is stopped", stopUnwanted},
	{is[unwanted], inStopping, nil, "it does not start again", stopForGood},
	{is[unwanted], inStopped, nil, "it is stopped already", noAction},
	{is[unwanted], anyState, nil, "there is nothing to stop", setStopped},

	// Somebody asked for a restart.
	{is[restart], inStartingOrRunning, nil, "it is stopped, and starts again", stopForRestart},
	{is[restart], inStopping, nil, "it starts again when it has stopped", restartWhenStopped},
	{is[restart], anyState, nil, "it starts at once", startWithReset},

	// It starts.
	{is[started], anyState, nil, "its process was started", beginLife},
	{is[notStarted], anyState, nil, "its process could not be started", handleNotStarted},
	{is[adopted], anyState, wasFinished, "it had ended before this agent", adoptFinished},
	{is[adopted], anyState, wasStopping, "it goes on stopping", adoptStopping},
	{is[adopted], anyState, wasReady, "it goes on running", adoptRunning},
	{is[adopted], anyState, nil, "it goes on starting", adoptStarting},

	// An exclusive service runs only under a lease.
	{is[leased], inPending, isWanted, "it starts", startNow},
	{is[unleased], inPending, nil, "it goes on waiting", keepWaitingForLease},
	{is[unleased], anyState, nil, "it waits for a lease", waitForLease},
	{is[unguarded], inStartingOrRunning, nil, "without a guard nothing would end it in time", stopUnguarded},
	{is[tick], inStartingOrRunning, leaseOver, "its lease has expired", stopUnleased},

	// Its main process ends. Others of it may be left.
	{is[exited], inStopping, leftoversNotSignalled, "what is left is stopped first", stopLeftovers},
	{is[exited], inStopping, hasLeftovers, "what is left was signalled already", noAction},
	{is[exited], anyState, hasLeftovers, "what is left is stopped first", stopLeftovers},
	{is[exited], anyState, startsAgain, "it starts again", startNow},
	{is[exited], anyState, stopRequested, "it is stopped, as requested", finishStopped},
	{is[exited], anyState, notWanted, "it was adopted, and no start command came since: that decides", finishUncommanded},
	{is[exited], anyState, policyEnds, "its restart policy does not start it again", setFinished},
	{is[exited], anyState, nil, "it crashed", handleCrash},

	// It crashed or could not be started.
	{is[failed], anyState, diskHangs, "it waits for the disk, as long as that takes", waitForDisk},
	{is[failed], anyState, cannotStartHere, "it is failed at once, so that another domain is tried", failOnThisDomain},
	{is[failed], anyState, crashedTooOften, "it is failed, and retried rarely", setFailed},
	{is[failed], anyState, noDelay, "it starts at once", startAtOnce},
	{is[failed], anyState, nil, "it is retried after a delay", backOff},
	{is[quoted], inRunning, nil, "its last lines are shown, and it is stopped", stopAfterWatchdog},
	{is[quoted], anyState, nil, "its last lines are shown", quoteFailure},

	// Notifications of the service, and results of checks.
	{is[notified], inStartingOrRunning, notifiesStopping, "it ends by itself", stopByNotify},
	{is[notified], inRunning, watchdogTriggered, "it triggers its watchdog itself", failTriggeredWatchdog},
	{is[notified], inStarting, notifiesReady, "it is ready", readyByNotify},
	{is[notified], inStartingOrRunning, nil, "its notification is taken over", applyNotify},
	{is[notified], inStopping, extendsTimeout, "it has more time to end", extendStop},
	{is[checked], anyState, noActiveCheck, "that check is no longer configured", noAction},
	{is[checked], inStarting, checkPassed, "it is ready", readyByCheck},
	{is[checked], inStarting, nil, "it is checked again, at growing intervals", checkAgainSoon},
	{is[checked], inRunning, checkRecovered, "it is healthy again", becomeHealthy},
	{is[checked], inRunning, checkPassed, "it stays healthy", stayHealthy},
	{is[checked], inRunning, tooManyFailedChecks, "it is unhealthy", becomeUnhealthy},
	{is[checked], inRunning, nil, "a single failed check does not count yet", scheduleCheck},

	// A message on its health topic. It counts at once, unlike a failed check. While
	// the topic is not subscribed to, the last value stays in force: a home goes on
	// without its hub.
	{is[topicMessage], anyState, noTopicCheck, "that topic is no longer configured", noAction},
	{is[topicMessage], inStarting, retainedBeforeStart, "a value retained before its start does not count", noAction},
	{is[topicMessage], inStarting, payloadMatches, "it is ready", (*transition).ready},
	{is[topicMessage], inStarting, nil, "it is not ready yet", waitForPayload},
	{is[topicMessage], inRunning, topicCleared, "its health is unknown", healthUnknown},
	{is[topicMessage], inRunning, becameUnhealthy, "it is unhealthy", unhealthyByTopic},
	{is[topicMessage], inRunning, becameHealthy, "it is healthy again", healthyByTopic},
	{is[topicSubscribed], inStarting, subscriptionRefused, "it cannot become ready", showTopicProblem},
	{is[topicSubscribed], inRunning, subscriptionRefused, "its health is unknown", showTopicProblem},

	// Something is due.
	{is[tick], inRetry, retryDue, "it is started again", retryNow},
	{is[tick], inStopping, killDue, "what ignored SIGTERM is killed", sendKill},
	{is[tick], inStarting, readyWithoutCheck, "without a check it is ready", (*transition).ready},
	{is[tick], inStarting, startTimedOut, "it took too long to be ready", stopNotReady},
	{is[tick], inRunning, watchdogDelayed, "it may have notified while this loop was delayed", rearmWatchdog},
	{is[tick], inRunning, watchdogExpired, "its watchdog has expired", failSilentWatchdog},
	{is[tick], inStartingOrRunning, checkDue, "a check is due", startCheck},
}

func is[E event](ev event) bool {
	_, ok := ev.(E)
	return ok
}
