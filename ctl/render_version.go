package ctl

import (
	"bufio"
	"io"

	"github.com/jmbarzee/dominion/topics"
)

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
