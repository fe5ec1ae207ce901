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

// RenderPlan draws the answer to plan, in the hub's order: that is the order
// in which things happen.
func RenderPlan(w io.Writer, lines []topics.PlanLine, s Style) error {
	return buffered(w, func(b *bufio.Writer) {
		if len(lines) == 0 {
			b.WriteString("nothing to do\n")
			return
		}
		drawPlan(b, lines, s)
	})
}

// RenderForecast draws what becomes of the services in a home that was asked
// about, in the hub's order, with a line that sums it up.
func RenderForecast(w io.Writer, lines []topics.PlanLine, s Style) error {
	return buffered(w, func(b *bufio.Writer) {
		if len(lines) == 0 {
			b.WriteString("no service is concerned\n")
			return
		}
		drawPlan(b, lines, s)
		b.WriteString("\n" + strings.Join(wrap(summed(lines), s.Width), "\n") + "\n")
	})
}

// drawPlan draws the lines of a plan as a table.
func drawPlan(b *bufio.Writer, lines []topics.PlanLine, s Style) {
	t := table{columns: []column{
		{head: "ACTION"}, {head: "SERVICE", min: 12}, {head: "DOMAIN", min: 12}, {head: "REASON", min: 20, wrap: true},
	}}
	for _, l := range lines {
		domain := l.Domain
		if l.From != "" {
			domain = l.From + " → " + l.Domain
		}
		service := textCell(l.Service)
		if l.Service == "" {
			service = textCell("(the hub)")
		}
		t.add(textCell(l.Action).withTint(actionTint(l.Action)), service, textCell(domain), textCell(l.Reason))
	}
	t.draw(b, s)
}

func actionTint(action string) tint {
	switch action {
	case topics.ActionStart, topics.ActionStarts:
		return green
	case topics.ActionStop:
		return red
	case topics.ActionGoesDown:
		return boldRed
	case topics.ActionWait, topics.ActionMoves:
		return yellow
	case topics.ActionKeep, topics.ActionStays:
		return faint
	}
	return noTint
}

// summed counts the lines of a forecast by what they say.
func summed(lines []topics.PlanLine) string {
	n := make(map[string]int)
	for _, l := range lines {
		n[l.Action]++
	}
	var parts []string
	for _, row := range []struct{ action, one, more string }{
		{topics.ActionGoesDown, "goes down", "go down"},
		{topics.ActionStop, "stops", "stop"},
		{topics.ActionMoves, "moves", "move"},
		{topics.ActionStarts, "starts", "start"},
		{topics.ActionWait, "waits as before", "wait as before"},
		{topics.ActionStays, "stays", "stay"},
	} {
		switch n[row.action] {
		case 0:
		case 1:
			parts = append(parts, "1 "+row.one)
		default:
			parts = append(parts, fmt.Sprintf("%d %s", n[row.action], row.more))
		}
	}
	if n[topics.ActionGoesDown] == 0 {
		parts = append([]string{"nothing goes down"}, parts...)
	}
	return strings.Join(parts, ", ")
}

// RenderWhy draws the answer to why.
func RenderWhy(w io.Writer, why topics.Why, s Style) error {
	return buffered(w, func(b *bufio.Writer) {
		state := cleanWords(string(why.State))
		reason := cleanLines(why.Reason)
		for i, line := range wrap(cleanWords(why.Service)+" is "+state+": "+cleanWords(reason[0]), s.Width) {
			if i == 0 { // the colour after the width: it takes no column
				line = strings.Replace(line, " is "+state+":", " is "+s.paint(stateTint(why.State), state)+":", 1)
			}
			b.WriteString(line + "\n")
		}
		drawLines(b, reason[1:], s)
		if len(why.Domains) == 0 {
			return
		}
		b.WriteByte('\n')
		t := table{columns: []column{{head: "DOMAIN", min: 12}, {head: "STATE"}, {head: "REASON", min: 20, wrap: true}}}
		for _, d := range why.Domains {
			t.add(textCell(d.Domain), whyState(d), textCell(d.Reason+nextTry(d.NextTry, s.Now)))
		}
		t.draw(b, s)
	})
}

// whyState is what is of a service on a domain: the state that the domain
// tells, or what should be where it tells none.
func whyState(d topics.WhyLine) cell {
	if d.State != "" && (d.Runs || d.State.Listed()) {
		return textCell(string(d.State)).withTint(stateTint(d.State))
	}
	if d.Runs {
		return cell{"wanted", yellow}
	}
	return cell{"not here", faint}
}

// hubSilent is what version shows where the hub's version would stand.
const hubSilent = "no answer"

// RenderVersion draws the versions of this program and of the hub; hub is nil
// where it did not answer.
func RenderVersion(w io.Writer, own topics.VersionView, hub *topics.VersionView, s Style) error {
	return buffered(w, func(b *bufio.Writer) {
		t := table{columns: []column{{head: "PROGRAM"}, {head: "VERSION"}, {head: "PROTOCOL"}}}
		t.add(textCell("dominionctl"), textCell(own.Version), textCell(own.Protocol))
		if hub != nil {
			t.add(textCell("dominion"), textCell(hub.Version), textCell(hub.Protocol))
		} else {
			t.add(textCell("dominion"), cell{hubSilent, yellow}, textCell(""))
		}
		t.draw(b, s)
	})
}

// logWriter writes log lines, each with its domain in front where there are
// several.
type logWriter struct {
	w       *bufio.Writer
	style   Style
	domains []string
	times   bool // each line with when the agent saw it
}

// write writes one line, with its domain and time as asked for.
func (l *logWriter) write(domain string, line topics.LogLine) {
	if len(l.domains) > 1 {
		width := 0
		for _, d := range l.domains {
			width = max(width, len(d))
		}
		l.w.WriteString(l.style.paint(faint, fmt.Sprintf("%-*s", width, domain)) + "  ")
	}
	if l.times {
		at := "-" // the agent did not watch then
		if !line.At.IsZero() {
			at = line.At.In(l.style.Now.Location()).Format("2006-01-02 15:04:05.000")
		}
		l.w.WriteString(l.style.paint(faint, fmt.Sprintf("%-*s", len("2006-01-02 15:04:05.000"), at)) + "  ")
	}
	l.w.WriteString(cleanLogLine(line.Line) + "\n")
}

// cleanLogLine is cleanLine, but for tabs: programs align with them.
func cleanLogLine(s string) string {
	if !strings.ContainsRune(s, '\t') {
		return cleanLine(s)
	}
	parts := strings.Split(s, "\t")
	for i, p := range parts {
		parts[i] = cleanLine(p)
	}
	return strings.Join(parts, "\t")
}
