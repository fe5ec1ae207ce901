package ctl

import (
	"github.com/spf13/cobra"

	"github.com/jmbarzee/dominion/topics"
)

// addIdentity adds the verb identity.
func (a *app) addIdentity(root *cobra.Command) {
	identity := &cobra.Command{
		Use: topics.VerbIdentity, Short: "What the dominion asks of its domains: require", GroupID: "order",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return fail(ExitUsage, "dominionctl identity require", "identity: say what to do")
		},
	}
	identity.AddCommand(&cobra.Command{
		Use: "require", Short: "Take nothing from domains without a key any more",
		Long: `Take nothing any more from machines that joined before they had a key, and whose
agents are still of a version without one: they must be updated, and adopted by
code. "dominionctl status" names them. What they run goes on there; the hub places
it elsewhere once they are lost. It happens by itself after the hub has run for 30
days with keys. It cannot be undone.`,
		Args: a.check(nil),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.order(cmd.Context(), topics.VerbIdentity, topics.HubRequest{Action: "require"}, false, a.timeout)
		},
	})
	root.AddCommand(identity)
}
