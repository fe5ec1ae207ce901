// Command demo shows a dominion on this one machine: a hub, two domains and
// the example services, all below a temporary directory and on loopback.
//
// In a terminal it draws what happens until Ctrl-C. Without one it waits until
// every service is healthy, prints the picture and exits: 0, or 1 with what is
// wrong. It runs the built programs and talks with the hub as any MQTT client
// does; nothing imports it. `make demo` builds what it needs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/jmbarzee/dominion/ctl"
	"github.com/jmbarzee/dominion/internal/program"
)

func main() {
	bin := flag.String("bin", "bin", "directory of the built programs")
	examples := flag.String("services", "services/examples", "directory of the services")
	patience := flag.Duration("patience", 2*time.Minute, "without a terminal: how long the services may take to be healthy")
	flag.Parse()

	ctx, stop := program.Context(syscall.SIGHUP)
	defer stop()
	if err := run(ctx, *bin, *examples, *patience); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run starts the home, shows it until it is healthy or the user ends it, and stops it.
func run(ctx context.Context, bin, examples string, patience time.Duration) error {
	h, err := newHome(bin, examples)
	if err != nil {
		return err
	}
	defer h.remove()
	if err := h.start(); err != nil {
		return errors.Join(err, h.stop())
	}
	w := newWatcher(h.hub)
	if out := int(os.Stdout.Fd()); term.IsTerminal(out) {
		err = live(ctx, h, w, out)
	} else {
		err = once(ctx, h, w, patience)
	}
	w.close()
	return errors.Join(err, h.stop())
}

// once waits for healthy services and prints the picture, or returns what is wrong.
func once(ctx context.Context, h *home, w *watcher, patience time.Duration) error {
	fmt.Printf("a hub and the domains %s below %s\n", strings.Join(h.domainNames(), " and "), h.dir)
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("the services were not all healthy after %v", patience))
	defer cancel()

	var current picture
	for !current.healthy(h.services) {
		select {
		case err := <-h.ended:
			return errors.Join(err, h.lastLines(20))
		case <-ctx.Done():
			if context.Cause(ctx) == context.Canceled {
				return nil // Ctrl-C
			}
			if err := draw(os.Stdout, current, ctl.Style{Now: time.Now()}); err != nil {
				return err
			}
			return errors.Join(context.Cause(ctx), current.err, h.lastLines(20))
		case <-time.After(pause):
		}
		current = w.refresh(ctx, current)
	}
	if err := draw(os.Stdout, current, ctl.Style{Now: time.Now()}); err != nil {
		return err
	}
	fmt.Print("\nevery service is healthy\n")
	return nil
}

// live draws the picture until q or Ctrl-C.
func live(ctx context.Context, h *home, w *watcher, terminal int) error {
	keys, restore := readKeys(int(os.Stdin.Fd()))
	defer restore()
	s := openScreen(terminal)
	defer s.close()

	var current picture
	for {
		if err := s.draw(current, h); err != nil {
			return err
		}
		select {
		case err := <-h.ended:
			s.close()
			return errors.Join(err, h.lastLines(20))
		case <-ctx.Done():
			return s.showStopping()
		case key := <-keys:
			switch key {
			case 'q', 'Q':
				return s.showStopping()
			case '?', 'h':
				h.helpShown = !h.helpShown
			}
			continue
		case <-time.After(pause):
		}
		if now := w.refresh(ctx, current); ctx.Err() == nil {
			current = now
		}
	}
}

// pause is the time between two checks for changes.
const pause = 300 * time.Millisecond

// programPath returns the absolute path of a built program.
func programPath(bin, name string) (string, error) {
	path, err := filepath.Abs(filepath.Join(bin, name))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("cannot find %s: run make build first", path)
	}
	return path, nil
}
