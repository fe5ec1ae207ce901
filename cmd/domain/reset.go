package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/jmbarzee/dominion/agent"
	"github.com/jmbarzee/dominion/config"
)

// verb carries out the verb that args begin with, and returns the exit code: 0
// done, 1 not done, 2 for a fault of the command line or the configuration.
func verb(ctx context.Context, c config.Domain, fault error, args []string) int {
	set := flag.NewFlagSet("reset", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	yes := set.Bool("yes", false, "")
	if args[0] != "reset" {
		fault = fmt.Errorf("domain: cannot use %q: the only verb is reset, and flags are before it, see -help", args[0])
	} else if set.Parse(args[1:]) != nil || set.NArg() > 0 {
		fault = errors.New("domain: cannot use these arguments: domain [-config FILE] reset [--yes]")
	}
	if fault != nil {
		fmt.Fprintln(os.Stderr, fault)
		return 2
	}
	if err := reset(ctx, c, *yes, os.Stdin, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "domain:", err)
		return 1
	}
	return 0
}

// reset removes the identity of this machine, so that it joins as a new one. It
// asks for confirmation first, unless yes is set.
func reset(ctx context.Context, c config.Domain, yes bool, in io.Reader, out io.Writer) error {
	if !yes {
		fmt.Fprintf(out, "This stops what a dominion started on this machine and removes its id from %s:\nit joins as a new machine then. Services, their data and logs stay. Go on? [y/N] ", c.DataDir)
		answer, _ := bufio.NewReader(in).ReadString('\n')
		if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
			return errors.New("nothing was reset (--yes does it without asking)")
		}
	}
	log := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if err := agent.Reset(ctx, c, log); err != nil {
		return err
	}
	fmt.Fprintln(out, "This machine has no id and no dominion now. Start its agent to join one as a new machine.")
	return nil
}
