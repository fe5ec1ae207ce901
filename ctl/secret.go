package ctl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/jmbarzee/dominion/topics"
)

// addSecrets adds the verb secret: the secrets that services get in their environment.
func (a *app) addSecrets(root *cobra.Command) {
	secret := &cobra.Command{
		Use: topics.VerbSecret, Short: "The secrets of services: list, set, remove", GroupID: "order",
		Long: `The secrets that services get in their environment: environment = { MQTT_PASSWORD =
"secret:NAME" } in dominion.toml. The hub stores a value encrypted, and seals it to
each machine that runs such a service; no value is ever shown again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fail(ExitUsage, "dominionctl secret list", "secret: say what to do")
		},
	}
	add := func(action, short, long string, args names, run func(cmd *cobra.Command, args []string) error) {
		secret.AddCommand(&cobra.Command{
			Use: strings.Join(append(names{action}, args...), " "), Short: short, Long: long, Args: a.checkSecret(args), RunE: run,
			ValidArgsFunction: a.completed(args),
		})
	}
	add("list", "The secrets, who uses them, and who has had them", "", nil, func(cmd *cobra.Command, _ []string) error {
		return question(a, cmd.Context(), topics.VerbSecret, topics.HubRequest{Action: "list"}, RenderSecrets)
	})
	add("set", "Set the value of a secret, from standard input", `Set the value of a secret. It is read from standard input to its end, without the last
line end; on a terminal it is asked for, and not shown. The services that use the
secret are restarted one instance after the other, if the value is another one.`, names{"SECRET"}, func(cmd *cobra.Command, args []string) error {
		value, err := a.readSecret(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return a.editSecret(cmd.Context(), topics.HubRequest{Action: "set", Secret: args[0], Value: value})
	})
	add("remove", "Remove a secret: what uses it is not started any more", "", names{"SECRET"}, func(cmd *cobra.Command, args []string) error {
		return a.editSecret(cmd.Context(), topics.HubRequest{Action: "remove", Secret: args[0]})
	})
	root.AddCommand(secret)
}

// checkSecret refuses what cannot be the arguments of a verb about secrets.
func (a *app) checkSecret(want names) cobra.PositionalArgs {
	check := a.check(want)
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return err
		}
		if len(args) > 0 && !topics.ValidID(args[0]) {
			return fail(ExitUsage, "use letters, digits, . _ and -, 64 characters at most; the value is read from standard input", "the first argument cannot be the name of a secret")
		}
		return nil
	}
}

// readSecret reads the value of a secret from standard input.
func (a *app) readSecret(ctx context.Context, name string) (string, error) {
	const hint = "for example: dominionctl secret set SECRET < FILE"
	var value []byte
	var err error
	if f, is := a.env.Stdin.(*os.File); is && term.IsTerminal(int(f.Fd())) {
		fmt.Fprintf(a.env.Stderr, "the value of %s: ", name)
		value, err = readHidden(ctx, int(f.Fd()))
		fmt.Fprintln(a.env.Stderr)
	} else if a.env.Stdin != nil {
		value, err = io.ReadAll(io.LimitReader(a.env.Stdin, topics.MaxSecret+3))
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		return "", fail(ExitUsage, hint, "cannot read the value from standard input: %v", err)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(value), "\n"), "\r")
	switch {
	case text == "":
		return "", fail(ExitUsage, hint, "there is no value on standard input")
	case len(text) > topics.MaxSecret:
		return "", fail(ExitUsage, "put what is long into a file on the domain", "the value is longer than %d bytes", topics.MaxSecret)
	case strings.ContainsRune(text, 0) || !utf8.ValidString(text):
		return "", fail(ExitUsage, "encode it, for example with base64", "the value is not text in UTF-8 without a NUL byte")
	}
	return text, nil
}

// readHidden reads a line from a terminal that does not show it. The terminal shows what is
// typed again when ctx ends.
func readHidden(ctx context.Context, terminal int) ([]byte, error) {
	before, err := term.GetState(terminal)
	if err != nil {
		return nil, err
	}
	type result struct {
		line []byte
		err  error
	}
	done := make(chan result, 1)
	go func() { // the process ends before this does, if it must
		line, err := term.ReadPassword(terminal)
		done <- result{line, err}
	}()
	select {
	case r := <-done:
		return r.line, r.err
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), term.Restore(terminal, before))
	}
}

// secretDocument is the document of an order about a secret.
type secretDocument struct {
	Status string `json:"status"`
	Verb   string `json:"verb"`
	Action string `json:"action"`
	Secret string `json:"secret"`
	// Services use it.
	Services []string `json:"services"`
}

// editSecret sets or removes a secret.
func (a *app) editSecret(ctx context.Context, ask topics.HubRequest) error {
	s, err := a.connectFor(ctx, topics.VerbSecret)
	if err != nil {
		return err
	}
	defer s.close()
	all, err := askFor[[]topics.SecretView](ctx, s, topics.VerbSecret, ask, a.timeout)
	if err != nil {
		ask.Value = ""
		return a.withSuggestion(ctx, s, ask, err)
	}
	doc := secretDocument{Status: topics.StatusOK, Verb: topics.VerbSecret, Action: ask.Action, Secret: ask.Secret, Services: []string{}}
	for _, one := range all {
		if one.Name == ask.Secret {
			doc.Services = one.Services
		}
	}
	if a.json {
		return a.printJSON(topics.Encode(doc))
	}
	used := "no service uses it"
	if len(doc.Services) > 0 {
		used = "used by " + cleanWords(strings.Join(doc.Services, ", "))
	}
	a.infof("secret %s %s: accepted; %s", ask.Action, ask.Secret, used)
	return nil
}

// RenderSecrets draws the secrets.
func RenderSecrets(w io.Writer, all []topics.SecretView, s Style) error {
	return buffered(w, func(b *bufio.Writer) {
		t := table{columns: []column{{head: "SECRET", min: 12}, {head: "SET"}, {head: "USED BY"}, {head: "DOMAINS THAT HAVE HAD IT"}}}
		for _, one := range all {
			set := "missing"
			if !one.Missing {
				set = one.Changed.Local().Format("2006-01-02 15:04")
			}
			t.add(textCell(one.Name), textCell(set), textCell(strings.Join(one.Services, ", ")), textCell(strings.Join(one.Domains, ", ")))
		}
		t.draw(b, s)
	})
}
