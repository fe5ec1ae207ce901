package ctl

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/jmbarzee/dominion/topics"
)

// devicesCommand lists what else is on the broker.
func (a *app) devicesCommand() *cobra.Command {
	var problems bool
	c := &cobra.Command{
		Use: topics.VerbDevices + " [NAME]", Short: "Other devices on the broker, however they announce themselves", GroupID: "look",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fail(ExitUsage, "put quotes around a name with spaces", "devices takes no more than [NAME]")
			}
			return nil
		},
		ValidArgsFunction: a.completed(nil),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.devices(cmd.Context(), strings.Join(args, ""), problems)
		},
	}
	c.Flags().BoolVar(&problems, "problems", false, "what is wrong with announcements, instead of the devices")
	return c
}

// devicePages is the answer to devices, put together of its parts. What is in
// an entry that this version does not know is passed on.
type devicePages struct {
	Devices  []json.RawMessage `json:"devices"`
	Next     string            `json:"next,omitempty"`
	Problems []json.RawMessage `json:"problems"`
	More     int               `json:"more,omitempty"`
}

// devices asks for all parts of the list of devices and shows it, or one of them.
func (a *app) devices(ctx context.Context, name string, problems bool) error {
	s, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	var all devicePages
	const most = 1000 // parts, of a hub that does not come to an end
	for n := 0; n == 0 || all.Next != "" && n < most; n++ {
		part, err := askFor[devicePages](ctx, s, topics.VerbDevices, topics.HubRequest{After: all.Next}, a.timeout)
		if err != nil {
			return err
		}
		all.Devices, all.Next = append(all.Devices, part.Devices...), part.Next
		all.Problems, all.More = append(all.Problems, part.Problems...), all.More+part.More
	}
	names := all.names()
	if name != "" {
		if err := all.only(name); err != nil {
			return err
		}
	}
	if problems {
		all.Devices = nil
	}
	doc := topics.Encode(all)
	if a.json {
		return a.printJSON(doc)
	}
	var list topics.Devices
	if err := json.Unmarshal(doc, &list); err != nil {
		return fail(ExitFailed, "update the older of dominionctl and the hub", "cannot read the answer: %v", err)
	}
	if problems {
		return RenderDeviceProblems(a.env.Stdout, list, a.style)
	}
	if text := countProblems(list); text != "" {
		a.infof("%s: dominionctl devices --problems", text)
	}
	if name != "" {
		for i, d := range list.Devices {
			if via := names[d.Via]; via != "" {
				list.Devices[i].Via = via + " (" + d.Via + ")"
			}
		}
		return RenderDevice(a.env.Stdout, list, a.style)
	}
	return RenderDevices(a.env.Stdout, list, a.style)
}

// names returns the name of each device by its id.
func (p *devicePages) names() map[string]string {
	all := make(map[string]string, len(p.Devices))
	for _, raw := range p.Devices {
		var d topics.Device
		if json.Unmarshal(raw, &d) == nil {
			all[d.ID] = d.Name
		}
	}
	return all
}

// only removes all but the devices of a name or an id, and their problems.
func (p *devicePages) only(name string) error {
	ids := make(map[string]bool)
	p.Devices = slices.DeleteFunc(p.Devices, func(raw json.RawMessage) bool {
		var d topics.Device
		if json.Unmarshal(raw, &d) != nil || d.ID != name && !strings.EqualFold(d.Name, name) {
			return true
		}
		ids[d.ID] = true
		return false
	})
	if len(p.Devices) == 0 {
		return fail(ExitFailed, "dominionctl devices lists them all", "there is no device %q", name)
	}
	p.Problems = slices.DeleteFunc(p.Problems, func(raw json.RawMessage) bool {
		var one topics.DeviceProblem
		return json.Unmarshal(raw, &one) != nil || !ids[one.Device]
	})
	p.More = 0
	return nil
}

// RenderDevice draws all that is known of a device, or of several of one name.
func RenderDevice(w io.Writer, all topics.Devices, s Style) error {
	return buffered(w, func(b *bufio.Writer) {
		for i, d := range all.Devices {
			if i > 0 {
				b.WriteByte('\n')
			}
			fmt.Fprintf(b, "%s  %s\n", s.paint(bold, cleanWords(d.Name)), s.paint(availabilityTint(d.Availability), cleanWords(d.Availability)))
			var connections []string
			for _, c := range d.Connections {
				connections = append(connections, c.Type+" "+c.Address)
			}
			drawFacts(b, s, [][2]string{
				{"id", d.ID},
				{"manufacturer", d.Manufacturer},
				{"model", strings.TrimSpace(d.Model + " " + d.ModelID)},
				{"version", d.Version},
				{"hardware", d.Hardware},
				{"serial", d.Serial},
				{"page", d.URL},
				{"area", d.Area},
				{"via", d.Via},
				{"domain", d.Domain},
				{"announced by", strings.Join(d.AnnouncedBy, ", ")},
				{"identifiers", strings.Join(d.Identifiers, ", ")},
				{"connections", strings.Join(connections, ", ")},
				{"availability", strings.Join(d.Topics.Availability, ", ")},
				{"states", strings.Join(d.Topics.State, ", ")},
				{"commands", strings.Join(d.Topics.Command, ", ")},
			})
		}
		for _, p := range all.Problems {
			what := "problem"
			if p.Passing {
				what = "passed problem"
			}
			if p.Topic != "" {
				what += " of " + p.Topic
			}
			fmt.Fprintf(b, "%s: %s\n", cleanWords(what), cleanWords(p.Message))
		}
	})
}

// widest is how wide a text may make the table of devices.
const widest = 40

// short cuts a text for the table. It is whole where its device is asked for.
func short(text string) string {
	text = cleanWords(text)
	if displayWidth(text) <= widest {
		return text
	}
	all := []rune(text)
	for len(all) > 0 && displayWidth(string(all)) >= widest {
		all = all[:len(all)-1]
	}
	return string(all) + "…"
}

// byName orders devices as people look for them.
func byName(x, y topics.Device) int {
	return cmp.Or(strings.Compare(strings.ToLower(x.Name), strings.ToLower(y.Name)), strings.Compare(x.ID, y.ID))
}

// RenderDevices draws the answer to devices.
func RenderDevices(w io.Writer, all topics.Devices, s Style) error {
	return buffered(w, func(b *bufio.Writer) {
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
		for _, d := range slices.SortedFunc(slices.Values(all.Devices), byName) {
			model := d.Model
			if !strings.HasPrefix(model, d.Manufacturer) { // some say it twice
				model = strings.TrimSpace(d.Manufacturer + " " + model)
			}
			t.add(textCell(short(d.Name)), textCell(d.Availability).withTint(availabilityTint(d.Availability)), textCell(short(model)), textCell(short(d.Version)), textCell(short(d.Area)),
				textCell(strings.Join(d.AnnouncedBy, ", ")), textCell(d.ID).withTint(faint))
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

// splitProblems returns the problems that stand, and those that have passed.
func splitProblems(all []topics.DeviceProblem) (standing, passed []topics.DeviceProblem) {
	for _, p := range all {
		if p.Passing {
			passed = append(passed, p)
		} else {
			standing = append(standing, p)
		}
	}
	return standing, passed
}

// countProblems says how many problems RenderDeviceProblems lists, "" where there
// are none.
func countProblems(all topics.Devices) string {
	standing, passed := splitProblems(all.Problems)
	var text []string
	switch n := len(standing) + all.More; n {
	case 0:
	case 1:
		text = append(text, "1 problem with announcements")
	default:
		text = append(text, fmt.Sprintf("%d problems with announcements", n))
	}
	switch n := len(passed); n {
	case 0:
	case 1:
		text = append(text, "1 that has passed")
	default:
		text = append(text, fmt.Sprintf("%d that have passed", n))
	}
	return strings.Join(text, " and ")
}

// RenderDeviceProblems draws what is wrong with announcements: what stands, and
// what has passed.
func RenderDeviceProblems(w io.Writer, all topics.Devices, s Style) error {
	return buffered(w, func(b *bufio.Writer) {
		standing, passed := splitProblems(all.Problems)
		if len(standing)+all.More == 0 {
			b.WriteString("no problems\n")
		}
		drawDeviceProblems(b, "SINCE", standing, s)
		if all.More > 0 {
			fmt.Fprintf(b, "and %d more, for which there is no room in the list\n", all.More)
		}
		if len(passed) > 0 {
			b.WriteString("\nPassed: the message was not retained\n")
			drawDeviceProblems(b, "AT", passed, s)
		}
	})
}

func drawDeviceProblems(b *bufio.Writer, when string, all []topics.DeviceProblem, s Style) {
	if len(all) == 0 {
		return
	}
	t := table{columns: []column{{head: when}, {head: "TOPIC", min: 20}, {head: "PROBLEM", min: 44, wrap: true}}}
	for _, p := range all {
		t.add(textCell(ago(p.At, s.Now)), textCell(cmp.Or(p.Topic, "device "+p.Device)), textCell(p.Message))
	}
	t.draw(b, s)
}
