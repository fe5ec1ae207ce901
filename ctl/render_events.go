package ctl

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// RenderEvents draws events, oldest first.
func RenderEvents(w io.Writer, events []topics.Event, s Style) error {
	return buffered(w, func(b *bufio.Writer) { drawEvents(b, events, s) })
}

// eventWhat is wide enough for every type of event, so that the lines of a
// listing and those that follow it stand in the same columns.
var eventWhat = func() int {
	n := 0
	for _, t := range topics.EventTypes() {
		n = max(n, len(t))
	}
	return n
}()

func drawEvents(b *bufio.Writer, events []topics.Event, s Style) {
	width := len("15:04:05")
	for _, e := range events {
		width = max(width, len(clock(e.At, s.Now)))
	}
	for _, e := range events {
		drawEvent(b, e, width, s)
	}
}

// drawEvent draws one event as a line.
func drawEvent(b *bufio.Writer, e topics.Event, clockWidth int, s Style) {
	what := cleanWords(string(e.Type))
	at := fmt.Sprintf("%-*s", clockWidth, clock(e.At, s.Now))
	line := fmt.Sprintf("%s  %s  ", s.paint(faint, at), s.paint(eventTint(e.Type), fmt.Sprintf("%-*s", eventWhat, what)))
	indent := displayWidth(at) + 2 + max(eventWhat, displayWidth(what)) + 2
	about := cleanWords(strings.TrimSpace(e.Service + " " + e.Domain))
	if e.Service != "" && e.Domain != "" {
		about = cleanWords(e.Service + "@" + e.Domain)
	}
	message := cleanLines(e.Message)
	text := cleanWords(message[0])
	if about != "" {
		text = about + ": " + strings.TrimPrefix(text, e.Service+": ")
	}
	room := 0
	if s.Width > 0 {
		room = max(20, s.Width-indent)
	}
	b.WriteString(line + strings.Join(wrap(text, room), "\n"+strings.Repeat(" ", indent)) + "\n")
	for _, l := range message[1:] { // the last lines of what failed
		if room > 0 {
			l = shorten(l, room-2)
		}
		fmt.Fprintf(b, "%*s%s%s\n", indent, "", s.paint(faint, "| "), l)
	}
}

func eventTint(t topics.EventType) tint {
	switch t {
	case topics.ServiceFailed, topics.ServiceCrashed, topics.ServiceReverted, topics.DomainLost, topics.DomainRefused, topics.AdoptionRefused, topics.DomainCopied, topics.DomainRevoked,
		topics.DomainProblem, topics.ConfigRefused:
		return red
	case topics.ServiceUnhealthy, topics.DomainOffline, topics.DomainLonely, topics.DomainWaiting, topics.WindowOpened, topics.DomainDraining,
		topics.CommandRefused, topics.MessageRefused, topics.HubStopping, topics.EpochRaised:
		return yellow
	case topics.ServiceReady, topics.DomainJoined, topics.DomainReturned, topics.HubReady:
		return green
	}
	return noTint
}
