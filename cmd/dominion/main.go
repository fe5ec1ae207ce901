// Command dominion is the hub of a home: MQTT broker, plan and start commands.
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

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub"
)

var version = "dev"

func main() { os.Exit(run()) }

// run reads the flags and the configuration, and runs the hub until a signal ends
// it. It returns the exit code: 2 for a fault of command line or configuration.
func run() int {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	hangup := make(chan os.Signal, 1) // handled from the beginning: one without a handler ends the program
	signal.Notify(hangup, syscall.SIGHUP)
	file := flag.String("config", os.Getenv("DOMINION_CONFIG_FILE"), "read dominion.toml from `FILE`; default: $DOMINION_CONFIG_FILE, else built-in defaults, loopback only")
	check := flag.Bool("check", false, "validate the configuration, print every fault, and exit")
	show := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "dominion: cannot use %q: there are flags only, see -help\n", flag.Arg(0))
		return 2
	}
	if *show {
		fmt.Println(version)
		return 0
	}
	load := func() (config.Dominion, error) { return config.LoadDominion(*file, os.Environ()) }
	cfg, err := load()
	if *check {
		err = config.CheckDominion(*file, os.Environ())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if *check {
		fmt.Fprint(os.Stderr, cfg.Warnings())
		fmt.Println("OK")
		return 0
	}
	debug.SetGCPercent(40) // what a thousand idle clients cost; see docs/performance.md
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err = (hub.Service{Config: cfg, Version: version, Load: load, Environ: os.Environ(), Hangup: hangup, Log: log}).Serve(ctx); err != nil {
		log.Error("the hub ended", "error", err)
		return 1
	}
	return 0
}
