package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/jmbarzee/dominion/ctl"
)

// draw writes the picture as `dominionctl status` and `events` do.
func draw(w io.Writer, p picture, style ctl.Style) error {
	return ctl.RenderStatus(w, p.overview, p.events, style)
}

// screen is the terminal's second page while the demo runs: what was on the
// first is there again when it ends.
type screen struct {
	terminal int
	closed   bool
}

const (
	openPage   = "\x1b[?1049h\x1b[?25l" // second page, no cursor
	closePage  = "\x1b[?25h\x1b[?1049l"
	cursorHome = "\x1b[H"
	bold       = "\x1b[1m"
	resetStyle = "\x1b[0m"
	lineEnd    = "\x1b[K\r\n" // clears what an older, longer line left
	pageEnd    = "\x1b[J"
)

func openScreen(terminal int) *screen {
	fmt.Print(openPage)
	return &screen{terminal: terminal}
}

func (s *screen) close() {
	if !s.closed {
		s.closed = true
		fmt.Print(closePage)
	}
}

// showStopping restores the first page and prints what happens now.
func (s *screen) showStopping() error {
	s.close()
	_, err := fmt.Println("stopping the services, the domains and the hub")
	return err
}

// draw writes one frame: the picture, as many of the last events as there is
// room for, and what to try.
func (s *screen) draw(p picture, h *home) error {
	width, height, err := term.GetSize(s.terminal)
	if err != nil || width < 1 || height < 1 {
		width, height = 80, 24
	}
	lines, err := frame(p, h, ctl.Style{Color: os.Getenv("NO_COLOR") == "", Width: width, Now: time.Now()}, height)
	if err != nil {
		return err
	}
	_, err = fmt.Print(cursorHome + strings.Join(lines, lineEnd) + pageEnd)
	return err
}

// frame returns the lines of a frame, height at most.
func frame(p picture, h *home, style ctl.Style, height int) ([]string, error) {
	render := func(draw func(io.Writer) error) ([]string, error) {
		var b bytes.Buffer
		err := draw(&b)
		return strings.Split(strings.TrimRight(b.String(), "\n"), "\n"), err
	}
	foot := try(p, h, style.Width)
	if style.Color && len(foot) > 1 {
		foot[1] = bold + foot[1] + resetStyle
	}
	top, err := render(func(w io.Writer) error {
		if h.helpShown {
			_, err := fmt.Fprintln(w, explanation)
			return err
		}
		if p.overview.Hub.ID == "" {
			_, err := fmt.Fprintln(w, "starting a hub and two domains; they then start three services, of which web is compiled first …")
			return err
		}
		return ctl.RenderStatus(w, p.overview, nil, style)
	})
	if err != nil {
		return nil, err
	}
	if p.err != nil && p.overview.Hub.ID != "" {
		top = append([]string{"(old: " + p.err.Error() + ")"}, top...)
	}
	events, err := render(func(w io.Writer) error { return ctl.RenderEvents(w, p.events, style) })
	if err != nil {
		return nil, err
	}
	if len(p.events) > 0 && !h.helpShown {
		if room := height - len(top) - len(foot) - 2; room > 0 {
			title := "EVENTS"
			if style.Color {
				title = bold + title + resetStyle
			}
			top = append(top, "", title)
			top = append(top, events[max(0, len(events)-room):]...)
		}
	}
	// What to try stays at the bottom. A terminal that is too small loses that
	// first, but for its title, which says how to end, then the lines above it.
	if len(top)+len(foot) > height {
		foot = foot[:min(2, len(foot))]
	}
	if room := height - len(foot); len(top) > room {
		top = cutLines(top, max(0, room))
	}
	lines := append(top, foot...)
	return lines[:min(len(lines), height)], nil
}

// cutLines cuts lines to room, the last of which says how many are missing.
func cutLines(lines []string, room int) []string {
	if room < 2 {
		return lines[:room]
	}
	return append(slices.Clone(lines[:room-1]), fmt.Sprintf("… %d more", len(lines)-room+1))
}

// explanation is what the key ? shows.
const explanation = `A hub and two domains run on this machine, each a process of its own, and
three services: lamp needs orchestrator, which needs web. Each service is a
directory below services/examples with a Makefile. web is compiled by its own
Makefile when it starts, which takes a few seconds the first time.

The picture is that of dominionctl status. Its parts:
  PROBLEMS   what needs a human, with what to do
  DOMAINS    the machines: attic and kitchen
  SERVICES   what runs where, and why
  EVENTS     what happened last

Keys:  q ends everything that was started here   ? shows or hides this`

// try returns what to type into another terminal, no line longer than width.
func try(p picture, h *home, width int) []string {
	host, port, _ := strings.Cut(h.hub, ":")
	lines := []string{
		"",
		"TRY, in another terminal (q or Ctrl-C ends all of it, ? explains)",
		fmt.Sprintf("  mosquitto_sub -h %s -p %s -v -t 'dominion/#'", host, port),
		fmt.Sprintf("  mosquitto_pub -h %s -p %s -t dominion/service/lamp/set -m OFF     # and ON", host, port),
		fmt.Sprintf("  bin/dominionctl --hub %s why orchestrator                # or status, plan, logs -f lamp", h.hub),
	}
	for _, d := range h.programs[min(1, len(h.programs)):] {
		if pid := d.pid(); pid > 0 {
			lines = append(lines, fmt.Sprintf("  kill -9 %d    # the agent of %s: its services run on, and the next one finds them", pid, d.name))
			break
		}
	}
	if web := p.endpoint("web"); web != "" {
		lines = append(lines, fmt.Sprintf("  curl -X PUT -d 80 http://%s/brightness", web))
	}
	for i, l := range lines {
		if len(l) > width {
			l, _, _ = strings.Cut(l, " #")
			lines[i] = strings.TrimRight(l, " ")
		}
		if len(lines[i]) > width {
			lines[i] = lines[i][:width]
		}
	}
	return lines
}
