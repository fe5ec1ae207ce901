package ctl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/jmbarzee/dominion/topics"
)

// addBrokerVerbs adds the verbs that show what the broker does: clients and trace.
func (a *app) addBrokerVerbs(root *cobra.Command) {
	clients := &cobra.Command{
		Use: topics.VerbClients, Short: "The clients of the broker, what waits for them, what they missed", GroupID: "look",
		Args: a.check(nil), ValidArgsFunction: a.completed(nil),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return question(a, cmd.Context(), topics.VerbClients, topics.HubRequest{}, RenderClients)
		},
	}
	for action, short := range map[string]string{
		"kick":   "End the connection of a client, which may come again",
		"forget": "End the session of a client, and free its identifier",
	} {
		clients.AddCommand(&cobra.Command{
			Use: action + " CLIENT", Short: short,
			Args: a.check(names{"CLIENT"}), ValidArgsFunction: a.completed(names{"CLIENT"}),
			RunE: func(cmd *cobra.Command, args []string) error { return a.endClient(cmd.Context(), action, args[0]) },
		})
	}
	root.AddCommand(clients, &cobra.Command{
		Use: "trace CLIENT|TOPIC", Short: "What becomes of the packets of a client or a topic, until Ctrl-C", GroupID: "look",
		Args: a.check(names{"CLIENT|TOPIC"}), ValidArgsFunction: a.completed(names{"CLIENT|TOPIC"}),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.checkListing(true, 0, "response/trace/+"); err != nil {
				return err
			}
			ctx := cmd.Context()
			return a.reconnecting(ctx, func(s *session, resumed bool) error { return a.trace(ctx, s, args[0], resumed) })
		},
	})
}

// endClient orders the broker to end the connection or the session of a client.
func (a *app) endClient(ctx context.Context, action, client string) error {
	s, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	ask := topics.HubRequest{Action: action, Client: client}
	if _, err := s.ask(ctx, topics.VerbClients, ask, a.timeout); err != nil {
		return a.withSuggestion(ctx, s, ask, err)
	}
	if a.json {
		return a.printJSON(topics.Encode(struct {
			Status string `json:"status"`
			Verb   string `json:"verb"`
			Action string `json:"action"`
			Client string `json:"client"`
		}{topics.StatusOK, topics.VerbClients, action, client}))
	}
	a.infof("%s %s: accepted", action, cleanWords(client))
	return nil
}

// trace shows a trace until ctx ends or the connection is lost.
func (a *app) trace(ctx context.Context, s *session, what string, resumed bool) error {
	ask := topics.HubRequest{Topic: what, Name: "ctl-" + random(8)}
	lines := s.tree.Topic(topics.Address{Kind: topics.ResponseTo, Verb: topics.VerbTrace, Domain: ask.Name})
	if err := s.subscribe(ctx, lines); err != nil { // before the question: nothing is missed in between
		return err
	}
	if !resumed {
		a.hintUnknownClient(ctx, s, what)
	}
	if _, err := s.ask(ctx, topics.VerbTrace, ask, a.timeout); err != nil {
		return err
	}
	if !resumed {
		a.infof("tracing %s, until Ctrl-C", cleanWords(what))
	}
	renew := time.Now().Add(a.env.renew)
	for {
		waiting, cancel := context.WithTimeout(ctx, time.Until(renew))
		m, err := s.next(waiting)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, context.DeadlineExceeded):
			if _, err := s.ask(ctx, topics.VerbTrace, ask, a.timeout); err != nil {
				return err
			}
			renew = time.Now().Add(a.env.renew)
			continue
		case err != nil:
			return err
		case m.Topic != lines:
			continue
		}
		l, err := topics.DecodeForDisplay[topics.TraceLine](m.Topic, m.Payload)
		if err != nil {
			continue
		}
		if err := RenderTrace(a.env.Stdout, l, a.style); err != nil {
			return err
		}
	}
}

// hintUnknownClient tells the user where the broker has no client of the traced name:
// a trace of a name that was mistyped stays empty for ever.
func (a *app) hintUnknownClient(ctx context.Context, s *session, what string) {
	if _, err := netip.ParseAddr(what); err == nil || strings.ContainsAny(what, "/+#") {
		return // an address, or a topic
	}
	clients, answered := lookups["CLIENT"](ctx, s)
	if !answered || slices.Contains(clients, what) {
		return
	}
	hint := "dominionctl clients lists them"
	if near := nearestName(what, clients); near != "" {
		hint = "did you mean: " + a.instead(what, near)
	}
	a.infof("no client %s is there now: its packets are shown when it comes, and those at a topic of that name (%s)", cleanWords(what), hint)
}

// RenderTrace draws one line of a trace.
func RenderTrace(w io.Writer, l topics.TraceLine, s Style) error {
	if l.LeftOut > 0 {
		_, err := fmt.Fprintf(w, "… %d lines left out: too many in a second\n", l.LeftOut)
		return err
	}
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if l.Packet != "" {
		add("%s", l.Packet)
	}
	if l.QoS > 0 {
		add("qos=%d", l.QoS)
	}
	if l.Retain {
		add("retain")
	}
	if l.Dup {
		add("dup")
	}
	if l.PacketID > 0 {
		add("id=%d", l.PacketID)
	}
	if l.Topic != "" {
		add("%s", cleanWords(l.Topic))
	}
	if l.Payload != "" {
		add("%dB %s", l.Size, cleanWords(l.Payload))
	}
	if l.Code > 0 {
		add("0x%02X", l.Code)
	}
	if l.Note != "" {
		add("(%s)", cleanWords(l.Note))
	}
	if l.Result != "" {
		parts = append(parts, s.paint(red, strings.ToUpper(l.Result)))
	}
	if l.By != "" {
		add("by %s", cleanWords(l.By))
	}
	arrow := map[string]string{"in": "→ broker", "out": "← broker"}[l.Direction]
	who := cleanWords(l.Client)
	if l.User != "" {
		who += " (" + cleanWords(l.User) + ")"
	}
	if arrow != "" {
		who += " " + arrow
	}
	_, err := fmt.Fprintf(w, "%s  %s  %s\n", l.At.In(s.Now.Location()).Format("15:04:05.000"), who, strings.Join(parts, " "))
	return err
}

// RenderClients draws the clients of the broker.
func RenderClients(w io.Writer, clients []topics.ClientView, s Style) error {
	return buffered(w, func(b *bufio.Writer) {
		t := table{columns: []column{
			{head: "CLIENT", min: 12},
			{head: "STATE"},
			{head: "SINCE"},
			{head: "USER"},
			{head: "ADDRESS", drop: 2},
			{head: "BY", drop: 3},
			{head: "MQTT", drop: 4},
			{head: "SUBS"},
			{head: "QUEUED"},
			{head: "MEMORY", drop: 5},
			{head: "DROPPED"},
		}}
		for _, c := range clients {
			state := textCell("connected").withTint(green)
			if !c.Connected {
				state = textCell("away").withTint(yellow)
			}
			dropped := textCell(fmt.Sprint(c.Dropped))
			if c.Dropped > 0 {
				dropped = dropped.withTint(red)
			}
			t.add(textCell(c.Client), state, textCell(ago(c.Since, s.Now)), textCell(orDash(c.User)), textCell(orDash(c.Address)),
				textCell(c.Listener), textCell(c.Protocol), textCell(fmt.Sprint(c.Subscriptions)), textCell(fmt.Sprint(c.Queued)), textCell(fmt.Sprintf("%.1f MB", float64(c.Memory)/1e6)), dropped)
		}
		t.draw(b, s)
	})
}
