package supervisor

import (
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// What the table does about what a service, its checks and its topic say.

func readyByItsWord(m *move) {
	m.ready()
	takeWord(m)
}

const reloading = "it reloads its configuration"

func takeWord(m *move) {
	ev := of[notified](m)
	switch {
	case ev.reloading:
		m.Message = reloading
	case ev.ready && m.Message == reloading:
		m.Message = ""
	}
	if ev.status != "" {
		m.Message = ev.status
	}
	if ev.alive {
		petWatchdog(m)
	}
	if ev.extend > 0 && m.State == topics.Starting {
		m.Run.Extended = m.now.Add(ev.extend)
	}
}

// endByItself: it does what it would do after SIGTERM, with as much time.
func endByItself(m *move) {
	m.Then, m.Why = thenEnded, "it ends by itself"
	m.Kill, m.Killed, m.Told = m.now.Add(m.stopTimeout()), false, false
	m.become(topics.Stopping, "stopping: "+m.Why)
	extendStop(m)
	m.do(remember{})
}

func extendStop(m *move) {
	if until := m.now.Add(of[notified](m).extend); extends(m) && until.After(m.Kill) {
		m.Kill = until
	}
}

// petWatchdog lets the watchdog of what is ready, if it has one, wait anew.
func petWatchdog(m *move) {
	if m.BarkAt = (time.Time{}); m.Run.Watchdog > 0 && m.State == topics.Running {
		m.BarkAt = m.now.Add(m.Run.Watchdog)
	}
}

func bark(m *move) { m.bark("it did not say WATCHDOG=1 within " + words(m.Run.Watchdog)) }

func barkAsTold(m *move) { m.bark("it said WATCHDOG=trigger") }

func (m *move) bark(why string) {
	m.Health, m.Message, m.Why, m.BarkAt = topics.Unhealthy, why, why, time.Time{}
	m.do(quote{})
}

func stopSilent(m *move) {
	m.quote()
	said := m.Message
	m.report(topics.ServiceUnhealthy, said)
	m.stop(thenFailed, m.Why)
	m.Message = "stopping: " + said
}

func readyByCheck(m *move) {
	m.ready()
	askLater(m)
}

func askAgain(m *move) {
	if m.now.Sub(m.Run.Started) >= settleTime {
		m.Unready = of[checked](m).message
		m.Message = fmt.Sprintf("not ready yet: %s (start_timeout is %s)", m.Unready, words(m.startTimeout()))
	}
	m.CheckEvery = min(2*m.CheckEvery, slowCheck)
	m.CheckAt = m.now.Add(m.CheckEvery)
}

// askLater makes the next check due after its interval.
func askLater(m *move) {
	interval, _, _ := m.checkTimes()
	m.CheckAt = m.now.Add(interval)
	if !good(m) {
		m.Misses++
	}
}

func stayWell(m *move) {
	m.Misses = 0
	askLater(m)
}

func getWell(m *move) {
	stayWell(m)
	m.Health, m.Message = topics.Healthy, ""
	m.report(topics.ServiceReady, "healthy again")
}

func sicken(m *move) {
	askLater(m)
	m.Health = topics.Unhealthy
	m.Message = fmt.Sprintf("%d checks in a row failed: %s", m.Misses, of[checked](m).message)
	m.report(topics.ServiceUnhealthy, m.Message)
}

// maxWord is how much of a payload is shown.
const maxWord = 60

// theWord is what its topic says, in words.
func (m *move) theWord() string {
	word := printable(of[told](m).payload)
	if r := []rune(word); len(r) > maxWord {
		word = string(r[:maxWord]) + "…"
	}
	return fmt.Sprintf("%s says %q, not %q", m.Spec.Health.MQTT, word, m.Spec.Health.Payload)
}

func waitForWord(m *move) { m.Message = "not ready yet: " + m.theWord() }

func sickenByWord(m *move) {
	m.Message = m.theWord()
	if m.Health != topics.Unhealthy {
		m.Health = topics.Unhealthy
		m.report(topics.ServiceUnhealthy, m.Message)
	}
}

func getWellByWord(m *move) {
	if m.Health == topics.Unhealthy {
		m.report(topics.ServiceReady, "healthy again")
	}
	m.Health, m.Message = topics.Healthy, ""
}

func doubt(m *move) {
	m.Health, m.Message = topics.UnknownHealth, m.Spec.Health.MQTT+" says nothing any more"
}

func showProblem(m *move) {
	m.Message = of[listening](m).problem
	if m.State == topics.Running {
		m.Health = topics.UnknownHealth
	}
}

func ask(m *move) {
	m.Checking, m.CheckAt = true, time.Time{}
	m.do(check{})
}
