package ctl

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

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
