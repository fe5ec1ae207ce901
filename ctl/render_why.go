package ctl

import (
	"bufio"
	"io"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

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
