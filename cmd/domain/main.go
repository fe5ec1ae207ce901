// Command domain is the agent: it runs the services that the hub assigns to this machine.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/jmbarzee/dominion/agent"
	"github.com/jmbarzee/dominion/config"
)

var version = "dev" // set by -ldflags "-X main.version=…"

// main reads the flags and the configuration, and runs the agent until a signal
// ends it, or carries out a verb.
func main() {
	agent.RunGuard(os.Args) // does not return if this process is a guard
	// Signals are handled from the beginning: one without a handler ends the program.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	file := flag.String("config", os.Getenv("DOMAIN_CONFIG_FILE"), "domain.toml to read, also from DOMAIN_CONFIG_FILE; none: the defaults")
	check := flag.Bool("check", false, "validate the configuration, print every fault, and exit")
	showVersion := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *showVersion {
		fmt.Println(version)
		return
	}
	c, err := config.LoadDomain(*file, os.Environ())
	if flag.NArg() > 0 {
		os.Exit(verb(ctx, c, err, flag.Args()))
	}
	if *check {
		if err = config.CheckDomain(*file, os.Environ()); err == nil {
			fmt.Println("OK")
			return
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	debug.SetGCPercent(25) // the memory of a small machine is needed by its services
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	a := agent.New(agent.Options{Config: c, Version: version, Log: log})
	go func() {
		for range hangup {
			a.Reload(config.LoadDomain(*file, os.Environ()))
		}
	}()
	if err := a.Run(ctx); err != nil {
		log.Error(err.Error())
		os.Exit(1)
	}
}
