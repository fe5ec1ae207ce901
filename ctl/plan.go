package ctl

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/topics"
)

// addPlan adds plan, which also asks what would be.
func (a *app) addPlan(root *cobra.Command) {
	var ask topics.HubRequest
	var file string
	c := &cobra.Command{
		Use: topics.VerbPlan, Short: "What the hub would do now, or what if, each line with a reason", GroupID: "look",
		Long: `What the hub would do now, with a reason a line: start, stop, keep, or wait.

With --config it is what the hub would do if it were reloaded with that file.

With --without, as if that domain were lost for good, with --drain, as if it
were drained, and with --rebalance, as if the services were spread anew, it is
what becomes of each service, losses first: goes down (it runs now and would
run nowhere), stop (a copy less, or not needed any more), moves, starts, wait
(it does not run now either), stays. The exit code is 4 where something goes
down, 0 where nothing does.

All of them work together. Nothing happens by it.`,
		Args: a.check(nil), ValidArgsFunction: a.completed(nil),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, flag := range []string{"without", "drain"} {
				if f := cmd.Flags().Lookup(flag); f.Changed && !topics.ValidName(f.Value.String()) {
					return a.badName(f.Value.String(), "domain")
				}
			}
			if cmd.Flags().Lookup("config").Changed {
				if err := a.readServices(file, &ask); err != nil {
					return err
				}
			}
			if ask.Without+ask.Drain == "" && !ask.Rebalance {
				return question(a, cmd.Context(), topics.VerbPlan, ask, RenderPlan)
			}
			lines, err := askAndShow(a, cmd.Context(), topics.VerbPlan, ask, RenderForecast)
			down := goDown(lines)
			if err != nil || len(down) == 0 {
				return err
			}
			f := fail(ExitDown, "", "%s would go down", strings.Join(down, ", "))
			f.written = true
			return f
		},
	}
	c.Flags().StringVar(&ask.Without, "without", "", "as if `DOMAIN` were lost for good")
	c.Flags().StringVar(&ask.Drain, "drain", "", "as if `DOMAIN` were drained")
	c.Flags().BoolVar(&ask.Rebalance, "rebalance", false, "as if the services were spread anew")
	c.Flags().StringVar(&file, "config", "", "as if `FILE` were the hub's dominion.toml")
	for _, flag := range []string{"without", "drain"} {
		_ = c.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			return a.completed(names{"DOMAIN"})(cmd, nil, typed)
		})
	}
	_ = c.RegisterFlagCompletionFunc("config", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"toml"}, cobra.ShellCompDirectiveFilterFileExt
	})
	root.AddCommand(c)
}

// goDown returns what would go down by a plan, each once.
func goDown(lines []topics.PlanLine) (all []string) {
	for _, l := range lines {
		name := cmp.Or(l.Service, "the hub")
		if l.Action == topics.ActionGoesDown && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

// readServices puts what a dominion.toml says of services into the question.
// What is wrong with it is said here, with file and line: the hub sees no file.
func (a *app) readServices(file string, ask *topics.HubRequest) error {
	if file == "" {
		return fail(ExitUsage, "write: dominionctl plan --config FILE", "--config needs the path of a file")
	}
	text, err := config.ServicesText(file)
	var faults config.Faults
	if errors.As(err, &faults) {
		what := "1 fault"
		if len(faults) > 1 {
			what = fmt.Sprintf("%d faults", len(faults))
		}
		if a.json { // one document says it all
			what = strings.ReplaceAll(faults.Error(), "\n", "; ")
		} else {
			for _, f := range faults {
				a.infof("%s", f)
			}
		}
		return fail(ExitUsage, "", "cannot plan with %s: %s", file, what)
	}
	if err != nil {
		return fail(ExitUsage, "", "cannot plan with %s: %v", file, err)
	}
	// An empty configuration is one, too: nothing would run.
	ask.Config = text + "\n"
	return nil
}
