// Package traits watches what makes a trait come and go on a domain: a path
// such as a stick in a USB port, a command that succeeds, a word that is
// retained at a topic.
//
// It knows no hub. The agent's loop owns a Watch, asks it what is there, and
// hands it what it hears; commands run beside and post their end. Only package
// agent imports it.
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

// How often it looks, and for how long what is gone may come back: a stick
// that its driver resets is away for a moment.
const (
	pollInterval    = time.Second
	grace           = 2 * time.Second
	retainedTimeout = 2 * time.Second // after a subscription, in which a retained message comes
	maxOutput       = 4096            // bytes of a command's output that are looked at
)

// Event is the end of a command. Only the Watch that posted it understands it.
type Event struct {
	trait string
	run   int
	value string
	ok    bool
	fault string // why it tells nothing
}

// Watch watches the sources of traits. It is owned by one loop and not for
// concurrent use.
type Watch struct {
	sources  []*source
	post     func(Event) // from any goroutine
	log      *slog.Logger
	files    *foreign.Files
	run      Run
	nextPoll time.Time
	ctx      context.Context
	end      context.CancelFunc
}

type source struct {
	config.TraitSource
	// As it was found last.
	present bool
	// What was found is not a value, and that was logged.
	invalidLogged bool
	// What a service is told.
	value string
	// As it is offered: what is gone is so for a while.
	offered bool
	// Since when it is not there; zero: it is, or is not offered.
	absentSince time.Time

	// Of the command.
	run     int
	running bool
	nextAt  time.Time

	// Since the subscription.
	received     bool
	subscribedAt time.Time
	// Something was published there that may not be retained.
	needsResubscribe bool

	// Why its command tells nothing; "": it does.
	fault string
	// When it came or went, the last few.
	changes []time.Time
}

// New returns a Watch that has looked at nothing yet. post is called from any
// goroutine with what is to be handed to Handle.
func New(sources []config.TraitSource, files *foreign.Files, run Run, post func(Event), log *slog.Logger) *Watch {
	w := &Watch{post: post, log: log, files: files, run: run}
	for _, s := range sources {
		w.sources = append(w.sources, &source{TraitSource: s})
	}
	w.ctx, w.end = context.WithCancel(context.Background())
	return w
}

// Close ends what runs.
func (w *Watch) Close() { w.end() }

// Poll looks at what is due. It does not wait: commands run beside it.
func (w *Watch) Poll(now time.Time) {
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

// updateOffered makes of what was found what is offered.
func (w *Watch) updateOffered(s *source, now time.Time) {
	switch {
	case s.present && !s.offered:
		s.offered, s.absentSince = true, time.Time{}
		s.recordChange(now)
		w.log.Info("a trait is there", "trait", s.Trait, "by", s.value)
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

// runCommand runs a command.
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

// Handle takes the end of a command.
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

// Topics returns what has to be subscribed to, sorted.
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

// Subscribed says that a topic is heard from now on: what is retained there
// comes at once, or there is nothing. ok is false when the connection is over,
// or the broker does not allow it: then the last word stands.
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
// message that comes while we listen does not tell whether it is retained
// (MQTT 3.1.1, 3.3.1.3), and the broker sends what is to each new subscription.
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

// Message takes what is said at a topic. What may not be retained (stored is false)
// counts when the broker has sent it again; an empty payload clears what was
// retained at once. A trait without a payload of its own takes any that is a value of a
// trait; another one changes nothing, and is the error.
func (w *Watch) Message(topic string, payload []byte, stored bool, now time.Time) (err error) {
	for _, s := range w.sources {
		if s.MQTT != topic {
			continue
		}
		said := string(payload)
		value := strings.TrimSpace(said)
		s.needsResubscribe = s.needsResubscribe || !stored
		s.received = s.received || stored
		switch {
		case said == "":
			s.present, s.value = false, ""
		case !stored && (s.Payload != "" || topics.ValidTraitValue(value)):
			continue
		case s.Payload != "":
			s.present, s.value = said == s.Payload, ""
			if s.present {
				s.value = w.validValue(s, value)
			}
		case !topics.ValidTraitValue(value):
			err = fmt.Errorf(`cannot read %s: %.60q is not a value of the trait %s: %s (or write payload = "…" for what it has to be)`, topic, said, s.Trait, traitAlphabet)
			continue
		default:
			s.present, s.value = true, value
		}
		w.updateOffered(s, now)
	}
	return err
}

// Present returns the traits that are there, sorted.
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

// Environment returns TRAIT_<NAME> of each trait that is there: the path, the
// first line of the command's output, or what the topic says; "" where that is
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

// Next returns when Look has something to do; false: never.
func (w *Watch) Next() (time.Time, bool) { return w.nextPoll, len(w.sources) > 0 }
