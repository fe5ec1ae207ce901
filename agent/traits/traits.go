// Package traits watches the sources of traits: a path such as a device in a USB
// port, a command that succeeds, a retained message on a topic.
//
// It does not know the hub. The agent's loop owns a Watch, asks it which traits are
// present, and passes messages to it; commands run in goroutines of their own and
// post their result. Only package agent imports it.
package traits

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/agent/foreign"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/topics"
)

// The interval of polls, and the time for which an absent trait is still offered: a
// device that its driver resets is absent for a moment.
const (
	pollInterval    = time.Second
	grace           = 2 * time.Second
	retainedTimeout = 2 * time.Second // after a subscription, in which a retained message comes
	maxOutput       = 4096            // bytes of a command's output that are read
)

// Event is the end of a command. Only the Watch that posted it understands it.
type Event struct {
	trait string
	run   int
	value string
	ok    bool
	// fault is why its result does not count; "": it does.
	fault string
}

// Watch watches the sources of traits. It is owned by one loop and not for
// concurrent use.
type Watch struct {
	sources []*source
	// post may be called from any goroutine.
	post     func(Event)
	log      *slog.Logger
	files    *foreign.Files
	run      Run
	nextPoll time.Time
	ctx      context.Context
	end      context.CancelFunc
}

type source struct {
	config.TraitSource
	// present is the last result of the source.
	present bool
	// invalidLogged reports that an invalid value was logged.
	invalidLogged bool
	// value is the value of TRAIT_<NAME>.
	value string
	// offered reports that the domain has the trait; it lags absence by grace.
	offered bool
	// absentSince is since when an offered trait is absent; zero: it is not.
	absentSince time.Time

	// run is the number of the command's last run.
	run     int
	running bool
	nextAt  time.Time

	// received reports that a retained message came since the subscription.
	received     bool
	subscribedAt time.Time
	// needsResubscribe reports that a message came that may not be retained.
	needsResubscribe bool

	// fault is why the result of its command does not count; "": it does.
	fault string
	// changes are the last times at which offered changed.
	changes []time.Time
}

// New returns a Watch that has polled nothing yet. post is called from any
// goroutine with events for Handle.
func New(sources []config.TraitSource, files *foreign.Files, run Run, post func(Event), log *slog.Logger) *Watch {
	w := &Watch{post: post, log: log, files: files, run: run}
	for _, s := range sources {
		w.sources = append(w.sources, &source{TraitSource: s})
	}
	w.ctx, w.end = context.WithCancel(context.Background())
	return w
}

// Close ends the commands that run.
func (w *Watch) Close() { w.end() }

// Expire polls the sources that are due. It does not wait for commands.
func (w *Watch) Expire(now time.Time) {
	if len(w.sources) == 0 || now.Before(w.nextPoll) {
		return
	}
	w.nextPoll = now.Add(pollInterval)
	for _, s := range w.sources {
		switch {
		case s.Path != "":
			found, err := foreign.Do(w.files, s.Path, func() ([]string, error) { return filepath.Glob(s.Path) })
			if err != nil { // a mount that hangs: the config has checked the pattern
				continue
			}
			s.present, s.value = len(found) > 0, ""
			if s.present {
				slices.Sort(found)
				s.value = w.validValue(s, found[0])
			}
		case len(s.Command) > 0 && !s.running && !now.Before(s.nextAt):
			s.running, s.nextAt = true, now.Add(s.Interval)
			s.run++
			go w.runCommand(s.Trait, s.run, s.Command, s.Timeout)
		case s.MQTT != "" && !s.received && !s.subscribedAt.IsZero() && now.Sub(s.subscribedAt) >= retainedTimeout:
			s.present = false // nothing is retained there
		}
		w.updateOffered(s, now)
	}
}

// updateOffered updates offered after a result.
func (w *Watch) updateOffered(s *source, now time.Time) {
	switch {
	case s.present && !s.offered:
		s.offered, s.absentSince = true, time.Time{}
		s.recordChange(now)
		w.log.Info("a trait is present", "trait", s.Trait, "by", s.value)
	case s.present:
		s.absentSince = time.Time{}
	case s.offered && s.absentSince.IsZero():
		s.absentSince = now
	case s.offered && now.Sub(s.absentSince) >= grace:
		s.offered = false
		s.recordChange(now)
		w.log.Info("a trait is gone", "trait", s.Trait)
	}
}

// runCommand runs the command of a trait and posts the result.
func (w *Watch) runCommand(trait string, run int, command []string, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(w.ctx, timeout)
	defer cancel()
	out, err := w.run(ctx, command, maxOutput)
	line, _, _ := strings.Cut(out, "\n")
	w.post(Event{trait, run, strings.TrimSpace(line), err == nil, fault(ctx, err, command, timeout)})
}

// Run runs a command to its end and returns the first most bytes of what it
// writes. Nothing that the command started is left.
type Run func(ctx context.Context, command []string, most int64) (string, error)

// validValue returns the value of a trait that was found, "" where a service cannot
// be given what it is.
func (w *Watch) validValue(s *source, value string) string {
	if topics.ValidTraitValue(value) {
		s.invalidLogged = false
		return value
	}
	if !s.invalidLogged {
		s.invalidLogged = true
		w.log.Warn("a trait has no value: "+traitAlphabet, "trait", s.Trait, "found", fmt.Sprintf("%.80q", value))
	}
	return ""
}

const traitAlphabet = "it may hold letters, digits, single spaces and . _ : / @ + , -"

// Handle handles the end of a command.
func (w *Watch) Handle(e Event, now time.Time) {
	for _, s := range w.sources {
		if s.Trait == e.trait && s.run == e.run {
			s.running, s.present, s.value = false, e.ok, w.validValue(s, e.value)
			if e.fault != "" && e.fault != s.fault {
				w.log.Warn("a trait is not offered", "trait", s.Trait, "reason", e.fault)
			}
			s.fault = e.fault
			w.updateOffered(s, now)
		}
	}
}

// Topics returns the topics to subscribe to, sorted.
func (w *Watch) Topics() []string {
	var all []string
	for _, s := range w.sources {
		if s.MQTT != "" && !slices.Contains(all, s.MQTT) {
			all = append(all, s.MQTT)
		}
	}
	slices.Sort(all)
	return all
}

// Subscribed sets that a topic is subscribed to from now on: a retained message comes
// at once, or there is none. ok is false when the connection is over, or the broker
// refuses the subscription: then the last value stays in force.
func (w *Watch) Subscribed(topic string, ok bool, now time.Time) {
	for _, s := range w.sources {
		if s.MQTT == topic {
			if ok { // what is retained may have come before this
				s.subscribedAt = now
			} else {
				s.received, s.subscribedAt = false, time.Time{}
			}
		}
	}
}

// Resubscribe returns the topics to subscribe to again, each once a second at most: a
// message to an existing subscription does not show whether it is retained (MQTT
// 3.1.1, 3.3.1.3), and the broker sends the retained one to a new subscription.
func (w *Watch) Resubscribe(now time.Time) (again []string) {
	for _, s := range w.sources {
		if s.needsResubscribe && !s.subscribedAt.IsZero() && now.Sub(s.subscribedAt) >= pollInterval && !slices.Contains(again, s.MQTT) {
			again = append(again, s.MQTT)
		}
	}
	for _, s := range w.sources {
		if slices.Contains(again, s.MQTT) {
			s.needsResubscribe, s.received, s.subscribedAt = false, false, now
		}
	}
	return again
}

// Message handles a message on a topic. One that may not be retained counts when the
// broker has sent it again as retained; an empty payload, which clears the topic,
// counts at once. A trait without a configured payload accepts any that is a valid
// value; another one changes nothing, and is the error.
func (w *Watch) Message(topic string, payload []byte, retained bool, now time.Time) (err error) {
	for _, s := range w.sources {
		if s.MQTT != topic {
			continue
		}
		text := string(payload)
		value := strings.TrimSpace(text)
		s.needsResubscribe = s.needsResubscribe || !retained
		s.received = s.received || retained
		switch {
		case text == "":
			s.present, s.value = false, ""
		case !retained && (s.Payload != "" || topics.ValidTraitValue(value)):
			continue
		case s.Payload != "":
			s.present, s.value = text == s.Payload, ""
			if s.present {
				s.value = w.validValue(s, value)
			}
		case !topics.ValidTraitValue(value):
			err = fmt.Errorf(`cannot read %s: %.60q is not a value of the trait %s: %s (or write payload = "…" for what it has to be)`, topic, text, s.Trait, traitAlphabet)
			continue
		default:
			s.present, s.value = true, value
		}
		w.updateOffered(s, now)
	}
	return err
}

// Present returns the traits that are offered, sorted.
func (w *Watch) Present() []string {
	var all []string
	for _, s := range w.sources {
		if s.offered && !slices.Contains(all, s.Trait) {
			all = append(all, s.Trait)
		}
	}
	slices.Sort(all)
	return all
}

// Environment returns TRAIT_<NAME> of each trait that is offered: the path, the
// first line of the command's output, or the message on the topic; "" where that is
// not a value of a trait (topics.ValidTraitValue).
func (w *Watch) Environment() map[string]string {
	e := make(map[string]string)
	for _, s := range w.sources {
		if s.offered {
			e["TRAIT_"+strings.ToUpper(strings.ReplaceAll(s.Trait, "-", "_"))] = s.value
		}
	}
	return e
}

// Next returns when Expire has something to do; zero: never.
func (w *Watch) Next() time.Time {
	if len(w.sources) == 0 {
		return time.Time{}
	}
	return w.nextPoll
}
