package supervisor

import (
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// The actions of the table for notifications, checks and health topics.

func readyByNotify(t *transition) {
	t.ready()
	applyNotify(t)
}

const reloading = "it reloads its configuration"

// applyNotify takes over a notification of sd_notify(3): the status, the watchdog
// and more time to start.
func applyNotify(t *transition) {
	ev := eventOf[notified](t)
	if ev.reloading {
		t.Message = reloading
	} else if ev.ready && t.Message == reloading {
		t.Message = ""
	}
	if ev.status != "" {
		t.Message = ev.status
	}
	if ev.alive {
		rearmWatchdog(t)
	}
	if ev.extend > 0 && t.State == topics.Starting {
		t.Run.Extended = t.now.Add(ev.extend)
	}
}

// stopByNotify makes an instance stopping that notified STOPPING=1. It has as much
// time as after SIGTERM.
func stopByNotify(t *transition) {
	t.Then, t.Why = thenEnded, "it ends by itself"
	t.Kill, t.Killed, t.StopSent = t.now.Add(t.stopTimeout()), false, false
	t.setState(topics.Stopping, "stopping: "+t.Why)
	extendStop(t)
	t.do(remember{})
}

func extendStop(t *transition) {
	if until := t.now.Add(eventOf[notified](t).extend); extendsTimeout(t) && until.After(t.Kill) {
		t.Kill = until
	}
}

// rearmWatchdog restarts the time of the watchdog, if a ready instance has one.
func rearmWatchdog(t *transition) {
	if t.WatchdogDue = (time.Time{}); t.Run.Watchdog > 0 && t.State == topics.Running {
		t.WatchdogDue = t.now.Add(t.Run.Watchdog)
	}
}

func failSilentWatchdog(t *transition) {
	t.failWatchdog("it did not send WATCHDOG=1 within " + formatDuration(t.Run.Watchdog))
}

func failTriggeredWatchdog(t *transition) { t.failWatchdog("it sent WATCHDOG=trigger") }

func (t *transition) failWatchdog(why string) {
	t.Health, t.Message, t.Why, t.WatchdogDue = topics.Unhealthy, why, why, time.Time{}
	t.do(quote{})
}

func stopAfterWatchdog(t *transition) {
	t.quote()
	message := t.Message
	t.report(topics.ServiceUnhealthy, message)
	t.stop(thenFailed, t.Why)
	t.Message = "stopping: " + message
}

func readyByCheck(t *transition) {
	t.ready()
	scheduleCheck(t)
}

func checkAgainSoon(t *transition) {
	if t.now.Sub(t.Run.Started) >= readyAfter {
		t.LastCheckError = eventOf[checked](t).message
		t.Message = fmt.Sprintf("not ready yet: %s (start_timeout is %s)", t.LastCheckError, formatDuration(t.startTimeout()))
	}
	t.CheckEvery = min(2*t.CheckEvery, slowCheck)
	t.CheckAt = t.now.Add(t.CheckEvery)
}

// scheduleCheck makes the next check due after its interval.
func scheduleCheck(t *transition) {
	interval, _, _ := t.checkTimes()
	t.CheckAt = t.now.Add(interval)
	if !checkPassed(t) {
		t.FailedChecks++
	}
}

func stayHealthy(t *transition) {
	t.FailedChecks = 0
	scheduleCheck(t)
}

func becomeHealthy(t *transition) {
	stayHealthy(t)
	t.Health, t.Message = topics.Healthy, ""
	t.report(topics.ServiceReady, "healthy again")
}

func becomeUnhealthy(t *transition) {
	scheduleCheck(t)
	t.Health = topics.Unhealthy
	t.Message = fmt.Sprintf("%d checks in a row failed: %s", t.FailedChecks, eventOf[checked](t).message)
	t.report(topics.ServiceUnhealthy, t.Message)
}

// maxPayloadShown is how much of a payload is shown.
const maxPayloadShown = 60

// payloadMessage returns the message about an unhealthy payload on its topic.
func (t *transition) payloadMessage() string {
	payload := printable(eventOf[topicMessage](t).payload)
	if r := []rune(payload); len(r) > maxPayloadShown {
		payload = string(r[:maxPayloadShown]) + "…"
	}
	return fmt.Sprintf("%s says %q, not %q", t.Spec.Health.MQTT, payload, t.Spec.Health.Payload)
}

func waitForPayload(t *transition) { t.Message = "not ready yet: " + t.payloadMessage() }

func unhealthyByTopic(t *transition) {
	t.Message = t.payloadMessage()
	if t.Health != topics.Unhealthy {
		t.Health = topics.Unhealthy
		t.report(topics.ServiceUnhealthy, t.Message)
	}
}

func healthyByTopic(t *transition) {
	if t.Health == topics.Unhealthy {
		t.report(topics.ServiceReady, "healthy again")
	}
	t.Health, t.Message = topics.Healthy, ""
}

func healthUnknown(t *transition) {
	t.Health, t.Message = topics.UnknownHealth, t.Spec.Health.MQTT+" publishes nothing any more"
}

func showTopicProblem(t *transition) {
	t.Message = eventOf[topicSubscribed](t).problem
	if t.State == topics.Running {
		t.Health = topics.UnknownHealth
	}
}

func startCheck(t *transition) {
	t.Checking, t.CheckAt = true, time.Time{}
	t.do(check{})
}
