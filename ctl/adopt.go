package ctl

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/jmbarzee/dominion/topics"
)

// adoptTimeout is how long adopt waits for the hub's answer, which waits for the machine.
const adoptTimeout = 45 * time.Second

// addAdoption adds the verbs by which machines join.
func (a *app) addAdoption(root *cobra.Command) {
	replace := false
	adopt := &cobra.Command{
		Use: "adopt NAME [CODE]", Short: "Adopt a machine that waits, by its code", GroupID: "order",
		Long: `Adopt a machine that waits for adoption, and wait until it is online. "domain code"
on that machine shows its code; without CODE it is asked for. Of several machines
of one name the code decides which is meant; the first characters of its key, as
"dominionctl status" shows them, do for NAME too.

A machine that waits as "certificate of ours, not in the list" was adopted by this
dominion, whose hub was restored from a backup: it needs no code.

With --replace the machine takes the name of another one, whose key is revoked;
without a code, the machine that was refused as a copy is the domain from now on.`,
		Args: a.check(names{"NAME", "[CODE]"}),
		RunE: func(cmd *cobra.Command, args []string) error {
			ask := topics.HubRequest{Domain: args[0], Replace: replace}
			if len(args) > 1 {
				ask.Code = args[1]
			}
			timeout := a.timeout
			if !cmd.Flags().Changed("timeout") {
				timeout = adoptTimeout
			}
			return a.adopt(cmd.Context(), ask, timeout)
		},
	}
	adopt.Flags().BoolVar(&replace, "replace", false, "take the name of another machine, or let the one count that was refused as a copy")
	count := 0
	permit := &cobra.Command{
		Use: "permit-join [DURATION]", Short: "Adopt the first domain that asks for it, without a code", GroupID: "order",
		Long: `Adopt the first domain that asks for it without a code, for 2m or DURATION, 10m at
most. It asks for it after "domain join open" there, or with adoption = "open" in
its domain.toml. 0s ends it.`,
		Args: a.check(names{"[DURATION]"}),
		RunE: func(cmd *cobra.Command, args []string) error {
			ask := topics.HubRequest{Count: count}
			if len(args) > 0 {
				d, err := time.ParseDuration(args[0])
				if err != nil || d < 0 {
					return fail(ExitUsage, "write a duration such as 5m", "%q is not a valid time", args[0])
				}
				if ask.Duration = topics.Seconds(d); d == 0 {
					ask.Action = "close"
				}
			}
			return a.permitJoin(cmd.Context(), ask)
		},
	}
	permit.Flags().IntVar(&count, "count", 1, "how many `domains` are adopted")
	root.AddCommand(adopt, permit)
	a.addTokens(root)
}

// addTokens adds the verb token.
func (a *app) addTokens(root *cobra.Command) {
	token := &cobra.Command{
		Use: topics.VerbToken, Short: "Tokens by which machines join: create, list, remove", GroupID: "order",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return fail(ExitUsage, "dominionctl token list", "token: say what to do")
		},
	}
	ask := topics.HubRequest{Action: "create"}
	expires, forHub := 24*time.Hour, hubFlag{}
	create := &cobra.Command{
		Use: "create", Short: "Make a token, and print it, this once",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) <= forHub.bare && len(args) <= 1 {
				return nil
			}
			return a.check(nil)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if expires <= 0 || ask.Count < 1 {
				return fail(ExitUsage, "write --expires 24h --uses 1", "a token needs a time and a use")
			}
			ask.Duration = topics.Seconds(expires)
			if address := cmp.Or(forHub.address, arg(args, 0)); address != "" {
				a.hub = address
			}
			if forHub.bare > len(args) {
				ask.Use = "hub"
			}
			return a.createToken(cmd.Context(), ask)
		},
	}
	create.Flags().StringVar(&ask.Name, "name", "", "the only `name` that it lets join")
	create.Flags().IntVar(&ask.Count, "uses", 1, "how many `machines` it lets join")
	create.Flags().DurationVar(&expires, "expires", expires, "when it ends")
	create.Flags().Var(&forHub, "hub", "for a hub, not for a domain; with an address, where to ask, as everywhere: --hub=HOST:PORT")
	create.Flags().Lookup("hub").NoOptDefVal = bareHub
	token.AddCommand(create, &cobra.Command{
		Use: "list", Short: "All tokens, and who used them", Args: a.check(nil),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return question(a, cmd.Context(), topics.VerbToken, topics.HubRequest{Action: "list"}, RenderTokens)
		},
	}, &cobra.Command{
		Use: "remove ID", Short: "End a token", Args: a.check(names{"ID"}),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.connectFor(cmd.Context(), topics.VerbToken)
			if err != nil {
				return err
			}
			defer s.close()
			if _, err := s.ask(cmd.Context(), topics.VerbToken, topics.HubRequest{Action: "remove", Token: args[0]}, a.timeout); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(topics.Encode(orderDocument{Status: topics.StatusOK, Verb: topics.VerbToken}))
			}
			a.infof("token remove %s: accepted", cleanWords(args[0]))
			return nil
		},
	})
	root.AddCommand(token)
}

// hubFlag is --hub of token create: alone it says for whom the token is, and with an address
// where to ask, as that of all verbs. An address that follows as an argument of its own, because
// the flag may be alone, belongs to one of them.
type hubFlag struct {
	address string
	// bare is how often it was written without an address.
	bare int
}

// bareHub is the value of --hub without one.
const bareHub = "hub"

func (f *hubFlag) String() string { return f.address }

// Type implements pflag.Value.
func (f *hubFlag) Type() string { return "host:port" }

// Set implements pflag.Value.
func (f *hubFlag) Set(s string) error {
	if s == bareHub {
		f.bare++
	} else {
		f.address = s
	}
	return nil
}

// permitJoin opens or closes the window, and says until when it is open.
func (a *app) permitJoin(ctx context.Context, ask topics.HubRequest) error {
	s, err := a.connectFor(ctx, topics.VerbPermitJoin)
	if err != nil {
		return err
	}
	defer s.close()
	reply, err := s.ask(ctx, topics.VerbPermitJoin, ask, a.timeout)
	if err != nil {
		return err
	}
	doc := orderDocument{Status: topics.StatusOK, Verb: topics.VerbPermitJoin}
	if len(reply.Data) > 0 {
		w, err := decoded[topics.JoinWindow](s, topics.VerbPermitJoin, reply)
		if err != nil {
			return err
		}
		doc.Window = &w
	}
	if a.json {
		return a.printJSON(topics.Encode(doc))
	}
	progress := "accepted"
	if doc.Window != nil {
		progress = windowText(*doc.Window, a.env.now())
	}
	a.infof("permit-join: %s", progress)
	return nil
}

// windowText says whether domains are adopted without a code, and until when.
func windowText(w topics.JoinWindow, now time.Time) string {
	switch {
	case !w.Open:
		return "closed: no domain is adopted without a code"
	case w.Until.IsZero():
		return `open without an end (adoption = "open"): each domain that asks for it is adopted without a code`
	}
	domains := "the first domain that asks for it is"
	if w.Left > 1 {
		domains = fmt.Sprintf("the first %d domains that ask for it are", w.Left)
	}
	return fmt.Sprintf("open until %s (%s): %s adopted without a code", clock(w.Until, now), span(max(0, w.Until.Sub(now).Round(time.Second))), domains)
}

// createToken prints the token alone.
func (a *app) createToken(ctx context.Context, ask topics.HubRequest) error {
	s, err := a.connectFor(ctx, topics.VerbToken)
	if err != nil {
		return err
	}
	defer s.close()
	made, err := askFor[[]topics.TokenView](ctx, s, topics.VerbToken, ask, a.timeout)
	if err != nil {
		return err
	}
	if len(made) != 1 || made[0].Token == "" {
		return fail(ExitFailed, "update dominionctl, or the hub", "the answer has no token")
	}
	if a.json {
		return a.printJSON(topics.Encode(made[0]))
	}
	_, err = fmt.Fprintln(a.env.Stdout, made[0].Token)
	return err
}

// adopt adopts a machine, and waits until it is online.
func (a *app) adopt(ctx context.Context, ask topics.HubRequest, timeout time.Duration) error {
	s, err := a.connectFor(ctx, topics.VerbAdopt)
	if err != nil {
		return err
	}
	defer s.close()
	if ask.Code == "" && !ask.Replace {
		o, err := s.overview(ctx, a.timeout)
		if err != nil {
			return err
		}
		if needsCode(o.Domains, ask.Domain) {
			if ask.Code, err = a.readCode(ask.Domain); err != nil {
				return err
			}
		}
	}
	began := time.Now()
	if err := s.askAdopt(ctx, ask, timeout); err != nil {
		return err
	}
	progress, err := a.await(ctx, s, s.onlineCondition(ask.Domain), max(timeout-time.Since(began), askTimeout))
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(topics.Encode(orderDocument{Status: topics.StatusOK, Verb: topics.VerbAdopt, Domain: ask.Domain, Reached: true}))
	}
	a.infof("adopt %s: %s, after %s", cleanWords(ask.Domain), progress, seconds(time.Since(began)))
	return nil
}

// longestCodeWait bounds how long a request to adopt is put off after wrong codes.
const longestCodeWait = 10 * time.Second

// askAdopt asks the hub to adopt a machine. Where it has to wait for a short time after a wrong code it
// does so, and asks again.
func (s *session) askAdopt(ctx context.Context, ask topics.HubRequest, timeout time.Duration) error {
	until := time.Now().Add(timeout)
	for {
		reply, err := s.ask(ctx, topics.VerbAdopt, ask, time.Until(until))
		text, tooSoon := strings.CutPrefix(reply.Error, topics.WaitPrefix)
		if err == nil || !tooSoon {
			return err
		}
		wait, parseErr := time.ParseDuration(text)
		if parseErr != nil || wait <= 0 || wait > min(longestCodeWait, time.Until(until)) {
			return fail(ExitFailed, "ask again then: this code was not tried", "%s", reply.Error)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// needsCode reports whether the machine that a person names is adopted by its code alone: it waits
// without a reason for which the hub takes it back.
func needsCode(all []topics.DomainView, name string) bool {
	label := strings.ReplaceAll(strings.ToLower(name), " ", "")
	return !slices.ContainsFunc(all, func(d topics.DomainView) bool {
		named := d.Name == name || len(label) >= 8 && strings.HasPrefix(strings.ReplaceAll(d.Key, " ", ""), label)
		return named && d.State == topics.DomainIsWaiting && d.Reason != ""
	})
}

// readCode asks for a code.
func (a *app) readCode(name string) (string, error) {
	if a.env.Stdin == nil {
		return "", fail(ExitUsage, "`domain code` on that machine shows it", "the code of %s is missing", cleanWords(name))
	}
	if a.interactive {
		fmt.Fprintf(a.env.Stderr, "the code of %s, as `domain code` there shows it: ", cleanWords(name))
	}
	const most = 128
	line, err := bufio.NewReader(io.LimitReader(a.env.Stdin, most)).ReadString('\n')
	if line = strings.TrimSpace(line); line == "" {
		if err == nil || errors.Is(err, io.EOF) {
			err = errors.New("nothing was typed")
		}
		return "", fail(ExitUsage, "`domain code` on that machine shows it", "the code of %s is missing: %v", cleanWords(name), err)
	}
	return line, nil
}

// onlineCondition is that a machine is online. One that is named by its key is not waited for:
// nobody says here which name it has.
func (s *session) onlineCondition(name string) condition {
	return condition{
		watch: []string{s.tree.Filter(topics.DomainAvailability)},
		check: func(o topics.Overview) (bool, string) {
			state := topics.DomainState("")
			for _, d := range o.Domains {
				if d.Name == name && d.State != topics.DomainIsWaiting {
					state = d.State
				}
			}
			if state == "" && !topics.ValidName(name) {
				return true, "adopted"
			}
			if state == "" {
				return false, "it is adopted and has not joined yet"
			}
			return state == topics.DomainIsOnline, "it is " + string(state)
		},
	}
}

// RenderTokens draws the tokens.
func RenderTokens(w io.Writer, all []topics.TokenView, s Style) error {
	return buffered(w, func(b *bufio.Writer) {
		t := table{columns: []column{{head: "ID"}, {head: "NAME", min: 8}, {head: "USE"}, {head: "USES LEFT"}, {head: "EXPIRES"}, {head: "USED BY", min: 12}}}
		for _, v := range all {
			var by []string
			for _, u := range v.UsedBy {
				by = append(by, u.Name)
			}
			expires := "never"
			if !v.Expires.IsZero() {
				expires = v.Expires.Local().Format("2006-01-02 15:04")
			}
			name := v.Name
			if name == "" {
				name = "any"
			}
			t.add(textCell(v.ID), textCell(name), textCell(v.Use), textCell(strconv.Itoa(v.UsesLeft)), textCell(expires), textCell(strings.Join(by, ", ")))
		}
		t.draw(b, s)
	})
}
