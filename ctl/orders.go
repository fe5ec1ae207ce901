package ctl

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/jmbarzee/dominion/topics"
)

// order is a verb that changes something.
type order struct {
	verb  string
	short string
	args  names
	waits bool // has --wait
}

// addOrders adds the verbs that order something.
func (a *app) addOrders(root *cobra.Command) {
	for _, o := range []order{
		{topics.VerbStart, "Want a service to run", names{"SERVICE"}, true},
		{topics.VerbStop, "Want a service not to run", names{"SERVICE"}, true},
		{topics.VerbRestart, "Restart the instances of a service", names{"SERVICE", "[DOMAIN]"}, true},
		{topics.VerbUpdate, "Roll out the version that waits, or try again what failed", names{"SERVICE"}, true},
		{topics.VerbScale, "Want a service on N domains; 0: as the configuration says", names{"SERVICE", "N"}, true},
		{topics.VerbReset, "End what was switched or scaled by hand", names{"SERVICE"}, true},
		{topics.VerbDrain, "Give a domain nothing, and move away what may run elsewhere", names{"DOMAIN"}, true},
		{topics.VerbRebalance, "Spread the services anew over the domains", nil, true},
		{topics.VerbUndrain, "End a drain", names{"DOMAIN"}, true},
		{topics.VerbForget, "End a domain: stop its services, and revoke its key", names{"DOMAIN"}, false},
		{topics.VerbResync, "Agree anew with a domain that obeys no start commands", names{"DOMAIN"}, false},
		{topics.VerbReplan, "Look at the whole home anew", nil, false},
	} {
		a.addOrder(root, o)
	}
}

// longer is what the help of an order says beyond one line.
var longer = map[string]string{
	topics.VerbDrain: `Give a domain nothing, and empty it.

Before anything happens it lists what becomes of each service, as
"dominionctl plan --drain DOMAIN" does. A copy there stops when its replacement
is healthy on another domain. Where no other domain can take one now it stops at
once, whether it is the only copy or one of several: a drain always ends.`,
	topics.VerbRebalance: `Spread anew, over the domains that are there now, what may run on several of them.

Before anything happens it lists what moves, as "dominionctl plan --rebalance"
does. A copy moves where the hub would place it elsewhere today, and stops when
its replacement is healthy. Exclusive services, and what runs on each domain that
can, stay where they are.`,
	topics.VerbForget: `End a domain. The services of a machine that is online are stopped. The key of an
adopted one is revoked: it is never accepted again. What the hub stores of the
domain is cleared, and the secrets that it has had are listed: set new values.

To take the machine back run "domain reset" on it, and adopt it as a new one.`,
	topics.VerbRestart: `Restart the instances of a service, one after the other: the next one when the
last is healthy again. It is refused where a dependency would not let it start
again, and what runs goes on.`,
	topics.VerbReset: `End what was switched or scaled by hand (start, stop, scale, and what was
published at service/SERVICE/set): the service is wanted as the configuration
says, on as many domains.`,
}

// addOrder adds the verb of an order, with --wait where it can be waited for.
func (a *app) addOrder(root *cobra.Command, o order) {
	wait := false
	cmd := &cobra.Command{
		Use: strings.Join(append(names{o.verb}, o.args...), " "), Short: o.short, Long: longer[o.verb], GroupID: "order",
		Args: a.check(o.args), ValidArgsFunction: a.completed(o.args),
		RunE: func(cmd *cobra.Command, args []string) error {
			ask := topics.HubRequest{}
			for i, arg := range args {
				switch strings.Trim(o.args[i], "[]") {
				case "SERVICE":
					ask.Service = arg
				case "DOMAIN":
					ask.Domain = arg
				case "N":
					n, err := strconv.Atoi(arg) // check has verified it
					if err != nil {
						return err
					}
					ask.Replicas = &n
				}
			}
			timeout := a.timeout
			if wait && !cmd.Flags().Changed("timeout") {
				timeout = waitTimeout
			}
			return a.order(cmd.Context(), o.verb, ask, wait, timeout)
		},
	}
	if o.waits {
		cmd.Flags().BoolVar(&wait, "wait", false, "wait until it is so, "+waitTimeout.String()+" or --timeout at most")
	}
	root.AddCommand(cmd)
}

// orderDocument is the document of an order.
type orderDocument struct {
	Status   string `json:"status"`
	Verb     string `json:"verb"`
	Service  string `json:"service,omitempty"`
	Domain   string `json:"domain,omitempty"`
	Replicas *int   `json:"replicas,omitempty"`
	Reached  bool   `json:"reached,omitempty"` // with --wait
	// Plan is what becomes of the services by drain or rebalance.
	Plan []topics.PlanLine `json:"plan,omitempty"`
	// Window is that of permit-join.
	Window *topics.JoinWindow `json:"window,omitempty"`
	// Secrets are those that a forgotten domain has had.
	Secrets []string `json:"secrets,omitempty"`
}

// order sends an order to the hub, and waits for its condition if asked to.
func (a *app) order(ctx context.Context, verb string, ask topics.HubRequest, wait bool, timeout time.Duration) error {
	s, err := a.connectFor(ctx, verb)
	if err != nil {
		return err
	}
	defer s.close()
	began := time.Now()
	var c condition
	hubTimeout := timeout
	if wait {
		hubTimeout = min(timeout, askTimeout)
	}
	planned, err := a.showPlan(ctx, s, verb, ask, hubTimeout)
	if err != nil {
		return err
	}
	if wait {
		if c, err = s.conditionOf(ctx, verb, ask, planned, hubTimeout); err != nil {
			return err
		}
	}
	reply, err := s.ask(ctx, verb, ask, hubTimeout)
	if err != nil {
		return a.withSuggestion(ctx, s, ask, err)
	}
	doc := orderDocument{Status: topics.StatusOK, Verb: verb, Service: ask.Service, Domain: ask.Domain, Replicas: ask.Replicas, Plan: planned}
	if verb == topics.VerbForget && len(reply.Data) > 0 {
		forgotten, err := decoded[topics.Forgotten](s, verb, reply)
		if err != nil {
			return err
		}
		doc.Secrets = forgotten.Secrets
	}
	progress := "accepted"
	if wait {
		if progress, err = a.await(ctx, s, c, timeout); err != nil {
			return err
		}
		doc.Reached = true
		progress += ", after " + seconds(time.Since(began))
	}
	if a.json {
		return a.printJSON(topics.Encode(doc))
	}
	about := strings.TrimSpace(verb + " " + ask.Service + " " + ask.Domain)
	if ask.Replicas != nil {
		about += " " + strconv.Itoa(*ask.Replicas)
	}
	a.infof("%s: %s", strings.Join(strings.Fields(about), " "), progress)
	if len(doc.Secrets) > 0 {
		a.infof("it has had these secrets, so set new values (dominionctl secret set NAME): %s", cleanWords(strings.Join(doc.Secrets, ", ")))
	}
	return nil
}

// showPlan lists what becomes of the services by an order, before it is given,
// where that is more than the order says.
func (a *app) showPlan(ctx context.Context, s *session, verb string, ask topics.HubRequest, timeout time.Duration) ([]topics.PlanLine, error) {
	what := topics.HubRequest{Drain: ask.Domain, Rebalance: verb == topics.VerbRebalance}
	if verb != topics.VerbDrain && verb != topics.VerbRebalance {
		return nil, nil
	}
	lines, err := askFor[[]topics.PlanLine](ctx, s, topics.VerbPlan, what, timeout)
	if err != nil {
		return nil, a.withSuggestion(ctx, s, what, err)
	}
	if a.json {
		return lines, nil
	}
	return lines, RenderForecast(a.env.Stdout, lines, a.style)
}
