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
	lookEvery = time.Second
	grace     = 2 * time.Second
	silence   = 2 * time.Second // after a subscription, in which a retained message comes
	longest   = 4096            // bytes of a command's output that are looked at
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
	sources []*source
	post    func(Event) // from any goroutine
	log     *slog.Logger
	files   *foreign.Files
	run     Run
	lookAt  time.Time
	ctx     context.Context
	end     context.CancelFunc
}

type source struct {
	config.TraitSource
	there   bool      // as it was found last
	untyped bool      // what was found is not a value, and that was logged
	value   string    // what a service is told
	offered bool      // as it is offered: what is gone is so for a while
	goneAt  time.Time // since when it is not there; zero: it is, or is not offered

	run    int // of the command
	runs   bool
	nextAt time.Time

	heard   bool // since the subscription
	askedAt time.Time
	unsure  bool // something was published there that may not be retained

	fault string      // why its command tells nothing; "": it does
	turns []time.Time // when it came or went, the last few
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

// Look looks at what is due. It does not wait: commands run beside it.
func (w *Watch) Look(now time.Time) {
	if len(w.sources) == 0 || now.Before(w.lookAt) {
		return
	}
	w.lookAt = now.Add(lookEvery)
	for _, s := range w.sources {
		switch {
		case s.Path != "":
			found, err := foreign.Do(w.files, s.Path, func() ([]string, error) { return filepath.Glob(s.Path) })
			if err != nil { // a mount that hangs: the config has checked the pattern
				continue
			}
			s.there, s.value = len(found) > 0, ""
			if s.there {
				slices.Sort(found)
				s.value = w.typed(s, found[0])
			}
		case len(s.Command) > 0 && !s.runs && !now.Before(s.nextAt):
			s.runs, s.nextAt = true, now.Add(s.Interval)
			s.run++
			go w.try(s.Trait, s.run, s.Command, s.Timeout)
		case s.MQTT != "" && !s.heard && !s.askedAt.IsZero() && now.Sub(s.askedAt) >= silence:
			s.there = false // nothing is retained there
		}
		w.settle(s, now)
	}
}

// settle makes of what was found what is offered.
func (w *Watch) settle(s *source, now time.Time) {
	switch {
	case s.there && !s.offered:
		s.offered, s.goneAt = true, time.Time{}
		s.turned(now)
		w.log.Info("a trait is there", "trait", s.Trait, "by", s.value)
	case s.there:
		s.goneAt = time.Time{}
	case s.offered && s.goneAt.IsZero():
		s.goneAt = now
	case s.offered && now.Sub(s.goneAt) >= grace:
		s.offered = false
		s.turned(now)
		w.log.Info("a trait is gone", "trait", s.Trait)
	}
}

// try runs a command.
func (w *Watch) try(trait string, run int, command []string, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(w.ctx, timeout)
	defer cancel()
	out, err := w.run(ctx, command, longest)
	line, _, _ := strings.Cut(out, "\n")
	w.post(Event{trait, run, strings.TrimSpace(line), err == nil, fault(ctx, err, command, timeout)})
}

// Run runs a command to its end and returns the first most bytes of what it
// writes. Nothing that the command started is left.
type Run func(ctx context.Context, command []string, most int64) (string, error)

// typed returns the value of a trait that was found, "" where a service cannot
// be given what it is.
func (w *Watch) typed(s *source, value string) string {
	if topics.ValidTraitValue(value) {
		s.untyped = false
		return value
	}
	if !s.untyped {
		s.untyped = true
		w.log.Warn("a trait has no value: "+traitAlphabet, "trait", s.Trait, "found", fmt.Sprintf("%.80q", value))
	}
	return ""
}

const traitAlphabet = "it may hold letters, digits, single spaces and . _ : / @ + , -"

// Handle takes the end of a command.
func (w *Watch) Handle(e Event, now time.Time) {
	for _, s := range w.sources {
		if s.Trait == e.trait && s.run == e.run {
			s.runs, s.there, s.value = false, e.ok, w.typed(s, e.value)
			if e.fault != "" && e.fault != s.fault {
				w.log.Warn("a trait is not offered", "trait", s.Trait, "reason", e.fault)
			}
			s.fault = e.fault
			w.settle(s, now)
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
				s.askedAt = now
			} else {
				s.heard, s.askedAt = false, time.Time{}
			}
		}
	}
}

// Again returns the topics to subscribe to again, each once a second at most: a
// message that comes while we listen does not tell whether it is retained
// (MQTT 3.1.1, 3.3.1.3), and the broker sends what is to each new subscription.
func (w *Watch) Again(now time.Time) (again []string) {
	for _, s := range w.sources {
		if s.unsure && !s.askedAt.IsZero() && now.Sub(s.askedAt) >= lookEvery && !slices.Contains(again, s.MQTT) {
			again = append(again, s.MQTT)
		}
	}
	for _, s := range w.sources {
		if slices.Contains(again, s.MQTT) {
			s.unsure, s.heard, s.askedAt = false, false, now
		}
	}
	return again
}

// Hear takes what is said at a topic. What may not be retained (stored is false)
// counts when the broker has sent it again; an empty payload clears what was
// retained at once. A trait without a payload of its own takes any that is a value of a
// trait; another one changes nothing, and is the error.
func (w *Watch) Hear(topic string, payload []byte, stored bool, now time.Time) (err error) {
	for _, s := range w.sources {
		if s.MQTT != topic {
			continue
		}
		said := string(payload)
		value := strings.TrimSpace(said)
		s.unsure = s.unsure || !stored
		s.heard = s.heard || stored
		switch {
		case said == "":
			s.there, s.value = false, ""
		case !stored && (s.Payload != "" || topics.ValidTraitValue(value)):
			continue
		case s.Payload != "":
			s.there, s.value = said == s.Payload, ""
			if s.there {
				s.value = w.typed(s, value)
			}
		case !topics.ValidTraitValue(value):
			err = fmt.Errorf(`cannot read %s: %.60q is not a value of the trait %s: %s (or write payload = "…" for what it has to be)`, topic, said, s.Trait, traitAlphabet)
			continue
		default:
			s.there, s.value = true, value
		}
		w.settle(s, now)
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

// Next tells when Look has something to do; false: never.
func (w *Watch) Next() (time.Time, bool) { return w.lookAt, len(w.sources) > 0 }
