// Package program is the body that the hub's and the agent's program share: the flags
// -config, -check and -version, the log, the signals, and the exit code. It knows
// nothing of what runs. Only cmd and demo import it.
package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// The exit codes of a program.
const (
	ExitOK     = 0
	ExitFailed = 1
	ExitUsage  = 2 // a fault of the command line or of the configuration
)

// Program describes a program that runs by a configuration of type C until a signal
// ends it.
type Program[C any] struct {
	// Name is the name of the program and, with ".toml", of its usual configuration.
	Name string
	// Role is what the program runs, for its log: the hub, the agent.
	Role string
	// Variable is the environment variable that names the configuration file
	// where -config does not.
	Variable string
	Version  string
	// Load reads the configuration; without a file it returns the defaults.
	Load func(file string, environ []string) (C, error)
	// Check returns every fault of the configuration.
	Check func(file string, environ []string) error
	// Warnings returns what -check prints of a valid configuration; nil: nothing.
	Warnings func(C) string
	// Verb carries out the verb that args begin with, and returns the exit code. It
	// gets the fault of the configuration, if there is one. nil: there are no verbs.
	Verb func(ctx context.Context, config C, fault error, args []string) int
	// Run runs until ctx ends.
	Run func(ctx context.Context, s Start[C]) error

	// Args are the arguments, the name of the program first. Stdout and Stderr are
	// its output.
	Args           []string
	Stdout, Stderr io.Writer
}

// Start is what a program runs with.
type Start[C any] struct {
	Config C
	// Load reads the configuration again.
	Load func() (C, error)
	// Hangup receives a signal when the configuration is to be read again (SIGHUP).
	Hangup <-chan os.Signal
	Log    *slog.Logger
}

// Context returns a context that a signal to stop ends: SIGTERM, or SIGINT, which is
// Ctrl-C, or one of more. A second one ends the program at once.
func Context(more ...os.Signal) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, append(more, syscall.SIGTERM, syscall.SIGINT)...)
	go func() {
		select {
		case <-signals:
		case <-ctx.Done():
		}
		signal.Stop(signals) // before ctx ends: whoever sees that can rely on the second signal
		cancel()
	}()
	return ctx, cancel
}

// Main reads flags and configuration, and checks the latter, carries out a verb or
// runs the program. It returns the exit code.
func (p Program[C]) Main() int {
	// Signals are handled from the beginning: one without a handler ends the program.
	ctx, stop := Context()
	defer stop()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)

	flags := flag.NewFlagSet(p.Args[0], flag.ContinueOnError)
	flags.SetOutput(p.Stderr)
	file := flags.String("config", os.Getenv(p.Variable), fmt.Sprintf("read %s.toml from `FILE`; default: $%s, else the built-in defaults", p.Name, p.Variable))
	check := flags.Bool("check", false, "validate the configuration, print every fault, and exit")
	version := flags.Bool("version", false, "print the version and exit")
	switch err := flags.Parse(p.Args[1:]); {
	case errors.Is(err, flag.ErrHelp):
		return ExitOK
	case err != nil:
		return ExitUsage // Parse has printed it
	case flags.NArg() > 0 && p.Verb == nil:
		fmt.Fprintf(p.Stderr, "%s: cannot use %q: there are flags only, see -help\n", p.Name, flags.Arg(0))
		return ExitUsage
	case *version:
		fmt.Fprintln(p.Stdout, p.Version)
		return ExitOK
	}
	load := func() (C, error) { return p.Load(*file, os.Environ()) }
	config, err := load()
	if flags.NArg() > 0 {
		return p.Verb(ctx, config, err, flags.Args())
	}
	if *check {
		err = p.Check(*file, os.Environ())
	}
	if err != nil {
		fmt.Fprintln(p.Stderr, err)
		return ExitUsage
	}
	if *check {
		if p.Warnings != nil {
			fmt.Fprint(p.Stderr, p.Warnings(config))
		}
		fmt.Fprintln(p.Stdout, "OK")
		return ExitOK
	}
	log := slog.New(slog.NewTextHandler(p.Stderr, nil))
	if err := p.Run(ctx, Start[C]{config, load, hangup, log}); err != nil {
		log.Error(p.Role+" ended", "error", err)
		return ExitFailed
	}
	return ExitOK
}
