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

// run does what the table says of an event, and of those that follow from it.
// fits, if not nil, hears which rows it were.
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

// match finds the first row of the table that fits; -1: nothing is to be done.
func match(t *transition) int {
	return slices.IndexFunc(table, func(r rule) bool {
		return r.on(t.event) && (r.in == nil || slices.Contains(r.in, t.State)) && (r.when == nil || r.when(t))
	})
}

// rule is a row of the table.
type rule struct {
	// What happens.
	on func(event) bool
	// Nil: whatever state it is in.
	in []topics.State
	// Nil: always.
	when func(*transition) bool
	// The row in words.
	description string
	do          func(*transition)
}

// The states, as the table needs them.
var (
	anyState            []topics.State
	notPresent          = []topics.State{"", topics.Pending, topics.Stopped} // nothing of it is here
	inPending           = []topics.State{topics.Pending}
	inWaiting           = []topics.State{topics.Backoff, topics.Failed, topics.Finished} // it ended by itself
	inRetry             = []topics.State{topics.Backoff, topics.Failed}                  // and is tried again
	inStarting          = []topics.State{topics.Starting}                                // it lives, and is not ready
	inRunning           = []topics.State{topics.Running}                                 // it lives, and is ready
	inStartingOrRunning = []topics.State{topics.Starting, topics.Running}                //
	inStopping          = []topics.State{topics.Stopping}                                // it was told to end
	inBackoff           = []topics.State{topics.Backoff}
	inStopped           = []topics.State{topics.Stopped}
)

// The table: the first row that fits counts, and an event without one changes
// nothing more. Each row is played by a transcript in testdata.
var table = []rule{
	// The start command holds the service. Only another revision restarts what
	// lives; anything else is taken over as it is.
	{is[wanted], notPresent, nil, "it begins", startFirst},
	{is[wanted], inStopping, stoppingForGoodOrChanged, "it starts when nothing is left of it", startWhenStopped},
	{is[wanted], inStartingOrRunning, revisionChanged, "another revision replaces it", stopForRevision},
	{is[wanted], inStartingOrRunning, checkChanged, "another check is taken over", (*transition).restartChecks},
	// What was refused gets a fresh chance, too: not all that can be refused is
	// in a revision.
	{is[wanted], inWaiting, changedOrRefused, "another command gets a fresh chance", startWithReset},
	{is[wanted], inBackoff, restartPolicyChanged, "a shorter wait counts at once", retrySooner},

	// The start command holds it in a form that this domain does not obey.
	{is[refused], anyState, alreadyRefused, "it was said already", noAction},
	{is[refused], anyState, isAlive, "what lives, lives on as it is", setRefused},
	{is[refused], anyState, nil, "it waits for another command", failAsRefused},

	// The start command does not hold it.
	{is[unwanted], inStartingOrRunning, nil, "it is stopped", stopUnwanted},
	{is[unwanted], inStopping, nil, "it does not start again", stopForGood},
	{is[unwanted], inStopped, nil, "it is stopped already", noAction},
	{is[unwanted], anyState, nil, "there is nothing to stop", setStopped},

	// Somebody asked for a restart.
	{is[restart], inStartingOrRunning, nil, "it is stopped, and starts again", stopForRestart},
	{is[restart], inStopping, nil, "it starts when nothing is left of it", restartWhenStopped},
	{is[restart], anyState, nil, "it starts at once", startWithReset},

	// A life begins.
	{is[started], anyState, nil, "its process runs", beginLife},
	{is[notStarted], anyState, nil, "there is no process", handleNotStarted},
	{is[adopted], anyState, wasFinished, "it had ended before this agent", adoptFinished},
	{is[adopted], anyState, wasStopping, "it goes on stopping", adoptStopping},
	{is[adopted], anyState, wasReady, "it goes on, ready", adoptRunning},
	{is[adopted], anyState, nil, "it goes on starting", adoptStarting},

	// What is exclusive runs under a lease alone.
	{is[leased], inPending, isWanted, "it begins", startNow},
	{is[unleased], inPending, nil, "it goes on waiting", keepWaitingForLease},
	{is[unleased], anyState, nil, "it waits for a lease", waitForLease},
	{is[unguarded], inStartingOrRunning, nil, "nobody would end it in time", stopUnguarded},
	{is[tick], inStartingOrRunning, leaseOver, "its lease is over", stopUnleased},

	// A life ends. Its leader may leave others behind.
	{is[exited], inStopping, leftoversNotSignalled, "the others end before it counts", stopLeftovers},
	{is[exited], inStopping, hasLeftovers, "the others are on their way out", noAction},
	{is[exited], anyState, hasLeftovers, "the others end before it counts", stopLeftovers},
	{is[exited], anyState, startsAgain, "the next life begins", startNow},
	{is[exited], anyState, stopRequested, "it is stopped, as told", finishStopped},
	{is[exited], anyState, notWanted, "adopted, and no start command since: that one decides", finishUncommanded},
	{is[exited], anyState, policyEnds, "its restart policy lets it be", setFinished},
	{is[exited], anyState, nil, "it crashed", handleCrash},

	// It crashed or did not start.
	{is[failed], anyState, diskHangs, "it waits for the disk, as long as that takes", waitForDisk},
	{is[failed], anyState, cannotStartHere, "it is shown at once, so that it is tried elsewhere", failOnThisDomain},
	{is[failed], anyState, crashedTooOften, "it is tried only now and then", setFailed},
	{is[failed], anyState, noDelay, "it starts at once", startAtOnce},
	{is[failed], anyState, nil, "it waits", backOff},
	{is[quoted], inRunning, nil, "its last lines are shown, and it is stopped", stopAfterWatchdog},
	{is[quoted], anyState, nil, "its last lines are shown", quoteFailure},

	// It says how it is, or is asked.
	{is[notified], inStartingOrRunning, notifiesStopping, "it ends by itself", stopByNotify},
	{is[notified], inRunning, watchdogTriggered, "its watchdog barks by its own wish", failTriggeredWatchdog},
	{is[notified], inStarting, notifiesReady, "it is ready", readyByNotify},
	{is[notified], inStartingOrRunning, nil, "its word is taken", applyNotify},
	{is[notified], inStopping, extendsTimeout, "it has more time to end", extendStop},
	{is[checked], anyState, noActiveCheck, "that check is not wanted any more", noAction},
	{is[checked], inStarting, checkPassed, "it is ready", readyByCheck},
	{is[checked], inStarting, nil, "it is asked again, less and less often", checkAgainSoon},
	{is[checked], inRunning, checkRecovered, "it is healthy again", becomeHealthy},
	{is[checked], inRunning, checkPassed, "it is well", stayHealthy},
	{is[checked], inRunning, tooManyFailedChecks, "it is unhealthy", becomeUnhealthy},
	{is[checked], inRunning, nil, "it may be a slip", scheduleCheck},

	// Its topic speaks. A word is a word: none has to be said three times. While
	// nobody can hear it, what it said last stands: a home without its hub goes on.
	{is[topicMessage], anyState, noTopicCheck, "that topic is not wanted any more", noAction},
	{is[topicMessage], inStarting, retainedBeforeStart, "what was said before its start says nothing", noAction},
	{is[topicMessage], inStarting, payloadMatches, "it is ready", (*transition).ready},
	{is[topicMessage], inStarting, nil, "it is not ready yet", waitForPayload},
	{is[topicMessage], inRunning, topicCleared, "nobody knows how it is", healthUnknown},
	{is[topicMessage], inRunning, becameUnhealthy, "it is unhealthy", unhealthyByTopic},
	{is[topicMessage], inRunning, becameHealthy, "it is healthy again", healthyByTopic},
	{is[topicSubscribed], inStarting, subscriptionRefused, "nobody will know when it is ready", showTopicProblem},
	{is[topicSubscribed], inRunning, subscriptionRefused, "nobody knows how it is", showTopicProblem},

	// Time goes by.
	{is[tick], inRetry, retryDue, "it is tried again", retryNow},
	{is[tick], inStopping, killDue, "what ignores SIGTERM is killed", sendKill},
	{is[tick], inStarting, readyWithoutCheck, "without a check it is ready", (*transition).ready},
	{is[tick], inStarting, startTimedOut, "it took too long to be ready", stopNotReady},
	{is[tick], inRunning, watchdogDelayed, "it may have spoken while we were held up", rearmWatchdog},
	{is[tick], inRunning, watchdogExpired, "its watchdog heard nothing", failSilentWatchdog},
	{is[tick], inStartingOrRunning, checkDue, "it is asked how it is", startCheck},
}

func is[E event](ev event) bool {
	_, ok := ev.(E)
	return ok
}
