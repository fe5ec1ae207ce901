// Command domain is the agent: it runs the services that the hub assigns to this machine.
package main

import (
	"context"
	"os"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/jmbarzee/dominion/agent"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/internal/program"
)

// localToken is where the hub of this machine, as a unit, leaves a token for its agent.
const localToken = "/run/dominion/local-token"

var version = "dev" // set by -ldflags "-X main.version=…"

func main() {
	agent.RunGuard(os.Args)  // does not return if this process is a guard
	agent.RunUnpack(os.Args) // nor if it unpacks a bundle
	os.Exit(program.Program[config.Domain]{
		Name: "domain", Role: "the agent", Variable: "DOMAIN_CONFIG_FILE", Version: version,
		Load: config.LoadDomain, Check: config.CheckDomain, Verb: verb, Run: run,
		Args: os.Args, Stdout: os.Stdout, Stderr: os.Stderr,
	}.Main())
}

// run runs the agent until ctx ends.
func run(ctx context.Context, s program.Start[config.Domain]) error {
	debug.SetGCPercent(25) // the memory of a small machine is needed by its services
	a := agent.New(agent.Options{
		Config: s.Config, Version: version, Log: s.Log,
		IssueFile: agent.IssueFile, Unit: os.Getenv("STATE_DIRECTORY") != "", OnceFiles: adoption.BootTokenFiles,
		TokenFiles: append(slices.Clone(adoption.BootTokenFiles), localToken),
	})
	var wait sync.WaitGroup
	defer wait.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wait.Go(func() { a.ServeCommands(ctx) })
	go func() {
		for range s.Hangup {
			a.Reload(s.Load())
		}
	}()
	return a.Run(ctx)
}
