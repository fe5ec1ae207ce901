package ctl

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/bcrypt"

	"github.com/jmbarzee/dominion/internal/passwordfile"
	"github.com/jmbarzee/dominion/topics"
)

// addUsers adds the verb user: the users of the embedded broker.
func (a *app) addUsers(root *cobra.Command) {
	user := &cobra.Command{
		Use: topics.VerbUser, Short: "The users of the broker: list, add, remove, password, role", GroupID: "order",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fail(ExitUsage, "dominionctl user list", "user: say what to do")
		},
	}
	var file string
	var certificate bool
	add := func(action, short string, args names, run func(cmd *cobra.Command, args []string) error) *cobra.Command {
		c := &cobra.Command{
			Use: strings.Join(append(names{action}, args...), " "), Short: short, Args: a.check(args), RunE: run,
			ValidArgsFunction: a.completed(args),
		}
		user.AddCommand(c)
		return c
	}
	fromFile := func(c *cobra.Command) {
		c.Flags().StringVar(&file, "new-password-file", "", "`file` with the password on its first line; without it one is made, and shown once")
	}
	add("list", "All users and their roles", nil, func(cmd *cobra.Command, _ []string) error {
		return question(a, cmd.Context(), topics.VerbUser, topics.HubRequest{Action: "list"}, RenderUsers)
	})
	made := add("add", "Make a user, and a password for it", names{"USER", "ROLE"}, func(cmd *cobra.Command, args []string) error {
		ask := topics.HubRequest{Action: "add", User: args[0], Role: args[1], Certificate: certificate}
		return a.editUser(cmd.Context(), ask, !certificate || file != "", file)
	})
	made.Flags().BoolVar(&certificate, "certificate", false, "a certificate with its name lets it in; no password is made")
	fromFile(made)
	fromFile(add("password", "Give a user a new password", names{"USER"}, func(cmd *cobra.Command, args []string) error {
		return a.editUser(cmd.Context(), topics.HubRequest{Action: "password", User: args[0]}, true, file)
	}))
	add("role", "Give a user another role", names{"USER", "ROLE"}, func(cmd *cobra.Command, args []string) error {
		return a.editUser(cmd.Context(), topics.HubRequest{Action: "role", User: args[0], Role: args[1]}, false, "")
	})
	var days int
	var folder string
	signed := add("certificate", "Make a key here, and a certificate by which it is the user", names{"USER"}, func(cmd *cobra.Command, args []string) error {
		return a.userCertificate(cmd.Context(), args[0], folder, days)
	})
	signed.Flags().IntVar(&days, "days", 365, "how many `days` the certificate is valid")
	signed.Flags().StringVar(&folder, "out", ".", "`folder` for USER.crt and USER.key")
	add("remove", "End a user: it may do nothing from now on", names{"USER"}, func(cmd *cobra.Command, args []string) error {
		return a.editUser(cmd.Context(), topics.HubRequest{Action: "remove", User: args[0]}, false, "")
	})
	root.AddCommand(user)
}

// userDocument is the document of an order about a user.
type userDocument struct {
	Status   string `json:"status"`
	Verb     string `json:"verb"`
	Action   string `json:"action"`
	User     string `json:"user"`
	Password string `json:"password,omitempty"` // that was made
}

// editUser gives an order about a user. A password that is made here is data:
// stdout carries it alone, this once. Its hash alone leaves this machine.
func (a *app) editUser(ctx context.Context, ask topics.HubRequest, password bool, file string) error {
	doc := userDocument{Status: topics.StatusOK, Verb: topics.VerbUser, Action: ask.Action, User: ask.User}
	if password {
		secret := rand.Text() // 128 bits
		if file == "" {
			doc.Password = secret
		} else {
			var err error
			if secret, err = passwordfile.Read(file); err != nil {
				return fail(ExitUsage, passwordHint, "cannot read --new-password-file: %v", err)
			}
		}
		hash, err := bcrypt.GenerateFromPassword([]byte(secret), bcrypt.DefaultCost)
		if err != nil {
			return fail(ExitUsage, "use a shorter one", "cannot use that password: %v", err)
		}
		ask.Hash = string(hash)
	}
	s, err := a.connectFor(ctx, topics.VerbUser)
	if err != nil {
		return err
	}
	defer s.close()
	if _, err := s.ask(ctx, topics.VerbUser, ask, a.timeout); err != nil {
		return a.withSuggestion(ctx, s, ask, err)
	}
	if a.json {
		return a.printJSON(topics.Encode(doc))
	}
	if doc.Password != "" {
		fmt.Fprintf(a.env.Stderr, "the password of %s, shown this once:\n", cleanWords(ask.User))
		_, err := fmt.Fprintln(a.env.Stdout, doc.Password)
		return err
	}
	fmt.Fprintf(a.env.Stderr, "%s %s: accepted\n", ask.Action, cleanWords(ask.User))
	return nil
}

// RenderUsers draws the users of the broker.
func RenderUsers(w io.Writer, users []topics.UserView, s Style) error {
	return buffered(w, func(b *bufio.Writer) {
		t := table{columns: []column{{head: "USER", min: 12}, {head: "ROLE"}, {head: "BY"}, {head: "WRITTEN IN"}}}
		for _, u := range users {
			by := "password"
			if u.Password && u.Certificate {
				by = "password, certificate"
			} else if u.Certificate {
				by = "certificate"
			}
			where := "data_dir"
			if u.Configured {
				where = "dominion.toml"
			}
			t.add(textCell(u.Name), textCell(u.Role), textCell(by), textCell(where))
		}
		t.draw(b, s)
	})
}
