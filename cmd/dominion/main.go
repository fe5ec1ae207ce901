// Command dominion is the hub of a home: MQTT broker, plan and start commands.
package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"slices"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub"
	"github.com/jmbarzee/dominion/internal/program"
)

var version = "dev" // set by -ldflags "-X main.version=…"

func main() {
	os.Exit(program.Program[config.Dominion]{
		Name: "dominion", Role: "the hub", Variable: "DOMINION_CONFIG_FILE", Version: version,
		Load: config.LoadDominion, Check: config.CheckDominion, Warnings: config.Dominion.Warnings, Verb: verb, Run: run,
		Args: os.Args, Stdout: os.Stdout, Stderr: os.Stderr,
	}.Main())
}

// run runs the hub until ctx ends.
func run(ctx context.Context, s program.Start[config.Dominion]) error {
	debug.SetGCPercent(40) // what a thousand idle clients cost; see docs/performance.md
	return hub.Service{
		Config: s.Config, Version: version, Load: s.Load, Environ: os.Environ(), Hangup: s.Hangup, Log: s.Log,
	}.Serve(ctx)
}

// verb carries out "identity new".
func verb(_ context.Context, c config.Dominion, fault error, args []string) int {
	if fault != nil {
		fmt.Fprintln(os.Stderr, fault)
		return program.ExitUsage
	}
	if !slices.Equal(args, []string{"identity", "new"}) {
		fmt.Fprintln(os.Stderr, "dominion: the only verb is: identity new")
		return program.ExitUsage
	}
	if err := hub.NewIdentity(c.DataDir, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "dominion:", err)
		return program.ExitFailed
	}
	return program.ExitOK
}
