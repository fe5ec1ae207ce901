package ctl

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/jmbarzee/dominion/topics"
)

const (
	defaultEvents = 50
	maxLines      = 10_000 // of events or of a log: an answer is one MQTT message
)

// eventsCommand shows the last events, once or continuously.
func (a *app) eventsCommand() *cobra.Command {
	var follow bool
	var limit int
	var since sinceFlag
	cmd := &cobra.Command{
		Use: "events", Short: "What happened lately", GroupID: "look",
		Args: a.check(nil), ValidArgsFunction: a.completed(nil),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.checkListing(follow, limit, "hub/event"); err != nil {
				return err
			}
			if since.isSet() && !cmd.Flags().Changed("lines") {
				limit = maxLines
			}
			from := since.from(a.env.now())
			if !follow {
				return a.events(cmd.Context(), limit, from)
			}
			return a.followEvents(cmd.Context(), limit, from)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what happens now, until Ctrl-C")
	cmd.Flags().IntVarP(&limit, "lines", "n", defaultEvents, "how many of the last `N`")
	cmd.Flags().Var(&since, "since", sinceUsage)
	return cmd
}

// events shows the last events, from a moment on if from is one.
func (a *app) events(ctx context.Context, limit int, from time.Time) error {
	ask := topics.HubRequest{Limit: limit}
	if from.IsZero() {
		return question(a, ctx, topics.VerbEvents, ask, RenderEvents)
	}
	s, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	all, err := askFor[[]topics.Event](ctx, s, topics.VerbEvents, ask, a.timeout)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(e topics.Event) bool { return e.At.Before(from) })
	if a.json {
		return a.printJSON(topics.Encode(all))
	}
	return RenderEvents(a.env.Stdout, all, a.style)
}

// checkListing refuses what -f and -n cannot mean.
func (a *app) checkListing(follow bool, n int, topic string) error {
	if n < 0 || n > maxLines {
		return fail(ExitUsage, "write -n 0 to -n 10000", "-n %d is not a valid number of lines", n)
	}
	if follow && a.json {
		base := a.prefix
		if base == "" {
			base = topics.DefaultPrefix
		}
		return fail(ExitUsage, "leave one out; the messages themselves are JSON: mosquitto_sub -t "+base+"/"+topic,
			"following has no --json: it would be no one document")
	}
	return nil
}

// followEvents shows the last events and those that happen, until ctx ends,
// also over a restart of the hub.
func (a *app) followEvents(ctx context.Context, limit int, from time.Time) error {
	var shown []topics.Event // that an answer may hold again
	show := func(events ...topics.Event) error {
		events = slices.DeleteFunc(events, func(e topics.Event) bool { return slices.Contains(shown, e) })
		shown = append(shown, events...)
		shown = shown[max(0, len(shown)-maxLines):]
		a.style.Now = a.env.now()
		return RenderEvents(a.env.Stdout, events, a.style)
	}
	return a.reconnecting(ctx, func(s *session, resumed bool) error {
		topic := s.tree.Hub(topics.HubEvent)
		if err := s.subscribe(ctx, topic); err != nil { // before the question: nothing is missed in between
			return err
		}
		ask := topics.HubRequest{Limit: max(1, limit)}
		if resumed {
			ask.Limit = maxLines // the answer also holds what was before those that were shown
		}
		last, err := askFor[[]topics.Event](ctx, s, topics.VerbEvents, ask, a.timeout)
		if err != nil {
			return err
		}
		last = slices.DeleteFunc(last, func(e topics.Event) bool { return e.At.Before(from) })
		if resumed {
			last = newerThan(shown, last)
		}
		if limit == 0 && !resumed {
			shown, last = last, nil
		}
		if err := show(last...); err != nil {
			return err
		}
		for {
			m, err := s.next(ctx)
			if err != nil {
				return err
			}
			if m.Topic != topic {
				continue
			}
			if e, err := topics.DecodeForDisplay[topics.Event](m.Topic, m.Payload); err == nil {
				if err := show(e); err != nil {
					return err
				}
			}
		}
	})
}

// newerThan returns the events that come after the last of those that were shown.
func newerThan(shown, all []topics.Event) []topics.Event {
	for i := len(all) - 1; i >= 0; i-- {
		if slices.Contains(shown, all[i]) {
			return all[i+1:]
		}
	}
	return all
}
