package ctl

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/jmbarzee/dominion/topics"
)

// devicesCommand lists what else is on the broker.
func (a *app) devicesCommand() *cobra.Command {
	var problems bool
	c := &cobra.Command{
		Use: topics.VerbDevices, Short: "Other devices on the broker, however they announce themselves", GroupID: "look",
		Args: a.check(nil), ValidArgsFunction: a.completed(nil),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.devices(cmd.Context(), problems) },
	}
	c.Flags().BoolVar(&problems, "problems", false, "what is wrong with announcements, instead of the devices")
	return c
}

// devicePages is the answer to devices, put together of its parts. What is in
// an entry that this version does not know is kept.
type devicePages struct {
	Devices  []json.RawMessage `json:"devices"`
	Next     string            `json:"next,omitempty"`
	Problems []json.RawMessage `json:"problems"`
	More     int               `json:"more,omitempty"`
}

func (a *app) devices(ctx context.Context, problems bool) error {
	s, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	var all devicePages
	const most = 1000 // parts, of a hub that does not come to an end
	for n := 0; n == 0 || all.Next != "" && n < most; n++ {
		part, err := askFor[devicePages](ctx, s, topics.VerbDevices, topics.Ask{After: all.Next}, a.timeout)
		if err != nil {
			return err
		}
		all.Devices, all.Next = append(all.Devices, part.Devices...), part.Next
		all.Problems, all.More = append(all.Problems, part.Problems...), all.More+part.More
	}
	doc := topics.Encode(all)
	if a.json {
		return a.printJSON(doc)
	}
	var known topics.Devices
	if err := json.Unmarshal(doc, &known); err != nil {
		return fail(ExitFailed, "update the older of dominionctl and the hub", "cannot read the answer: %v", err)
	}
	if problems {
		return RenderDeviceProblems(a.env.Stdout, known, a.style)
	}
	if n := len(known.Problems) + known.More; n > 0 {
		what := "problems"
		if n == 1 {
			what = "problem"
		}
		a.say("%d %s with announcements: dominionctl devices --problems", n, what)
	}
	return RenderDevices(a.env.Stdout, known, a.style)
}

// RenderDevices draws the answer to devices.
func RenderDevices(w io.Writer, all topics.Devices, s Style) error {
	return drawn(w, func(b *bufio.Writer) {
		if len(all.Devices) == 0 {
			b.WriteString("no devices\n")
			return
		}
		t := table{columns: []column{
			{head: "NAME", min: 12},
			{head: "STATE"},
			{head: "MODEL", min: 12, drop: 1},
			{head: "VERSION", min: 8, drop: 3},
			{head: "AREA", min: 8, drop: 4, empty: true},
			{head: "ANNOUNCED BY", drop: 5},
			{head: "ID", min: 12, drop: 2},
		}}
		for _, d := range all.Devices {
			model := d.Model
			if !strings.HasPrefix(model, d.Manufacturer) { // some say it twice
				model = strings.TrimSpace(d.Manufacturer + " " + model)
			}
			t.add(put(d.Name), put(d.Availability).in(availabilityTint(d.Availability)), put(model), put(d.Version), put(d.Area),
				put(strings.Join(d.AnnouncedBy, ", ")), put(d.ID).in(faint))
		}
		t.draw(b, s)
	})
}

func availabilityTint(word string) tint {
	switch word {
	case topics.Online:
		return green
	case topics.Offline:
		return red
	}
	return yellow
}

// RenderDeviceProblems draws what is wrong with announcements.
func RenderDeviceProblems(w io.Writer, all topics.Devices, s Style) error {
	return drawn(w, func(b *bufio.Writer) {
		if len(all.Problems) == 0 {
			b.WriteString("no problems\n")
			return
		}
		t := table{columns: []column{{head: "SINCE"}, {head: "TOPIC", min: 20}, {head: "PROBLEM", min: 44, wrap: true}}}
		for _, p := range all.Problems {
			about := p.Topic
			if about == "" {
				about = p.Device
			}
			t.add(put(ago(p.At, s.Now)), put(about), put(p.Message))
		}
		t.draw(b, s)
		if all.More > 0 {
			fmt.Fprintf(b, "and %d more before these\n", all.More)
		}
	})
}
