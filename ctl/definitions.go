package ctl

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"

	"github.com/jmbarzee/dominion/topics"
)

// addDefinitions adds the verbs about services that are defined at run time.
func (a *app) addDefinitions(root *cobra.Command) {
	var plan bool
	apply := &cobra.Command{
		Use: "apply FILE", Short: "Define services at run time", GroupID: "order",
		Long: `Define the services of FILE, one or more [services.NAME] as in dominion.toml, or change
such definitions: all of them or none. "-" reads standard input. With --plan nothing
changes, and what would be done is listed.`,
		Args: a.check(names{"FILE"}),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := a.readDefinitions(args[0])
			if err != nil {
				return err
			}
			if plan {
				return question(a, cmd.Context(), topics.VerbApply, topics.HubRequest{TOML: text, Plan: true}, func(w io.Writer, v topics.Applied, s Style) error {
					return RenderPlan(w, v.Plan, s)
				})
			}
			return a.applied(cmd.Context(), topics.VerbApply, topics.HubRequest{TOML: text}, false, 0)
		},
	}
	apply.Flags().BoolVar(&plan, "plan", false, "list what would be done, and change nothing")
	diff := &cobra.Command{
		Use: "diff FILE", Short: "What apply would change of the definitions", GroupID: "look",
		Long: `The lines in which the definitions of FILE differ from those that count. The exit code is 0
also where they do.`,
		Args: a.check(names{"FILE"}),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := a.readDefinitions(args[0])
			if err != nil {
				return err
			}
			return a.diff(cmd.Context(), text)
		},
	}
	versions := &cobra.Command{
		Use: "versions SERVICE", Short: "The last versions of a service that was deployed", GroupID: "look",
		Args: a.check(names{"SERVICE"}), ValidArgsFunction: a.completed(names{"SERVICE"}),
		RunE: func(cmd *cobra.Command, args []string) error {
			return question(a, cmd.Context(), topics.VerbVersions, topics.HubRequest{Service: args[0]}, RenderVersions)
		},
	}
	wait := false
	rollback := &cobra.Command{
		Use: "rollback SERVICE [VERSION]", Short: "Go back to a former version of a service", GroupID: "order",
		Long: `Define a service as it was with a former version: the one before, or VERSION. "dominionctl
versions SERVICE" lists them. The data of the service stay as they are.`,
		Args: a.check(names{"SERVICE", "[VERSION]"}), ValidArgsFunction: a.completed(names{"SERVICE"}),
		RunE: func(cmd *cobra.Command, args []string) error {
			ask := topics.HubRequest{Service: args[0]}
			if len(args) > 1 {
				ask.Version = args[1]
			}
			if !cmd.Flags().Changed("wait") {
				wait = a.interactive
			}
			timeout := a.timeout
			if !cmd.Flags().Changed("timeout") {
				timeout = deployTimeout
			}
			return a.applied(cmd.Context(), topics.VerbRollback, ask, wait, timeout)
		},
	}
	rollback.Flags().BoolVar(&wait, "wait", false, "wait until it is healthy or taken back; the default on a terminal")
	remove := &cobra.Command{
		Use: "remove SERVICE", Short: "End the definition of a service that was deployed: it stops", GroupID: "order",
		Args: a.check(names{"SERVICE"}), ValidArgsFunction: a.completed(names{"SERVICE"}),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.applied(cmd.Context(), topics.VerbApply, topics.HubRequest{Service: args[0]}, false, 0)
		},
	}
	root.AddCommand(apply, diff, versions, rollback, remove)
}

// readDefinitions reads a file of definitions, or standard input.
func (a *app) readDefinitions(file string) (string, error) {
	from := a.env.Stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", fail(ExitUsage, "name a file with [services.NAME]", "cannot read the definitions: %v", err)
		}
		defer f.Close()
		from = f
	}
	if from == nil {
		return "", fail(ExitUsage, "name a file", "there is no standard input")
	}
	text, err := io.ReadAll(io.LimitReader(from, topics.MaxDefinitions+1))
	if err != nil {
		return "", fail(ExitUsage, "", "cannot read the definitions: %v", err)
	}
	if len(text) > topics.MaxDefinitions {
		return "", fail(ExitUsage, "apply it in parts", "the definitions are longer than %d bytes", topics.MaxDefinitions)
	}
	return string(text), nil
}

// applied sends apply or rollback, and waits for the version if asked to.
func (a *app) applied(ctx context.Context, verb string, ask topics.HubRequest, wait bool, timeout time.Duration) error {
	s, err := a.connectFor(ctx, verb)
	if err != nil {
		return err
	}
	defer s.close()
	r, err := s.ask(ctx, verb, ask, min(a.timeout, askTimeout))
	if err != nil {
		return a.withSuggestion(ctx, s, ask, err)
	}
	applied, err := decoded[topics.Applied](s, verb, r)
	if err != nil {
		return err
	}
	doc := appliedDocument{Status: topics.StatusOK, Verb: verb, Services: applied.Services}
	if wait && len(applied.Services) == 1 {
		name := applied.Services[0].Service
		if err := a.awaitVersion(ctx, s, name, bundleOf(applied.Services[0]), timeout); err != nil {
			return err
		}
		doc.Reached = true
	}
	if a.json {
		return a.printJSON(topics.Encode(doc))
	}
	if len(applied.Services) == 0 {
		a.infof("%s: its definition ended", ask.Service)
	}
	for _, d := range applied.Services {
		a.infof("%s: accepted: dominionctl why %s", strings.TrimSpace(d.Service+" "+bundleOf(d)), d.Service)
	}
	return nil
}

// appliedDocument is the document of apply, rollback and remove.
type appliedDocument struct {
	Status   string                  `json:"status"`
	Verb     string                  `json:"verb"`
	Services []topics.DefinitionView `json:"services"`
	Reached  bool                    `json:"reached,omitempty"`
}

// bundleOf returns the version of the bundle in a definition; "": it has none.
func bundleOf(d topics.DefinitionView) string {
	var file struct {
		Services map[string]struct {
			Bundle string `toml:"bundle"`
		} `toml:"services"`
	}
	if _, err := toml.Decode(d.TOML, &file); err != nil {
		return ""
	}
	return file.Services[d.Service].Bundle
}

// diff shows in which lines definitions differ from those that count.
func (a *app) diff(ctx context.Context, text string) error {
	var file struct {
		Services map[string]map[string]any `toml:"services"`
	}
	if _, err := toml.Decode(text, &file); err != nil {
		return fail(ExitUsage, "", "cannot read the definitions: %v", err)
	}
	s, err := a.connectFor(ctx, topics.VerbDefinition)
	if err != nil {
		return err
	}
	defer s.close()
	all := []definitionDiff{}
	for _, name := range slices.Sorted(maps.Keys(file.Services)) {
		before, err := s.definitionOf(ctx, name, a.timeout)
		if err != nil {
			return err
		}
		var was struct {
			Services map[string]map[string]any `toml:"services"`
		}
		if _, err := toml.Decode(before.TOML, &was); err != nil {
			return fail(ExitFailed, "", "cannot read the definition of %s: %v", name, err)
		}
		d := definitionDiff{Service: name, Source: before.Source}
		d.Removed, d.Added = differences(linesOf(was.Services[name]), linesOf(file.Services[name]))
		all = append(all, d)
	}
	if a.json {
		return a.printJSON(topics.Encode(all))
	}
	for _, d := range all {
		if d.Source != "" {
			fmt.Fprintf(a.env.Stdout, "%s is defined in %s, which alone changes it\n", d.Service, d.Source)
			continue
		}
		fmt.Fprintf(a.env.Stdout, "[services.%s]\n", d.Service)
		for _, l := range d.Removed {
			fmt.Fprintln(a.env.Stdout, "- "+cleanWords(l))
		}
		for _, l := range d.Added {
			fmt.Fprintln(a.env.Stdout, "+ "+cleanWords(l))
		}
	}
	return nil
}

// definitionDiff is how a definition differs from the one that counts.
type definitionDiff struct {
	Service string   `json:"service"`
	Source  string   `json:"source,omitempty"`
	Removed []string `json:"removed"`
	Added   []string `json:"added"`
}

// linesOf returns the keys of a definition, a line each.
func linesOf(keys map[string]any) []string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		var out strings.Builder
		if err := toml.NewEncoder(&out).Encode(map[string]any{key: keys[key]}); err != nil {
			continue
		}
		all = append(all, strings.ReplaceAll(strings.TrimSpace(out.String()), "\n", " "))
	}
	return all
}

// differences returns the lines that only the one and only the other has.
func differences(before, after []string) (removed, added []string) {
	removed, added = []string{}, []string{}
	for _, l := range before {
		if !slices.Contains(after, l) {
			removed = append(removed, l)
		}
	}
	for _, l := range after {
		if !slices.Contains(before, l) {
			added = append(added, l)
		}
	}
	return removed, added
}

// RenderVersions draws the versions of a service.
func RenderVersions(w io.Writer, all []topics.ServiceVersion, s Style) error {
	return buffered(w, func(b *bufio.Writer) {
		t := table{columns: []column{{head: "VERSION", min: 12}, {head: "", empty: true}, {head: "DEFINED"}, {head: "BY"}, {head: "DIGEST"}}}
		for _, v := range all {
			current := ""
			if v.Current {
				current = "current"
			}
			short := strings.TrimPrefix(v.Digest, "sha256:")
			t.add(textCell(v.Version), textCell(current), textCell(v.At.Local().Format("2006-01-02 15:04")), textCell(v.By), textCell(short[:min(12, len(short))]))
		}
		t.draw(b, s)
	})
}
