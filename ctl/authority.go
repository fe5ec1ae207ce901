package ctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/internal/atomicfile"
	"github.com/jmbarzee/dominion/topics"
)

// addAuthority adds the verb authority: what signs the dominion's certificates.
func (a *app) addAuthority(root *cobra.Command) {
	authority := &cobra.Command{
		Use: topics.VerbAuthority, Short: "The dominion's authority: where its key is, and its change", GroupID: "look",
		Long: `The authority signs the dominion's certificates, and is all that a domain trusts. Its
key is on the hub's machine unless "authority offline" has taken it away.`,
		Args: a.check(nil),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.askAuthority(cmd.Context(), topics.HubRequest{})
		},
	}
	authority.AddCommand(&cobra.Command{
		Use: "offline FILE", Short: "Take its key to FILE, and leave an intermediate",
		Long: `Write the authority's key and certificate to FILE, which must not exist, and remove
the key from the hub's machine, where an intermediate signs from then on. Domains
notice nothing. Run it on the hub's machine, and keep FILE elsewhere: who has it is
the authority. With FILE back at data_dir/identity/authority.key and the hub started
again, "authority offline" replaces the intermediate, and "authority rotate" the
authority.`,
		Args: a.check(names{"FILE"}),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.takeOffline(cmd.Context(), args[0])
		},
	})
	compromised := false
	rotate := &cobra.Command{
		Use: "rotate", Short: "Replace the authority, and the hub's key",
		Long: `Replace the authority by a new one, and the hub's key. The present authority signs
that, each domain stores it, and when all have it is used; "authority" shows who is
missing. Connections that verify the hub by "dominionctl ca" of before go on, and
certificates of users stay valid.

With --compromised, because somebody else may have the key, the present authority
ends at once: domains that are away need their code afterwards, users and services
new certificates, and who verifies the hub by a file needs "dominionctl ca" anew.`,
		Args: a.check(nil),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.askAuthority(cmd.Context(), topics.HubRequest{Action: "rotate", Compromised: compromised})
		},
	}
	rotate.Flags().BoolVar(&compromised, "compromised", false, "end the present authority at once, without waiting for domains that are away")
	authority.AddCommand(rotate)
	root.AddCommand(authority)
}

// askAuthority asks about the authority, or has it replaced, and shows it.
func (a *app) askAuthority(ctx context.Context, ask topics.HubRequest) error {
	s, err := a.connectFor(ctx, topics.VerbAuthority)
	if err != nil {
		return err
	}
	defer s.close()
	v, err := askFor[topics.AuthorityView](ctx, s, topics.VerbAuthority, ask, a.timeout)
	if err != nil {
		return err
	}
	return a.printAuthorityView(v)
}

// printAuthorityView shows the authority. Its private key is never shown.
func (a *app) printAuthorityView(v topics.AuthorityView) error {
	v.PrivateKey = ""
	if a.json {
		return a.printJSON(topics.Encode(v))
	}
	var b strings.Builder
	line := func(name, text string) { fmt.Fprintf(&b, "%-10s %s\n", name, cleanWords(text)) }
	line("key", identity.Label(v.Key))
	line("expires", dayOf(v.Expires))
	where := "on the hub's machine"
	if v.Offline {
		where = "elsewhere; an intermediate signs in its place"
	}
	line("kept", where)
	if v.Next != "" {
		line("next", identity.Label(v.Next)+", since "+v.Since.Local().Format("2006-01-02 15:04"))
		line("stored by", namesOrNone(v.Has))
		line("missing", namesOrNone(v.Missing))
	}
	if len(v.Behind) > 0 {
		line("behind", strings.Join(v.Behind, ", ")+": `domain code` there, once it has been without its hub for isolation (10s by default), then dominionctl adopt NAME CODE")
	}
	_, err := fmt.Fprint(a.env.Stdout, b.String())
	return err
}

// namesOrNone returns names in words.
func namesOrNone(all []string) string {
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}

// takeOffline writes the authority's key to a file, and then has the hub remove it. A file of
// an earlier try that was cut short is taken, any other one is never overwritten.
func (a *app) takeOffline(ctx context.Context, file string) error {
	s, err := a.connectFor(ctx, topics.VerbAuthority)
	if err != nil {
		return err
	}
	defer s.close()
	exported, err := askFor[topics.AuthorityView](ctx, s, topics.VerbAuthority, topics.HubRequest{Action: "export"}, a.timeout)
	if err != nil {
		return err
	}
	text := []byte(exported.PrivateKey)
	if _, err := identity.ParseAuthority(text, text); err != nil {
		return fail(ExitFailed, "update dominionctl, or the hub", "the hub's answer is not an authority: %v", err)
	}
	if err := atomicfile.Create(file, text, 0o600); errors.Is(err, fs.ErrExist) {
		if there, errRead := os.ReadFile(file); errRead != nil || !bytes.Equal(there, text) {
			return fail(ExitFailed, "name a file that does not exist", "%s exists; the authority's key is still on the hub's machine", file)
		}
	} else if err != nil {
		return fail(ExitFailed, "name a file in a folder that exists", "%v; the authority's key is still on the hub's machine", err)
	}
	v, err := askFor[topics.AuthorityView](ctx, s, topics.VerbAuthority, topics.HubRequest{Action: "offline", Key: exported.Key}, a.timeout)
	if err != nil {
		return err
	}
	a.infof("the authority's key is in %s, and not on the hub's machine any more: keep that file elsewhere, twice", file)
	return a.printAuthorityView(v)
}
