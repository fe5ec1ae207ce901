// Command dominionctl asks and steers a dominion, the services of a home.
// All of it is in package ctl.
package main

import (
	"os"

	"github.com/jmbarzee/dominion/ctl"
	"github.com/jmbarzee/dominion/internal/program"
)

var version = "dev" // set by -ldflags "-X main.version=…"

func main() {
	ctx, stop := program.Context()
	code := ctl.Main(ctx, ctl.Env{
		Args:    os.Args[1:],
		Stdin:   os.Stdin,
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
		Getenv:  os.Getenv,
		Version: version,
	})
	stop()
	os.Exit(code)
}
