package ctl

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/jmbarzee/dominion/topics"
)

// completeTimeout is how long a shell waits for names: longer feels broken.
const completeTimeout = time.Second

// roles are those of users of the embedded broker.
var roles = []string{"admin", "reader", "device", "domain"}

// completed completes the arguments of a verb by their names: SERVICE, DOMAIN,
// USER, SECRET and CLIENT are asked of the hub, which adds nothing where it does not
// answer at once; ROLE and words such as publish|subscribe are fixed.
func (a *app) completed(args names) cobra.CompletionFunc {
	return func(cmd *cobra.Command, typed []string, prefix string) ([]string, cobra.ShellCompDirective) {
		var fit []string
		if len(typed) < len(args) {
			for _, n := range a.candidates(cmd.Context(), strings.Trim(args[len(typed)], "[]")) {
				if strings.HasPrefix(n, prefix) && cleanWords(n) == n {
					fit = append(fit, n)
				}
			}
		}
		return fit, cobra.ShellCompDirectiveNoFileComp
	}
}

// candidates returns what an argument of that name can be.
func (a *app) candidates(ctx context.Context, name string) []string {
	kinds := strings.Split(name, "|")
	switch {
	case name == "ROLE":
		return roles
	case strings.ToLower(name) == name: // words as they are typed
		return kinds
	case !slices.ContainsFunc(kinds, func(k string) bool { return lookups[k] != nil }):
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	a.interactive, a.window = false, completeTimeout/2
	found := make(chan []string, 1)
	go func() { // the process ends before this does, if it must
		s, err := a.connect(ctx)
		if err != nil {
			found <- nil
			return
		}
		defer s.close()
		var all []string
		for _, k := range kinds {
			if lookup := lookups[k]; lookup != nil {
				names, _ := lookup(ctx, s)
				all = append(all, names...)
			}
		}
		found <- all
	}()
	select {
	case <-ctx.Done():
		return nil
	case all := <-found:
		return all
	}
}

// lookups ask the hub for the names that an argument can be. ok is false where it
// did not answer.
var lookups = map[string]func(context.Context, *session) (all []string, ok bool){
	"SERVICE": func(ctx context.Context, s *session) ([]string, bool) {
		services, _, ok := s.serviceAndDomainNames(ctx, completeTimeout)
		return services, ok
	},
	"DOMAIN": func(ctx context.Context, s *session) ([]string, bool) {
		_, domains, ok := s.serviceAndDomainNames(ctx, completeTimeout)
		return domains, ok
	},
	"USER": func(ctx context.Context, s *session) ([]string, bool) {
		s, err := s.app.connectFor(ctx, topics.VerbUser)
		if err != nil {
			return nil, false
		}
		defer s.close()
		users, err := askFor[[]topics.UserView](ctx, s, topics.VerbUser, topics.HubRequest{Action: "list"}, completeTimeout)
		return namesOf(users, func(u topics.UserView) string { return u.Name }), err == nil
	},
	"SECRET": func(ctx context.Context, s *session) ([]string, bool) {
		s, err := s.app.connectFor(ctx, topics.VerbSecret)
		if err != nil {
			return nil, false
		}
		defer s.close()
		all, err := askFor[[]topics.SecretView](ctx, s, topics.VerbSecret, topics.HubRequest{Action: "list"}, completeTimeout)
		return namesOf(all, func(v topics.SecretView) string { return v.Name }), err == nil
	},
	"CLIENT": func(ctx context.Context, s *session) ([]string, bool) {
		clients, err := askFor[[]topics.ClientView](ctx, s, topics.VerbClients, topics.HubRequest{}, completeTimeout)
		return namesOf(clients, func(c topics.ClientView) string { return c.Client }), err == nil
	},
}

func namesOf[T any](all []T, name func(T) string) []string {
	var out []string
	for _, one := range all {
		out = append(out, name(one))
	}
	return out
}
