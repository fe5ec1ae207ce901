package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/agent"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/internal/program"
)

// command carries out a verb.
type command struct {
	// usage is what follows domain [-config FILE].
	usage string
	// arguments is the number of arguments that are not flags.
	arguments int
	run       func(ctx context.Context, c config.Domain, flags map[string]*bool, args []string) error
}

var commands = map[string]command{
	"code":  {"code [--new]", 0, code},
	"join":  {"join TOKEN|-|open", 1, join},
	"reset": {"reset [--yes]", 0, reset},
}

// verb carries out the verb that args begin with, and returns the exit code: 0 done, 2 for
// a fault of the command line or the configuration, else that of the verb's error, or 1.
func verb(ctx context.Context, c config.Domain, fault error, args []string) int {
	do, known := commands[args[0]]
	set := flag.NewFlagSet(args[0], flag.ContinueOnError)
	set.SetOutput(io.Discard)
	flags := make(map[string]*bool)
	for _, name := range []string{"new", "yes"} {
		if strings.Contains(do.usage, "--"+name) {
			flags[name] = set.Bool(name, false, "")
		}
	}
	if !known {
		fault = fmt.Errorf("domain: cannot use %q: the verbs are code, join and reset, and flags are before them, see -help", args[0])
	} else if set.Parse(args[1:]) != nil || set.NArg() != do.arguments {
		fault = fmt.Errorf("domain: cannot use these arguments: domain [-config FILE] %s", do.usage)
	}
	if fault != nil {
		fmt.Fprintln(os.Stderr, fault)
		return program.ExitUsage
	}
	err := do.run(ctx, c, flags, set.Args())
	if err == nil {
		return program.ExitOK
	}
	fmt.Fprintln(os.Stderr, "domain:", err)
	var refused *agent.CommandError
	if errors.As(err, &refused) {
		return refused.Exit
	}
	return program.ExitFailed
}

// code prints the code of this domain.
func code(ctx context.Context, c config.Domain, flags map[string]*bool, _ []string) error {
	text, note, err := agent.ShowCode(ctx, c, *flags["new"])
	if err != nil {
		return err
	}
	fmt.Println(text)
	if note != "" {
		fmt.Fprintln(os.Stderr, "domain:", note)
	}
	return nil
}

// maxTokenLine bounds what is read of standard input.
const maxTokenLine = 8192

// join has the agent of this machine join by a token, or any dominion that is open.
func join(ctx context.Context, c config.Domain, _ map[string]*bool, args []string) error {
	var token *adoption.Token
	if args[0] != "open" {
		text := args[0]
		if text == "-" {
			line, err := bufio.NewReader(io.LimitReader(os.Stdin, maxTokenLine)).ReadString('\n')
			if err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("cannot read the token from standard input: %w", err)
			}
			text = line
		}
		t, err := adoption.ParseToken(text)
		if err != nil {
			return err
		}
		token = &t
	}
	dominion, err := agent.Join(ctx, c, token, time.Now())
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "This machine belongs to dominion %q now.\n", dominion)
	return nil
}
