// Package ctl is dominionctl, the user's command line: its verbs, and the
// pictures it draws of the answers.
//
// It is an MQTT client like any other and knows only the contract in topics:
// whatever it does, mosquitto_pub and mosquitto_sub can do too. It decides
// nothing about services; it asks the hub, and the agents for their logs. It
// links no broker engine. cmd/dominionctl runs Main; whoever wants the same
// picture of a home, such as make demo, may call the Render functions, which
// are pure.
//
// What a script may rely on: stdout carries data alone, stderr what is said
// to people. Exit codes are the constants below. With --json stdout carries
// exactly one JSON document, also when the command failed; then it is
// {"status":"error","error":…,"hint":…}, and stderr says the same in words.
// The document of a question is the data of the hub's answer as it came, with
// keys that this version does not know; that of an order is
// {"status":"ok","verb":…,…}.
//
// # Files
//
//	access.go          access
//	address.go         the hub's address and the password, from flags and environment
//	adopt.go           adopt, token, waiting for a domain to be online
//	authority.go       authority: taking it offline, replacing it
//	certificates.go    ca, certificate, user certificate
//	clean.go           what is removed from text before a terminal shows it
//	clients.go         clients, kick, trace
//	complete.go        completion of names
//	control_socket.go  connecting by the control socket
//	ctl.go             programs' start, flags, exit codes, errors
//	definitions.go     apply, diff, versions, rollback, remove
//	deploy.go          deploy: what is deployed, its definition, waiting for it
//	describe.go        describe of a service or domain
//	devices.go         devices
//	events.go          events and how many
//	find.go            finding hubs by zeroconf, and how long
//	help.go            help texts
//	hints.go           names that were probably meant
//	identity.go        identity require
//	listener_linux.go  who listens at a control socket that a broker has named
//	listener_other.go  the same where it is not checked
//	logs.go            logs, following, several domains
//	orders.go          commands that change something
//	plan.go            plan
//	push.go            pushing bundles to the hub's registry
//	questions.go       commands that show something
//	render_events.go   how events are drawn
//	render_log.go      how log lines are drawn
//	render_plan.go     how a plan is drawn
//	render_status.go   how status, domains and services are drawn
//	render_version.go  how versions are drawn
//	render_why.go      how why is drawn
//	secret.go          secret, reading a value without showing it
//	session.go         the connection to the hub; how long an answer is waited for
//	since_flag.go      the flag --since
//	table.go           tables: columns, colours, times
//	usage_errors.go    faults of the command line and how they are explained
//	user.go            user, passwords that are made
//	wait.go            --wait: what is waited for, and how long
//	watch.go           status --watch, and connecting again
//	width.go           columns that a text takes
package ctl

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/jmbarzee/dominion/broker/zeroconf"
	"github.com/jmbarzee/dominion/topics"
)

// The exit codes.
const (
	ExitOK       = 0 // accepted; with --wait: reached
	ExitFailed   = 1 // refused or failed; with --wait: not reached in time
	ExitUsage    = 2 // the command line is wrong
	ExitNoAnswer = 3 // no hub answered
	ExitDown     = 4 // plan --without or --drain: something would go down
)

// Env is what the program finds around it.
type Env struct {
	Args           []string  // without the program's name
	Stdin          io.Reader // nil: there is none
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	Version        string

	now func() time.Time
	// control are the paths of control sockets; nil: the usual ones.
	control []string
	local   string // where a hub is looked for that nobody named
	browse  func(ctx context.Context, window time.Duration) ([]zeroconf.Found, error)
	renew   time.Duration // how often agents are asked to go on streaming
}

// Main runs the command line until it is done or ctx ends, and returns the
// exit code.
func Main(ctx context.Context, env Env) int {
	a := newApp(env)
	root := a.root()
	err := a.checkVerb(root)
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	return a.finish(ctx, err)
}

// app is one run of the program.
type app struct {
	env Env
	// style is that of stdout.
	style Style
	// interactive is set where stderr is a terminal.
	interactive bool

	// window is how long zeroconf may take.
	window time.Duration

	// the flags of all verbs
	hub, user, passwordFile, caFile, prefix string
	certFile, keyFile                       string
	json                                    bool
	timeout                                 time.Duration
}

// newApp returns an app with the defaults of env, and the style of the terminal.
func newApp(env Env) *app {
	if env.now == nil {
		env.now = time.Now
	}
	if env.local == "" {
		env.local = "mqtt://127.0.0.1:1883"
	}
	if env.browse == nil {
		env.browse = func(ctx context.Context, window time.Duration) ([]zeroconf.Found, error) {
			return zeroconf.Browse(ctx, nil, zeroconf.TypeDominion, window)
		}
	}
	env.renew = cmp.Or(env.renew, renewEvery)
	a := &app{env: env, style: Style{Now: env.now()}, window: browseWindow}
	if columns, ok := terminal(env.Stdout); ok {
		a.style.Width = columns
		a.style.Color = env.Getenv("NO_COLOR") == "" && env.Getenv("TERM") != "dumb"
	}
	// bixense.com/clicolors: for a pipe into less -R; NO_COLOR counts more.
	if force := env.Getenv("CLICOLOR_FORCE"); force != "" && force != "0" && env.Getenv("NO_COLOR") == "" {
		a.style.Color = true
	}
	_, a.interactive = terminal(env.Stderr)
	return a
}

// terminal reports whether w is a terminal, and how wide it is.
func terminal(w io.Writer) (columns int, ok bool) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil || columns < 20 {
		columns = 80
	}
	return columns, true
}

// failure is an error with what the program makes of it.
type failure struct {
	code    int
	message string
	hint    string // what to do; may be empty
	reached *bool  // with --wait, after an order was accepted: false
	written bool   // the document of --json is on stdout already
}

func (f *failure) Error() string { return f.message }

func fail(code int, hint, message string, args ...any) *failure {
	return &failure{code: code, message: fmt.Sprintf(message, args...), hint: hint}
}

// finish reports the error, if there is one, and returns the exit code.
func (a *app) finish(ctx context.Context, err error) int {
	if err == nil {
		return ExitOK
	}
	var f *failure
	if !errors.As(err, &f) {
		f = fail(ExitUsage, "dominionctl --help lists the verbs", "%v", err) // what cobra itself refuses
		if ctx.Err() != nil {
			f = fail(ExitFailed, "", "interrupted")
		}
	}
	f.message, f.hint = cleanWords(f.message), cleanWords(f.hint)
	fmt.Fprintf(a.env.Stderr, "dominionctl: %s\n", f.message)
	if f.hint != "" {
		fmt.Fprintf(a.env.Stderr, "hint: %s\n", f.hint)
	}
	// a command line that could not be read may have asked for JSON
	if !f.written && (a.json || slices.Contains(a.env.Args, "--json")) {
		doc := struct {
			Status  string `json:"status"`
			Error   string `json:"error"`
			Hint    string `json:"hint,omitempty"`
			Reached *bool  `json:"reached,omitempty"`
		}{topics.StatusError, f.message, f.hint, f.reached}
		_ = a.printJSON(topics.Encode(doc)) // it failed already
	}
	return f.code
}

// printJSON writes one document to stdout, indented.
func (a *app) printJSON(doc []byte) error {
	var out strings.Builder
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(json.RawMessage(doc)); err != nil {
		return fail(ExitFailed, "", "cannot write the answer as JSON: %v", err)
	}
	if _, err := a.env.Stdout.Write(cleanJSON([]byte(out.String()))); err != nil {
		return fail(ExitFailed, "", "cannot write: %v", err)
	}
	return nil
}

// infof writes a line for people to stderr; it is no data.
func (a *app) infof(format string, args ...any) {
	fmt.Fprintln(a.env.Stderr, cleanWords(fmt.Sprintf(format, args...)))
}

// root is the whole command line.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "dominionctl",
		Short: "Ask and steer a dominion, the services of a home",
		Long: `dominionctl asks and steers a dominion, the services of a home.

Exit codes: 0 accepted (with --wait: reached), 1 refused or failed,
2 the command line is wrong, 3 the hub did not answer,
4 (plan --without, --drain and --rebalance) something would go down.`,
		Example: `  dominionctl status
  dominionctl start web --wait
  dominionctl logs -f web
  dominionctl why web pi-kitchen
  dominionctl --hub mqtts://home.lan:8883 --cafile ca.pem domains --json`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.json {
				return fail(ExitUsage, "dominionctl status --json", "no verb given")
			}
			return cmd.Help()
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.checkFlags(cmd) },
		Version:           a.env.Version,
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetOut(a.env.Stdout)
	root.SetErr(a.env.Stderr)
	root.SetArgs(a.env.Args)
	if len(a.env.Args) == 1 && a.env.Args[0] == "-version" { // as the other programs spell it
		root.SetArgs([]string{"--version"})
	}
	root.SetFlagErrorFunc(a.flagError)
	f := root.PersistentFlags()
	f.StringVar(&a.hub, "hub", "", "`host:port` of the hub's broker, mqtts://host:port, or unix:PATH of its control socket; else DOMINION_URL, else "+a.env.local+", else what zeroconf finds")
	f.StringVar(&a.user, "user", "", "`name` to log in with; else the one in DOMINION_URL")
	f.StringVar(&a.passwordFile, "password-file", "", "`file` with the user's password on its first line")
	f.StringVar(&a.certFile, "cert", "", "`file` of your certificate, PEM, where the hub asks for one")
	f.StringVar(&a.keyFile, "key", "", "`file` of the key of --cert, PEM")
	f.StringVar(&a.caFile, "cafile", "", "`file` of certificates to trust, PEM; a host:port is then asked by TLS")
	f.StringVar(&a.prefix, "prefix", "", "`base` of the topics, as topic_prefix of the hub; else dominion, or what zeroconf says")
	f.BoolVar(&a.json, "json", false, "one JSON document instead of text")
	f.DurationVar(&a.timeout, "timeout", askTimeout, "the `time` to wait for the hub; with --wait: for what was ordered, then "+waitTimeout.String())
	root.AddGroup(&cobra.Group{ID: "look", Title: "Look:"}, &cobra.Group{ID: "order", Title: "Order:"},
		&cobra.Group{ID: "about", Title: "About this program:"})
	root.SetHelpCommandGroupID("about")
	root.SetCompletionCommandGroupID("about")
	a.addQuestions(root)
	a.addOrders(root)
	a.addUsers(root)
	a.addCertificates(root)
	a.addAuthority(root)
	a.addAdoption(root)
	a.addSecrets(root)
	a.addIdentity(root)
	a.addDeploy(root)
	a.addDefinitions(root)
	a.addBrokerVerbs(root)
	root.AddCommand(a.logsCommand(), a.eventsCommand())
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	a.addHelp(root)
	return root
}

// checkFlags refuses what no verb can do anything with.
func (a *app) checkFlags(cmd *cobra.Command) error {
	if a.timeout <= 0 {
		return fail(ExitUsage, "write a duration such as --timeout 10s", "--timeout %v is not a valid time to wait", a.timeout)
	}
	if a.json && cmd.Parent() != nil && cmd.Parent().Name() == "completion" {
		return fail(ExitUsage, a.without("--json"), "completion has no --json")
	}
	return nil
}
