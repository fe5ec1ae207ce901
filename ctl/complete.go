package ctl

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// completeTimeout is how long a shell waits for names: longer feels broken.
const completeTimeout = time.Second

// completer chooses the names that may stand after the arguments args.
type completer func(services, domains, args []string) []string

func aService(services, _, args []string) []string {
	if len(args) == 0 {
		return services
	}
	return nil
}

func aDomain(_, domains, args []string) []string {
	if len(args) == 0 {
		return domains
	}
	return nil
}

func serviceThenDomain(services, domains, args []string) []string {
	switch len(args) {
	case 0:
		return services
	case 1:
		return domains
	}
	return nil
}

// completed makes cobra's function of a completer: it asks the hub, and says
// nothing at all where that does not answer at once.
func (a *app) completed(c completer) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if c == nil || c([]string{""}, []string{""}, args) == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
		defer cancel()
		a.talks, a.window = false, completeTimeout/2
		found := make(chan []string, 1)
		go func() { // the process ends before this does, if it must
			defer close(found)
			s, err := a.connect(ctx)
			if err != nil {
				return
			}
			defer s.close()
			if services, domains, ok := s.known(ctx, completeTimeout); ok {
				found <- c(services, domains, args)
			}
		}()
		var names []string
		select {
		case <-ctx.Done():
		case names = <-found:
		}
		var fit []string
		for _, n := range names {
			if strings.HasPrefix(n, typed) && cleanWords(n) == n {
				fit = append(fit, n)
			}
		}
		return fit, cobra.ShellCompDirectiveNoFileComp
	}
}
