package ctl

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/jmbarzee/dominion/topics"
)

// addQuestions adds the verbs that only ask.
func (a *app) addQuestions(root *cobra.Command) {
	add := func(verb, short string, args names, run func(cmd *cobra.Command, args []string) error, aliases ...string) {
		root.AddCommand(&cobra.Command{
			Use: strings.Join(append(names{verb}, args...), " "), Short: short, GroupID: "look", Aliases: aliases,
			Args: a.check(args), ValidArgsFunction: a.completed(args), RunE: run,
		})
	}
	root.AddCommand(a.statusCommand(), a.describeCommand(), a.devicesCommand())
	add(topics.VerbDomains, "The machines", nil, func(cmd *cobra.Command, _ []string) error {
		return question(a, cmd.Context(), topics.VerbDomains, topics.HubRequest{}, RenderDomains)
	}, "nodes")
	add(topics.VerbServices, "The services, where they run and why", nil, func(cmd *cobra.Command, _ []string) error {
		return question(a, cmd.Context(), topics.VerbServices, topics.HubRequest{}, RenderServices)
	}, "ls", "ps")
	a.addPlan(root)
	add(topics.VerbWhy, "Why a service runs where it runs, or why it does not", names{"SERVICE", "[DOMAIN]"},
		func(cmd *cobra.Command, args []string) error {
			ask := topics.HubRequest{Service: args[0], Domain: arg(args, 1)}
			return question(a, cmd.Context(), topics.VerbWhy, ask, RenderWhy)
		})
	add(topics.VerbAccess, "What the broker lets a user do, and which rule decides", names{"USER", "publish|subscribe", "TOPIC", "[CLIENT]"}, a.access)
	add(topics.VerbVersion, "The versions of this program and of the hub", nil,
		func(cmd *cobra.Command, _ []string) error { return a.version(cmd.Context()) })
}

// arg returns an argument that may be absent.
func arg(args []string, i int) string {
	if i < len(args) {
		return args[i]
	}
	return ""
}

// question asks the hub and shows its answer.
func question[T any](a *app, ctx context.Context, verb string, ask topics.HubRequest, render func(io.Writer, T, Style) error) error {
	_, err := askAndShow(a, ctx, verb, ask, render)
	return err
}

// askAndShow does as question, and returns the answer.
func askAndShow[T any](a *app, ctx context.Context, verb string, ask topics.HubRequest, render func(io.Writer, T, Style) error) (T, error) {
	var data T
	s, err := a.connectFor(ctx, verb)
	if err != nil {
		return data, err
	}
	defer s.close()
	reply, err := s.ask(ctx, verb, ask, a.timeout)
	if err != nil {
		return data, a.withSuggestion(ctx, s, ask, err)
	}
	if data, err = decoded[T](s, verb, reply); err != nil {
		return data, err
	}
	if a.json {
		if len(reply.Data) == 0 {
			reply.Data = topics.Encode(data)
		}
		return data, a.printJSON(reply.Data)
	}
	return data, render(a.env.Stdout, data, a.style)
}

func decoded[T any](s *session, verb string, reply topics.Reply) (T, error) {
	var zero T
	if len(reply.Data) == 0 {
		return zero, nil
	}
	_, response := s.tree.Request(verb)
	data, err := topics.DecodeForDisplay[T](response, reply.Data)
	if err != nil {
		return zero, fail(ExitFailed, "update the older of dominionctl and the hub", "%v", err)
	}
	return data, nil
}

// ownVersion is the document of version.
type ownVersion struct {
	topics.VersionView
	Hub *topics.VersionView `json:"hub"`
}

// version shows its own version also where no hub answers.
func (a *app) version(ctx context.Context) error {
	doc := ownVersion{VersionView: topics.VersionView{Version: a.env.Version, Protocol: topics.Protocol}}
	err := func() error {
		s, err := a.connect(ctx)
		if err != nil {
			return err
		}
		defer s.close()
		reply, err := s.ask(ctx, topics.VerbVersion, topics.HubRequest{}, a.timeout)
		if err != nil {
			return err
		}
		hub, err := decoded[topics.VersionView](s, topics.VerbVersion, reply)
		doc.Hub = &hub
		return err
	}()
	if a.json {
		if err != nil {
			return err
		}
		return a.printJSON(topics.Encode(doc))
	}
	return errors.Join(err, RenderVersion(a.env.Stdout, doc.VersionView, doc.Hub, a.style))
}

// withSuggestion adds to a refusal what was probably meant, where the name of
// a service, a domain, a user or a client is not among those that the hub has.
func (a *app) withSuggestion(ctx context.Context, s *session, ask topics.HubRequest, err error) error {
	var f *failure
	if !errors.As(err, &f) || f.code != ExitFailed || f.hint != "" || s.closed() {
		return err
	}
	client := ask.Client
	if ask.Topic != "" { // access asks of one that may come
		client = ""
	}
	user := ask.User
	if ask.Action == "add" {
		user = ""
	}
	for _, c := range []struct{ name, kind, list string }{
		{ask.Service, "SERVICE", "services"},
		{ask.Domain, "DOMAIN", "domains"},
		{ask.Without, "DOMAIN", "domains"},
		{ask.Drain, "DOMAIN", "domains"},
		{user, "USER", "user list"},
		{client, "CLIENT", "clients"},
	} {
		if c.name == "" {
			continue
		}
		listed, answered := lookups[c.kind](ctx, s)
		if !answered || slices.Contains(listed, c.name) {
			continue
		}
		if near := nearestName(c.name, listed); near != "" {
			f.hint = "did you mean: " + a.instead(c.name, near)
			f.message, _, _ = strings.Cut(f.message, "; did you mean") // the hub's guess says less
		} else {
			f.hint = "dominionctl " + c.list + " lists them"
		}
		return f
	}
	return err
}

// serviceAndDomainNames returns the names of the services and domains that the hub knows.
func (s *session) serviceAndDomainNames(ctx context.Context, timeout time.Duration) (services, domains []string, ok bool) {
	o, err := s.overview(ctx, timeout)
	if err != nil {
		return nil, nil, false
	}
	for _, v := range o.Services {
		services = append(services, v.Service)
	}
	for _, d := range o.Domains {
		domains = append(domains, d.Name)
	}
	return services, domains, true
}

func (s *session) overview(ctx context.Context, timeout time.Duration) (topics.Overview, error) {
	return askFor[topics.Overview](ctx, s, topics.VerbStatus, topics.HubRequest{}, timeout)
}

func askFor[T any](ctx context.Context, s *session, verb string, ask topics.HubRequest, timeout time.Duration) (T, error) {
	reply, err := s.ask(ctx, verb, ask, timeout)
	if err != nil {
		var zero T
		return zero, err
	}
	return decoded[T](s, verb, reply)
}
