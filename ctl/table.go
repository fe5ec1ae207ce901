package ctl

import (
	"bufio"
	"fmt"
	"io"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Style says how to draw.
type Style struct {
	Color bool      // colours of ECMA-48; off in a pipe
	Width int       // columns of the terminal; 0: as wide as it gets
	Now   time.Time // what relative times count from; its zone is that of clock times
}

// tint is a colour, as the parameter of "ESC [ m"; "" is none.
type tint string

const (
	noTint  tint = ""
	bold    tint = "1"
	faint   tint = "2"
	red     tint = "31"
	green   tint = "32"
	yellow  tint = "33"
	boldRed tint = "1;31"
)

func (s Style) paint(t tint, text string) string {
	if !s.Color || t == noTint || text == "" {
		return text
	}
	return "\x1b[" + string(t) + "m" + text + "\x1b[0m"
}

type cell struct {
	text string
	tint tint
}

// textCell makes a cell of something received; "-" where it is empty, so that a
// table read by a program keeps its columns.
func textCell(text string) cell { return cell{text: cleanWords(text)} }

func (c cell) withTint(t tint) cell {
	c.tint = t
	return c
}

// column is a column of a table.
type column struct {
	head string
	// min is the width that it may be cut down to; 0: it is never cut.
	min int
	// drop orders the columns that are omitted where there is no room, the highest
	// first; 0: never.
	drop int
	// wrap breaks the text into lines instead of cutting it; of the last column only.
	wrap bool
	// empty omits the column when no row has a text.
	empty bool
}

type table struct {
	columns []column
	rows    [][]cell
}

const gap = 2 // spaces between columns

func (t *table) add(cells ...cell) { t.rows = append(t.rows, cells) }

// draw writes the table within the style's width as far as that goes: cells
// that may are cut, then columns that may are left out.
func (t *table) draw(w *bufio.Writer, s Style) {
	use, widths := t.layout(s.Width)
	head := make([]cell, len(t.columns))
	for i, c := range t.columns {
		head[i] = cell{c.head, faint}
	}
	t.drawRow(w, s, head, use, widths)
	for _, r := range t.rows {
		t.drawRow(w, s, r, use, widths)
	}
}

// drawRow writes one row; the last column may be wrapped into several lines.
func (t *table) drawRow(w *bufio.Writer, s Style, row []cell, use, widths []int) {
	indent := 0
	for n, i := range use {
		c := row[i]
		if c.text == "" {
			c.text = "-"
		}
		last := n == len(use)-1
		if last && t.columns[i].wrap {
			for k, line := range wrap(c.text, widths[i]) {
				if k > 0 {
					fmt.Fprintf(w, "\n%*s", indent, "")
				}
				w.WriteString(s.paint(c.tint, line))
			}
			break
		}
		text := c.text
		if s.Width > 0 {
			text = shorten(text, widths[i])
		}
		w.WriteString(s.paint(c.tint, text))
		if !last {
			fmt.Fprintf(w, "%*s", widths[i]-displayWidth(text)+gap, "")
		}
		indent += widths[i] + gap
	}
	w.WriteByte('\n')
}

// layout returns which columns are drawn, and how wide each of all is.
func (t *table) layout(limit int) (use, widths []int) {
	widths = make([]int, len(t.columns))
	for i, c := range t.columns {
		filled := false
		widths[i] = displayWidth(c.head)
		for _, r := range t.rows {
			filled = filled || r[i].text != ""
			widths[i] = max(widths[i], displayWidth(r[i].text))
		}
		if filled || !c.empty {
			use = append(use, i)
		}
	}
	for limit > 0 {
		over := -gap - limit
		for _, i := range use {
			over += widths[i] + gap
		}
		for n := len(use) - 1; n >= 0 && over > 0; n-- {
			i := use[n]
			if least := t.columns[i].min; least > 0 && widths[i] > least {
				cut := min(over, widths[i]-least)
				widths[i] -= cut
				over -= cut
			}
		}
		if over <= 0 {
			break
		}
		worst := -1
		for n, i := range use {
			if d := t.columns[i].drop; d > 0 && (worst < 0 || d > t.columns[use[worst]].drop) {
				worst = n
			}
		}
		if worst < 0 {
			break
		}
		use = append(use[:worst:worst], use[worst+1:]...)
		for _, i := range use { // what was cut may have room again
			if t.columns[i].min > 0 {
				widths[i] = displayWidth(t.columns[i].head)
				for _, r := range t.rows {
					widths[i] = max(widths[i], displayWidth(r[i].text))
				}
			}
		}
	}
	return use, widths
}

// buffered runs draw with a buffer before w and returns the error of w.
func buffered(w io.Writer, draw func(*bufio.Writer)) error {
	b := bufio.NewWriter(w)
	draw(b)
	if err := b.Flush(); err != nil {
		return fail(ExitFailed, "", "cannot write: %v", err)
	}
	return nil
}

// heading writes an empty line and the title of a section.
func heading(w *bufio.Writer, s Style, title string) {
	w.WriteByte('\n')
	w.WriteString(s.paint(bold, title))
	w.WriteByte('\n')
}

// ago describes how long before now t was.
func ago(t topics.Time, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	d := now.Sub(t.Time)
	if d < -time.Minute { // another machine's clock
		return "in " + span(-d)
	}
	if d < 2*time.Second {
		return "just now"
	}
	return span(d) + " ago"
}

// nextTry describes how long after now something is tried again, as the end of a
// sentence; "" where it is not, or is about to be.
func nextTry(t topics.Time, now time.Time) string {
	if d := t.Sub(now); !t.IsZero() && d >= time.Second {
		return "; next try in " + span(d)
	}
	return ""
}

// span writes a duration in its largest unit.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// clock writes the moment t: the time of day, with the date when it was not
// today.
func clock(t topics.Time, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	at := t.In(now.Location())
	if at.Year() != now.Year() {
		return at.Format("2006-01-02 15:04:05")
	}
	if at.YearDay() != now.YearDay() {
		return at.Format("Jan _2 15:04:05")
	}
	return at.Format("15:04:05")
}
