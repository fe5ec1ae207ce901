package supervisor

import (
	"slices"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// step is the whole behaviour of a service on a domain: what happens to it
// and what follows. It does no I/O and reads no clock. What is done is looked
// up in the table below; the conditions are in conditions.go, how it is done in
// moves.go.
func step(in instance, ev event, now time.Time) (instance, []effect) {
	m := move{instance: &in, now: now}
	m.run(ev, nil)
	return in, m.effects
}

// run does what the table says of an event, and of those that follow from it.
// fits, if not nil, hears which rows it were.
func (m *move) run(ev event, fits func(row int)) {
	for m.event = ev; m.event != nil; m.event, m.next = m.next, nil {
		m.note()
		row := match(m)
		if row < 0 {
			continue
		}
		if fits != nil {
			fits(row)
		}
		table[row].do(m)
	}
}

// match finds the first row of the table that fits; -1: nothing is to be done.
func match(m *move) int {
	return slices.IndexFunc(table, func(r rule) bool {
		return r.on(m.event) && (r.in == nil || slices.Contains(r.in, m.State)) && (r.when == nil || r.when(m))
	})
}

// rule is a row of the table.
type rule struct {
	on   func(event) bool // what happens
	in   []topics.State   // nil: whatever state it is in
	when func(*move) bool // nil: always
	says string           // the row in words
	do   func(*move)
}

// The states, as the table needs them.
var (
	anywhere  []topics.State
	absent    = []topics.State{"", topics.Pending, topics.Stopped} // nothing of it is here
	pending   = []topics.State{topics.Pending}
	waiting   = []topics.State{topics.Backoff, topics.Failed, topics.Finished} // it ended by itself
	retrying  = []topics.State{topics.Backoff, topics.Failed}                  // and is tried again
	starting  = []topics.State{topics.Starting}                                // it lives, and is not ready
	running   = []topics.State{topics.Running}                                 // it lives, and is ready
	living    = []topics.State{topics.Starting, topics.Running}                //
	leaving   = []topics.State{topics.Stopping}                                // it was told to end
	inBackoff = []topics.State{topics.Backoff}
	stopped   = []topics.State{topics.Stopped}
)

// The table: the first row that fits counts, and an event without one changes
// nothing more. Each row is played by a transcript in testdata.
var table = []rule{
	// The start command holds the service. Only another revision restarts what
	// lives; anything else is taken over as it is.
	{is[wanted], absent, nil, "it begins", begin},
	{is[wanted], leaving, endsForGoodOrChanged, "it starts when nothing is left of it", startAfterwards},
	{is[wanted], living, changed, "another revision replaces it", replace},
	{is[wanted], living, checkedOtherwise, "another check is taken over", (*move).checkAnew},
	// What was refused gets a fresh chance, too: not all that can be refused is
	// in a revision.
	{is[wanted], waiting, changedOrRefusedBefore, "another command gets a fresh chance", startAfresh},
	{is[wanted], inBackoff, restartedOtherwise, "a shorter wait counts at once", retrySooner},

	// The start command holds it in a form that this domain does not obey.
	{is[refused], anywhere, saidBefore, "it was said already", nothing},
	{is[refused], anywhere, isAlive, "what lives, lives on as it is", refuse},
	{is[refused], anywhere, nil, "it waits for another command", failRefused},

	// The start command does not hold it.
	{is[unwanted], living, nil, "it is stopped", stopUnwanted},
	{is[unwanted], leaving, nil, "it does not start again", stopForGood},
	{is[unwanted], stopped, nil, "it is stopped already", nothing},
	{is[unwanted], anywhere, nil, "there is nothing to stop", forgetIt},

	// Somebody asked for a restart.
	{is[restart], living, nil, "it is stopped, and starts again", restartIt},
	{is[restart], leaving, nil, "it starts when nothing is left of it", restartAfterwards},
	{is[restart], anywhere, nil, "it starts at once", startAfresh},

	// A life begins.
	{is[started], anywhere, nil, "its process runs", live},
	{is[notStarted], anywhere, nil, "there is no process", failToStart},
	{is[adopted], anywhere, wasFinished, "it had ended before this agent", stayFinished},
	{is[adopted], anywhere, wasStopping, "it goes on stopping", goOnStopping},
	{is[adopted], anywhere, wasReady, "it goes on, ready", goOnRunning},
	{is[adopted], anywhere, nil, "it goes on starting", goOnStarting},

	// What is exclusive runs under a lease alone.
	{is[leased], pending, isWanted, "it begins", startNext},
	{is[unleased], pending, nil, "it goes on waiting", waitOn},
	{is[unleased], anywhere, nil, "it waits for a lease", waitForLease},
	{is[unguarded], living, nil, "nobody would end it in time", stopUnguarded},
	{is[tick], living, leaseOver, "its lease is over", stopUnleased},

	// A life ends. Its leader may leave others behind.
	{is[exited], leaving, leftUntold, "the others end before it counts", stopTheOthers},
	{is[exited], leaving, left, "the others are on their way out", nothing},
	{is[exited], anywhere, left, "the others end before it counts", stopTheOthers},
	{is[exited], anywhere, startsAgain, "the next life begins", startNext},
	{is[exited], anywhere, toldToEnd, "it is stopped, as told", beStopped},
	{is[exited], anywhere, nobodyWants, "adopted, and no start command since: that one decides", beStoppedUnasked},
	{is[exited], anywhere, policyEnds, "its restart policy lets it be", finish},
	{is[exited], anywhere, nil, "it crashed", crash},

	// It crashed or did not start.
	{is[failed], anywhere, diskHangs, "it waits for the disk, as long as that takes", waitForDisk},
	{is[failed], anywhere, cannotStartHere, "it is shown at once, so that it is tried elsewhere", failHere},
	{is[failed], anywhere, tooOften, "it is tried only now and then", giveUp},
	{is[failed], anywhere, noDelay, "it starts at once", startAtOnce},
	{is[failed], anywhere, nil, "it waits", backOff},
	{is[quoted], running, nil, "its last lines are shown, and it is stopped", stopSilent},
	{is[quoted], anywhere, nil, "its last lines are shown", quoteFailure},

	// It says how it is, or is asked.
	{is[notified], living, saysStopping, "it ends by itself", endByItself},
	{is[notified], running, triggers, "its watchdog barks by its own wish", barkAsTold},
	{is[notified], starting, saysReady, "it is ready", readyByItsWord},
	{is[notified], living, nil, "its word is taken", takeWord},
	{is[notified], leaving, extends, "it has more time to end", extendStop},
	{is[checked], anywhere, noActiveCheck, "that check is not wanted any more", nothing},
	{is[checked], starting, good, "it is ready", readyByCheck},
	{is[checked], starting, nil, "it is asked again, less and less often", askAgain},
	{is[checked], running, goodAgain, "it is healthy again", getWell},
	{is[checked], running, good, "it is well", stayWell},
	{is[checked], running, oneTooMany, "it is unhealthy", sicken},
	{is[checked], running, nil, "it may be a slip", askLater},

	// Its topic speaks. A word is a word: none has to be said three times. While
	// nobody can hear it, what it said last stands: a home without its hub goes on.
	{is[told], anywhere, noTopic, "that topic is not wanted any more", nothing},
	{is[told], starting, saidBeforeStart, "what was said before its start says nothing", nothing},
	{is[told], starting, saysWell, "it is ready", (*move).ready},
	{is[told], starting, nil, "it is not ready yet", waitForWord},
	{is[told], running, saysNothing, "nobody knows how it is", doubt},
	{is[told], running, saysIllAnew, "it is unhealthy", sickenByWord},
	{is[told], running, saysWellAnew, "it is healthy again", getWellByWord},
	{is[listening], starting, mayNotListen, "nobody will know when it is ready", showProblem},
	{is[listening], running, mayNotListen, "nobody knows how it is", showProblem},

	// Time goes by.
	{is[tick], retrying, retryDue, "it is tried again", tryAgain},
	{is[tick], leaving, killDue, "what ignores SIGTERM is killed", kill},
	{is[tick], starting, settled, "without a check it is ready", (*move).ready},
	{is[tick], starting, tooSlow, "it took too long to be ready", giveUpStarting},
	{is[tick], running, barkLate, "it may have spoken while we were held up", petWatchdog},
	{is[tick], running, barkDue, "its watchdog heard nothing", bark},
	{is[tick], living, checkDue, "it is asked how it is", ask},
}

func is[E event](ev event) bool {
	_, ok := ev.(E)
	return ok
}
