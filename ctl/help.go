package ctl

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpWidth is the width of a help text, in columns: that of a terminal as it
// opens.
const helpWidth = 80

// examples are what the help of each verb shows, by the words of its command
// line. A line starts with a verb; "dominionctl" is put before it.
var examples = map[string]string{
	"status":                "status\nstatus --watch\nstatus --json | jq .problems",
	"domains":               "domains\ndomains --json | jq '.[].name'",
	"services":              "services\nservices --json | jq '.[] | select(.running < .wanted)'",
	"devices":               "devices\ndevices --problems",
	"describe":              "describe web\ndescribe pi-kitchen",
	"plan":                  "plan\nplan --without pi-kitchen         # before you unplug it\nplan --drain pi-kitchen           # before you drain it\nplan --config dominion.toml       # before you reload the hub",
	"why":                   "why web\nwhy web pi-kitchen",
	"access":                "access zigbee publish zigbee2mqtt/bridge/state\naccess zigbee subscribe 'dominion/#'",
	"version":               "version\nversion --json",
	"ca":                    "ca > ca.pem",
	"certificates":          "certificates\ncertificates --json",
	"adopt":                 "adopt pi-kitchen K7QF-2M9X-4T1R\nadopt pi-kitchen\nadopt pi-kitchen K7QF-2M9X-4T1R --replace",
	"permit-join":           "permit-join\npermit-join 5m --count 3\npermit-join 0s",
	"token":                 "token create\ntoken list",
	"token create":          "token create\ntoken create --name pi-kitchen --expires 1h",
	"token list":            "token list\ntoken list --json",
	"token remove":          "token remove 3f9a12c0",
	"certificates revoke":   "certificates revoke 3f9a-77c0-12ab-9e04",
	"authority":             "authority\nauthority offline /media/usb/authority.pem\nauthority rotate",
	"authority offline":     "authority offline /media/usb/authority.pem",
	"authority rotate":      "authority rotate\nauthority rotate --compromised",
	"clients":               "clients\nclients kick kitchen-lamp",
	"clients kick":          "clients kick kitchen-lamp",
	"clients forget":        "clients forget kitchen-lamp",
	"trace":                 "trace kitchen-lamp\ntrace 'zigbee2mqtt/#'",
	"logs":                  "logs web\nlogs -f web pi-kitchen\nlogs --times --since 10m web",
	"events":                "events\nevents -f\nevents --since 1h",
	"start":                 "start web\nstart web --wait",
	"stop":                  "stop web\nstop web --wait",
	"restart":               "restart web\nrestart web pi-kitchen --wait",
	"update":                "update web\nupdate web --wait",
	"scale":                 "scale web 2\nscale web 0             # as the configuration says",
	"rebalance":             "plan --rebalance            # what would move\nrebalance\nrebalance --wait",
	"reset":                 "reset web\nreset web --wait",
	"drain":                 "drain pi-kitchen --wait\nundrain pi-kitchen",
	"undrain":               "undrain pi-kitchen",
	"forget":                "forget pi-attic",
	"resync":                "resync pi-kitchen",
	"replan":                "replan",
	"user":                  "user list\nuser add zigbee device\nuser password zigbee",
	"user list":             "user list",
	"user add":              "user add zigbee device\nuser add pi-kitchen domain --certificate",
	"user password":         "user password zigbee\nuser password zigbee --new-password-file pw",
	"user role":             "user role anna admin",
	"user certificate":      "user certificate zigbee --out /etc/zigbee2mqtt --days 365",
	"user remove":           "user remove zigbee",
	"identity":              "identity require",
	"identity require":      "identity require",
	"deploy":                "deploy ./web\ndeploy ./web --on attic --version 1.4.0\ndeploy ./web --trait compute --replicas 2\ndeploy oci://ghcr.io/someone/web:1.4.0",
	"apply":                 "apply web.toml\napply web.toml --plan\napply - < web.toml",
	"diff":                  "diff web.toml",
	"versions":              "versions web\nversions web --json",
	"rollback":              "rollback web\nrollback web 1.3.0",
	"remove":                "remove web",
	"secret":                "secret list\nsecret set mqtt-password\nsecret set tls-key < server.key",
	"secret list":           "secret list\nsecret list --json",
	"secret set":            "secret set mqtt-password               # asked for\nsecret set tls-key < server.key",
	"secret remove":         "secret remove mqtt-password",
	"options":               "options",
	"help":                  "help logs",
	"completion":            "completion bash > /etc/bash_completion.d/dominionctl",
	"completion bash":       "completion bash > /etc/bash_completion.d/dominionctl",
	"completion zsh":        "completion zsh > \"${fpath[1]}/_dominionctl\"",
	"completion fish":       "completion fish > ~/.config/fish/completions/dominionctl.fish",
	"completion powershell": "completion powershell | Out-String | Invoke-Expression",
}

// shared is what every verb takes, in one line.
const shared = "--json, --timeout and how to reach the hub: dominionctl options"

// addHelp gives every command its examples and one form of help, which fits
// 80 columns and names the options that all verbs share in one line.
func (a *app) addHelp(root *cobra.Command) {
	root.AddCommand(&cobra.Command{
		Use: "options", Short: "The options that every verb takes", GroupID: "about",
		Args: a.check(nil), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			_, err := io.WriteString(a.env.Stdout, "Options of every verb:\n"+flagLines(root.PersistentFlags()))
			return err
		},
	})
	root.SetHelpFunc(func(c *cobra.Command, _ []string) { writeHelp(c.OutOrStdout(), c) })
	var each func(c *cobra.Command)
	each = func(c *cobra.Command) {
		path := strings.TrimPrefix(c.CommandPath(), root.Name()+" ")
		c.Example = ""
		for _, line := range strings.Split(examples[path], "\n") {
			if line != "" {
				c.Example += "  dominionctl " + line + "\n"
			}
		}
		for _, sub := range c.Commands() {
			each(sub)
		}
	}
	for _, c := range root.Commands() {
		each(c)
	}
}

// writeHelp writes the help of one command.
func writeHelp(w io.Writer, c *cobra.Command) {
	about := c.Long
	if about == "" {
		about = c.Short + "."
	}
	for _, line := range reflow(strings.ReplaceAll(about, "\t", "    "), helpWidth) {
		fmt.Fprintln(w, line)
	}
	use := c.UseLine()
	if c.HasAvailableSubCommands() {
		use = c.CommandPath() + " VERB …"
	}
	fmt.Fprintf(w, "\nUsage:\n  %s\n", use)
	if len(c.Aliases) > 0 {
		fmt.Fprintf(w, "\nAliases:\n  %s\n", strings.Join(append([]string{c.Name()}, c.Aliases...), ", "))
	}
	if c.Example != "" {
		fmt.Fprintf(w, "\nExamples:\n%s\n", strings.TrimRight(c.Example, "\n"))
	}
	writeVerbs(w, c)
	if local := flagLines(c.LocalNonPersistentFlags()); local != "" {
		fmt.Fprintf(w, "\nOptions:\n%s", local)
	}
	fmt.Fprintf(w, "\nEvery verb takes %s\n", shared)
}

// writeVerbs lists the verbs below a command, group by group.
func writeVerbs(w io.Writer, c *cobra.Command) {
	list := func(title, group string) {
		var lines []string
		for _, sub := range c.Commands() {
			if sub.GroupID == group && sub.IsAvailableCommand() {
				lines = append(lines, fmt.Sprintf("  %-*s %s", c.Commands()[0].NamePadding(), sub.Name(), sub.Short))
			}
		}
		if len(lines) > 0 {
			fmt.Fprintf(w, "\n%s\n%s\n", title, strings.Join(lines, "\n"))
		}
	}
	for _, g := range c.Groups() {
		list(g.Title, g.ID)
	}
	list("Verbs:", "")
}

// flagLines describes flags, those that are hidden left out.
func flagLines(flags *pflag.FlagSet) string { return flags.FlagUsagesWrapped(helpWidth) }
