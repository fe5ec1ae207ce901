package ctl

import (
	"bufio"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Whatever is received, to draw it costs time and memory in proportion to it.
func TestHostileTables(t *testing.T) {
	const size = 1 << 17
	for name, text := range map[string]string{
		"one word":           strings.Repeat("a", size),
		"letters":            strings.Repeat("a ", size/2),
		"lines":              strings.Repeat("\n", size),
		"escapes":            strings.Repeat("\x1b]", size/2),
		"escapes that begin": strings.Repeat("\x1b[", size/2),
		"nothing wide":       strings.Repeat("\u0301 ", size/3),
		"wide":               strings.Repeat("漢", size/3),
		"no text":            strings.Repeat("\xff", size),
		"directions":         strings.Repeat("\u202e", size/3),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		for _, width := range []int{0, 1, 80} {
			tab := table{columns: []column{{head: "A", min: 4}, {head: "B", drop: 1}, {head: "C", wrap: true, min: 10}}}
			tab.add(textCell(text), textCell(text), textCell(text))
			w := bufio.NewWriter(io.Discard)
			tab.draw(w, Style{Width: width})
		}
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		const most, longest = 9 * 50 * size, 10 * time.Second
		if used := after.TotalAlloc - before.TotalAlloc; used > most || took > longest {
			t.Errorf("%s: %d bytes allocated, %v", name, used, took)
		}
	}
}
