package ctl

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

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
