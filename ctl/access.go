package ctl

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/jmbarzee/dominion/topics"
)

// access asks what the broker would answer a user. That it would deny is an
// answer like another: exit code 0.
func (a *app) access(cmd *cobra.Command, args []string) error {
	ask := topics.HubRequest{User: args[0], Action: args[1], Topic: args[2], Client: arg(args, 3)}
	if actions := []string{"publish", "subscribe", "deliver"}; !slices.Contains(actions, ask.Action) {
		return fail(ExitUsage, "dominionctl access "+ask.User+" publish "+ask.Topic, "%q is not a valid action: use publish, subscribe or deliver", ask.Action)
	}
	return question(a, cmd.Context(), topics.VerbAccess, ask, RenderAccess)
}

// RenderAccess draws the answer to access.
func RenderAccess(w io.Writer, d topics.Access, s Style) error {
	word, tint := "denied", red
	if d.Allowed {
		word, tint = "allowed", green
	}
	_, err := fmt.Fprintf(w, "%s  %s\n", s.paint(tint, word), cleanWords(d.By))
	return err
}
