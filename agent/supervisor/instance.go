package supervisor

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// The times that are the same for all services; the others come with each.
const (
	readyAfter   = time.Second         // a service without a check is ready when it ran so long
	stableTime   = topics.RestartReset // ready for so long: what was before is forgiven
	killInterval = time.Second         // members may be born between two SIGKILLs
	maxLoopDelay = time.Second         // a watchdog that expired longer ago than this was not missed by the service: the loop was delayed
)

// instance is the state of one service on this domain. Only step changes it.
type instance struct {
	Service string
	Wanted  bool
	// Spec is the last one wanted.
	Spec topics.Spec

	State   topics.State
	Health  topics.Health
	Since   time.Time
	Message string
	// Refused is why the start command's entry is refused; empty: it is not.
	Refused  string
	ExitCode *int
	Restarts int

	// Run is the present life, or the last one.
	Run run

	// The following are used while stopping.

	// Then is what comes when no process is left.
	Then then
	// Why is the reason, for people.
	Why string
	// CannotStart reports that it cannot start on this domain as it is.
	CannotStart bool
	// Kill is when SIGKILL is due next.
	Kill time.Time
	// StopSent reports that SIGTERM was sent; else it ends by itself.
	StopSent bool
	// Killed reports that SIGKILL was sent.
	Killed bool

	// Retry is when it is started again, in backoff and failed; zero: never by itself.
	Retry time.Time
	// Tries is the number of failures in a row, which the delay depends on.
	Tries   int
	Crashes []time.Time
	// Failing reports that it crashed too often and has not been stable since.
	Failing bool

	// CheckAt is when the next check is due; zero: none is.
	CheckAt time.Time
	// CheckEvery is the time between checks while starting. It grows.
	CheckEvery time.Duration
	// Checking reports that a check is running.
	Checking bool
	// FailedChecks is the number of failed checks in a row.
	FailedChecks int
	// LastCheckError is why the last check failed, while starting.
	LastCheckError string
	// SubscribedSince is since when its health topic is subscribed to; zero: it is not.
	SubscribedSince time.Time
	// WatchdogDue is when its watchdog expires; zero: it has none that runs.
	WatchdogDue time.Time

	// Jitter is part of the state, so that a step is repeatable.
	Jitter rand.PCG
}

// run describes one life of a service: its processes from their start until the
// last of them has ended.
type run struct {
	// Token is its DOMINION_INSTANCE.
	Token string
	// PID is the leader of the process group; 0: no process is alive.
	PID int
	// Revision is the one that was started last, or was to be.
	Revision string
	Version  string
	Port     int
	Started  time.Time
	// Ready is when it became ready; zero: it has not.
	Ready time.Time
	// LeaseEnd is when the lease of an exclusive service expires.
	LeaseEnd time.Time
	Adopted  bool
	// Command reports that its service.toml has a health command.
	Command bool
	// Watchdog is the one in its environment; 0: none.
	Watchdog time.Duration
	// Extended is until when it asked for time to start.
	Extended time.Time
}

// then is the transition that follows stopping.
type then uint8

const (
	thenStopped then = iota // it is not wanted
	thenStart               // another revision is to start, or a restart was requested
	thenEnded               // it ended by itself: its restart policy decides
	thenFailed              // it was never ready, whatever its exit code
)

// stopping is what the next agent needs to know of an instance that is being stopped.
type stopping struct {
	Then then   `json:"then"`
	Why  string `json:"why"`
}

// event is something that happens to an instance.
type event interface{}

type (
	wanted   struct{ spec topics.Spec }
	unwanted struct{}
	restart  struct{}
	refused  struct { // the spec is refused
		spec    topics.Spec
		message string
	}
	started struct {
		run run
		// spec is completed by its service.toml.
		spec topics.Spec
	}
	notStarted struct {
		message string
		// soon is set where what it waits for comes by itself.
		soon bool
		// hung is set where data_dir does not answer.
		hung bool
	}
	failed struct { // it crashed or did not start: follows within the same step
		message string
		// atLeast is the least time before the next try.
		atLeast time.Duration
		// cannotStart is set where it cannot start here as things are: another domain is tried at once.
		cannotStart bool
		// hung is set where data_dir does not answer: that is no failure of the service.
		hung bool
	}
	exited struct {
		// code is the exit code; nil: unknown.
		code *int
		// message is such as "exited with code 1: bind: address already in use".
		message string
		// leftovers is set where members of its group are still there.
		leftovers bool
		// unstartable is set where its exit code or last line means that it cannot start on this domain.
		unstartable bool
	}
	checked struct {
		ok      bool
		message string
	}
	notified struct {
		ready, reloading, stopping bool
		// alive is set by WATCHDOG=1.
		alive bool
		// trigger is set by WATCHDOG=trigger: it found itself broken.
		trigger bool
		// extend is the time it needs to start or to stop, from now on; 0: what it has.
		extend time.Duration
		status string
	}
	topicMessage struct { // a message on its health topic
		payload string
		// gap is set where it was retained, and the agent was not subscribed all the time since the start.
		gap      bool
		retained bool
	}
	topicSubscribed struct { // its health topic is subscribed to, or no longer
		subscribed bool
		// problem is why not, if the owner must correct it.
		problem string
	}
	leased    struct{ until time.Time } // what it may run under
	unleased  struct{}                  // it may not start: there is no lease
	unguarded struct{ message string }  // nothing would end it with its lease
	guardLost struct{}                  // the Supervisor starts another
	quoted    struct{ lines []string }  // the last lines that a failed service wrote
	adopted   struct {
		spec     topics.Spec
		run      run
		restarts int
		since    time.Time
		finished bool
		exitCode *int
		// message is shown of one that has finished; "": that it ended before this agent.
		message string
		// stopping is set where it was being stopped.
		stopping *stopping
	}
	tick struct{}
)

// effect is something that a step wants done, in order.
type effect interface{}

type (
	start    struct{} // answered by started or notStarted before anything else
	send     struct{ kill bool }
	check    struct{}
	quote    struct{} // answered by quoted
	remember struct{} // keep on disk what the next agent needs to adopt it
	forget   struct{}
	report   struct {
		kind    topics.EventType
		message string
	}
)

// checkKind is the kind of an instance's health check.
type checkKind uint8

const (
	noCheck checkKind = iota
	httpCheck
	tcpCheck
	notifyCheck
	mqttCheck
	commandCheck
)

func (in *instance) check() checkKind {
	switch h := in.Spec.Health; {
	case h != nil && h.HTTP != "":
		return httpCheck
	case h != nil && h.TCP:
		return tcpCheck
	case h != nil && h.Notify:
		return notifyCheck
	case h != nil && h.MQTT != "":
		return mqttCheck
	case in.Run.Command:
		return commandCheck
	}
	return noCheck
}

// active reports whether the check is one that the agent makes.
func (k checkKind) active() bool { return k == httpCheck || k == tcpCheck || k == commandCheck }

// checkTimes returns the times of the check, with the defaults filled in.
func (in *instance) checkTimes() (interval, timeout time.Duration, failures int) {
	interval, timeout, failures = services.DefaultHealthInterval, services.DefaultHealthTimeout, services.DefaultHealthFailures
	if h := in.Spec.Health; h != nil {
		interval = orElse(h.Interval, interval)
		timeout = orElse(h.Timeout, timeout)
		if h.Failures > 0 {
			failures = h.Failures
		}
	}
	return interval, timeout, failures
}

func (in *instance) startTimeout() time.Duration {
	return orElse(in.Spec.StartTimeout, services.DefaultStartTimeout)
}

// readyBy returns when a starting instance becomes ready, if it has no check, or
// has taken too long; zero: unknown, as its topic is not subscribed to.
func (in *instance) readyBy() time.Time {
	from := in.Run.Started
	switch in.check() {
	case noCheck:
		return from.Add(readyAfter)
	case mqttCheck:
		if in.SubscribedSince.IsZero() {
			return time.Time{}
		}
		if in.SubscribedSince.After(from) {
			from = in.SubscribedSince
		}
	}
	by := from.Add(in.startTimeout())
	if in.Run.Extended.After(by) {
		by = in.Run.Extended
	}
	return by
}

func (in *instance) stopTimeout() time.Duration { return services.StopTimeout(in.Spec) }

func orElse(s topics.Seconds, otherwise time.Duration) time.Duration {
	if s > 0 {
		return s.Duration()
	}
	return otherwise
}

// due returns the moment at which a tick has something to do.
func (in *instance) due() (at time.Time) {
	sooner := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	switch in.State {
	case topics.Backoff, topics.Failed:
		sooner(in.Retry)
	case topics.Stopping:
		sooner(in.Kill)
	case topics.Starting:
		sooner(in.readyBy())
	case topics.Running:
		sooner(in.WatchdogDue)
	}
	if in.State == topics.Starting || in.State == topics.Running {
		if !in.Checking {
			sooner(in.CheckAt)
		}
		sooner(in.Run.LeaseEnd)
	}
	return at
}

// formatDuration formats a duration for messages.
func formatDuration(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.3g s", d.Seconds())
	case d%time.Minute == 0:
		return fmt.Sprintf("%d min", d/time.Minute)
	}
	return d.Round(time.Second).String()
}
