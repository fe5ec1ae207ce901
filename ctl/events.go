package ctl

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/jmbarzee/dominion/topics"
)

const (
	defaultEvents = 50
	maxLines      = 10_000 // of events or of a log: an answer is one MQTT message
)

func (a *app) eventsCommand() *cobra.Command {
	var follow bool
	var limit int
	cmd := &cobra.Command{
		Use: "events", Short: "What happened lately", GroupID: "look",
		Args: a.check(nil), ValidArgsFunction: a.completed(nil),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.checkListing(follow, limit, "hub/event"); err != nil {
				return err
			}
			if !follow {
				return question(a, cmd.Context(), topics.VerbEvents, topics.Ask{Limit: limit}, RenderEvents)
			}
			return a.followEvents(cmd.Context(), limit)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what happens now, until Ctrl-C")
	cmd.Flags().IntVarP(&limit, "lines", "n", defaultEvents, "how many of the last `N`")
	return cmd
}

// checkListing refuses what -f and -n cannot mean.
func (a *app) checkListing(follow bool, n int, topic string) error {
	if n < 0 || n > maxLines {
		return fail(ExitUsage, "write -n 0 to -n 10000", "-n %d is no number of lines to show", n)
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

// followEvents shows the last events and those that happen, until ctx ends:
// that is its good end.
func (a *app) followEvents(ctx context.Context, limit int) error {
	s, err := a.connect(ctx)
	if err != nil {
		return endOf(ctx, err)
	}
	defer s.close()
	topic := s.tree.Hub(topics.HubEvent)
	if err := s.subscribe(ctx, topic); err != nil { // before the question: nothing is missed in between
		return endOf(ctx, err)
	}
	shown, err := askFor[[]topics.Event](ctx, s, topics.VerbEvents, topics.Ask{Limit: max(1, limit)}, a.timeout)
	if err != nil {
		return endOf(ctx, err)
	}
	if limit > 0 {
		if err := RenderEvents(a.env.Stdout, shown, a.style); err != nil {
			return err
		}
	}
	for {
		m, err := s.next(ctx)
		if err != nil {
			return endOf(ctx, err)
		}
		if m.Topic != topic {
			continue
		}
		e, err := topics.Decode[topics.Event](m.Topic, m.Payload)
		if err != nil || slices.Contains(shown, e) { // it was in the answer too
			continue
		}
		a.style.Now = a.env.now()
		if err := RenderEvents(a.env.Stdout, []topics.Event{e}, a.style); err != nil {
			return err
		}
	}
}

// endOf is the error of something that follows: none when it was told to end.
func endOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
