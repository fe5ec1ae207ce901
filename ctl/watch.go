package ctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/topics"
)

// statusCommand shows the home once, or goes on showing it.
func (a *app) statusCommand() *cobra.Command {
	watch := false
	c := &cobra.Command{
		Use: topics.VerbStatus, Short: "The picture of the home: hub, problems, domains, services", GroupID: "look",
		Args: a.check(nil), ValidArgsFunction: a.completed(nil),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch {
				return a.watchStatus(cmd.Context())
			}
			return question(a, cmd.Context(), topics.VerbStatus, topics.HubRequest{}, func(w io.Writer, o topics.Overview, s Style) error {
				return RenderStatus(w, o, nil, s)
			})
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "go on showing it as it changes, with the last events, until Ctrl-C")
	return c
}

// reconnecting runs body on a connection until ctx ends, which is its good end. When
// the connection is lost, as by a restart of the hub, it connects again, for
// as long as that takes, and runs body again with resumed set. A refusal, and a hub that
// is not there at the first attempt, end it.
func (a *app) reconnecting(ctx context.Context, body func(s *session, resumed bool) error) error {
	resumed := false
	for attempt := 0; ; attempt++ {
		s, err := a.connect(ctx)
		lost := false
		if err == nil {
			err = body(s, resumed)
			lost = s.closed()
			s.close()
		}
		var f *failure
		refused := errors.As(err, &f) && f.code != ExitNoAnswer
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil, refused, !lost && !resumed:
			return err
		case lost:
			a.infof("dominionctl: the connection to the hub is lost: connecting again …")
			resumed, attempt = true, 0
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(client.Backoff(attempt, rand.N[time.Duration])):
		}
	}
}

// Terminal control, ECMA-48.
const (
	openPage  = "\x1b[?1049h\x1b[?25l" // the second page, without cursor
	closePage = "\x1b[?25h\x1b[?1049l"
	pageStart = "\x1b[H"
	lineEnd   = "\x1b[K\r\n" // clears what an older, longer line left
	pageEnd   = "\x1b[J"
)

// watchStatus draws the home whenever it changes. A terminal shows the newest
// picture in place; anything else gets one picture after the other.
func (a *app) watchStatus(ctx context.Context) error {
	if a.json {
		return fail(ExitUsage, "leave one out; the messages themselves are JSON: mosquitto_sub -t 'dominion/#'",
			"watching has no --json: it would be no one document")
	}
	page, terminal := a.env.Stdout.(*os.File)
	terminal = terminal && term.IsTerminal(int(page.Fd()))
	if terminal {
		fmt.Fprint(page, openPage)
		defer fmt.Fprint(page, closePage)
	}
	last := ""
	return a.reconnecting(ctx, func(s *session, _ bool) error {
		err := s.subscribe(ctx, s.tree.Filter(topics.ServiceStatus), s.tree.Filter(topics.DomainCondition), s.tree.Hub(topics.HubEvent))
		for err == nil {
			var text string
			if text, err = a.picture(ctx, s, page, terminal); err != nil {
				break
			}
			if text != last {
				last = text
				if _, err := fmt.Fprint(a.env.Stdout, text); err != nil {
					return fail(ExitFailed, "", "cannot write: %v", err)
				}
			}
			err = s.waitForChange(ctx)
		}
		return err
	})
}

// picture draws the home as it is now, cut to a terminal's height.
func (a *app) picture(ctx context.Context, s *session, page *os.File, terminal bool) (string, error) {
	o, err := s.overview(ctx, a.timeout)
	if err != nil {
		return "", err
	}
	events, err := askFor[[]topics.Event](ctx, s, topics.VerbEvents, topics.HubRequest{Limit: 10}, a.timeout)
	if err != nil {
		return "", err
	}
	style, height := a.style, 0
	style.Now = a.env.now()
	if terminal {
		if w, h, err := term.GetSize(int(page.Fd())); err == nil && w >= 20 {
			style.Width, height = w, h
		}
	}
	var b bytes.Buffer
	if err := RenderStatus(&b, o, events, style); err != nil {
		return "", err
	}
	if !terminal {
		return b.String() + "\n", nil
	}
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	if height > 1 && len(lines) > height {
		more := len(lines) - height + 1
		lines = append(lines[:height-1], fmt.Sprintf("… %d more lines", more))
	}
	return pageStart + strings.Join(lines, lineEnd) + "\x1b[K" + pageEnd, nil
}
