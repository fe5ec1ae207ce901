package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/jmbarzee/dominion/agent"
	"github.com/jmbarzee/dominion/config"
)

// reset removes the identity of this machine, unless it is asked and says no.
func reset(ctx context.Context, c config.Domain, flags map[string]*bool, _ []string) error {
	return resetDomain(ctx, c, *flags["yes"], os.Stdin, os.Stderr)
}

// resetDomain removes the identity of this machine, so that it joins as a new one. It
// asks for confirmation first, unless yes is set.
func resetDomain(ctx context.Context, c config.Domain, yes bool, in io.Reader, out io.Writer) error {
	if !yes {
		fmt.Fprintf(out, "This stops what a dominion started on this machine and removes its keys and id from %s:\nit joins as a new machine then. Services, their data and logs stay. Go on? [y/N] ", c.DataDir)
		answer, _ := bufio.NewReader(in).ReadString('\n')
		if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
			return errors.New("nothing was reset (--yes does it without asking)")
		}
	}
	log := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if err := agent.Reset(ctx, c, log); err != nil {
		return err
	}
	fmt.Fprintln(out, "This machine has no key, no id and no dominion now. Start its agent to join one as a new machine.")
	return nil
}
