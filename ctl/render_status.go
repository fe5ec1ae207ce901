package ctl

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// RenderStatus draws the picture of a home: the hub, what is wrong, the
// domains, the services, and the events if there are any. It depends on its
// arguments alone, and passes nothing received on to the terminal but text.
func RenderStatus(w io.Writer, o topics.Overview, events []topics.Event, s Style) error {
	return buffered(w, func(b *bufio.Writer) {
		drawHub(b, o, s)
		drawWindow(b, o.Window, s)
		drawProblems(b, findProblems(o, s.Now), s)
		heading(b, s, "DOMAINS")
		drawDomains(b, o.Domains, s)
		heading(b, s, "SERVICES")
		drawServices(b, o.Services, s)
		if len(o.Bridges) > 0 {
			heading(b, s, "BRIDGES")
			drawBridges(b, o.Bridges, s)
		}
		if len(events) > 0 {
			heading(b, s, "EVENTS")
			drawEvents(b, events, s)
		}
	})
}

// RenderDomains draws the answer to domains.
func RenderDomains(w io.Writer, domains []topics.DomainView, s Style) error {
	return buffered(w, func(b *bufio.Writer) {
		if p := findProblems(topics.Overview{Domains: domains}, s.Now); len(p) > 0 {
			drawProblemList(b, p, s)
			b.WriteByte('\n')
		}
		drawDomains(b, domains, s)
	})
}

// RenderServices draws the answer to services.
func RenderServices(w io.Writer, all []topics.Service, s Style) error {
	return buffered(w, func(b *bufio.Writer) { drawServices(b, all, s) })
}

// drawHub draws the hub: its state, version, uptime and counts.
func drawHub(b *bufio.Writer, o topics.Overview, s Style) {
	h := o.Hub
	state := cell{"ready", green}
	if !h.Ready {
		state = cell{"waits for the known domains", yellow}
	}
	fmt.Fprintf(b, "%s  %s\n", s.paint(bold, orDash(cleanWords(h.Name))), s.paint(state.tint, state.text))
	parts := []string{"dominion " + orDash(cleanWords(h.Version))}
	if !h.StartedAt.IsZero() {
		parts = append(parts, "up "+span(max(0, s.Now.Sub(h.StartedAt.Time))))
	}
	counts := []string{fmt.Sprintf("%d online", h.Domains.Online)}
	if n := h.Domains.Offline; n > 0 {
		counts = append(counts, fmt.Sprintf("%d offline", n))
	}
	// The hub's own count of lonely machines includes those that wait for adoption.
	for _, state := range []topics.DomainState{topics.DomainIsWaiting, topics.DomainIsLonely} {
		n := 0
		for _, d := range o.Domains {
			if d.State == state {
				n++
			}
		}
		if n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, state))
		}
	}
	parts = append(parts,
		fmt.Sprintf("epoch %d", h.Epoch),
		"domains: "+strings.Join(counts, ", "),
		fmt.Sprintf("instances: %d of %d running", h.Services.Running, h.Services.Wanted))
	for _, line := range wrap(strings.Join(parts, "  ·  "), s.Width) {
		b.WriteString(strings.Trim(line, " ·") + "\n")
	}
}

// drawWindow draws that domains are adopted without a code, where they are.
func drawWindow(b *bufio.Writer, w topics.JoinWindow, s Style) {
	if !w.Open {
		return
	}
	for _, line := range wrap("window "+windowText(w, s.Now), s.Width) {
		b.WriteString(s.paint(yellow, line) + "\n")
	}
}

// drawDomains draws the table of domains, those with a problem first.
func drawDomains(b *bufio.Writer, domains []topics.DomainView, s Style) {
	if len(domains) == 0 {
		b.WriteString("none yet: start the program domain on a machine of this network\n")
		return
	}
	sorted := slices.Clone(domains)
	slices.SortStableFunc(sorted, func(x, y topics.DomainView) int {
		return cmp.Or(cmp.Compare(domainRank(x), domainRank(y)), strings.Compare(x.Name, y.Name))
	})
	t := table{columns: []column{
		{head: "DOMAIN", min: 12},
		{head: "STATE"},
		{head: "SINCE", drop: 3},
		{head: "RUNS"},
		{head: "ADDRESS", drop: 2},
		{head: "SYSTEM", drop: 5, empty: true},
		{head: "VERSION", drop: 4, empty: true},
		{head: "TRAITS", min: 12, drop: 1, empty: true},
	}}
	for _, d := range sorted {
		running, all := 0, 0
		for _, i := range d.Services {
			if !i.State.Listed() {
				continue
			}
			if all++; i.State == topics.Running {
				running++
			}
		}
		runs := "nothing"
		if all > 0 {
			runs = fmt.Sprintf("%d of %d", running, all)
		}
		if all > 0 && unreachable(d) {
			runs = "unknown"
		}
		system := strings.Trim(d.OS+"/"+d.Arch, "/")
		if d.Micro {
			system = "micro"
		}
		t.add(textCell(d.Name), domainState(d), textCell(ago(d.Since, s.Now)), textCell(runs), textCell(d.Address),
			textCell(system), textCell(d.Version), textCell(strings.Join(d.Traits, " ")))
	}
	t.draw(b, s)
}

// drawBridges draws the table of bridges.
func drawBridges(b *bufio.Writer, all []topics.BridgeView, s Style) {
	t := table{columns: []column{
		{head: "BRIDGE", min: 12},
		{head: "STATE"},
		{head: "SINCE", drop: 2},
		{head: "REFUSED"},
		{head: "DROPPED", drop: 3},
		{head: "LAST REFUSED", min: 12, drop: 1, empty: true},
	}}
	for _, v := range all {
		state, last := textCell("not connected").withTint(red), ""
		if v.Connected {
			state = textCell("connected").withTint(green)
		}
		if r := v.LastRefusal; r != nil {
			last = r.Direction + " " + r.Topic + ": " + r.Reason
		}
		t.add(textCell(v.Name), state, textCell(ago(v.Since, s.Now)), textCell(strconv.FormatUint(v.Refused, 10)), textCell(strconv.FormatUint(v.Dropped, 10)), textCell(last))
	}
	t.draw(b, s)
}

// unreachable reports whether nobody knows what the domain runs now: what it
// reported last no longer counts.
func unreachable(d topics.DomainView) bool {
	return d.Stale || d.State == topics.DomainIsLost || d.Micro && d.State == topics.DomainIsOffline
}

// domainState returns the cell with the state of a domain.
func domainState(d topics.DomainView) cell {
	c := textCell(string(d.State))
	switch d.State {
	case topics.DomainIsOnline:
		c = c.withTint(green)
	case topics.DomainIsLonely, topics.DomainIsWaiting, topics.DomainIsOffline:
		c = c.withTint(yellow)
	case topics.DomainIsLost, topics.DomainIsRefused:
		c = c.withTint(red)
	}
	if d.Draining {
		c.text += ", draining"
		if c.tint == green {
			c.tint = yellow
		}
	}
	return c
}

func domainRank(d topics.DomainView) int {
	switch {
	case d.State == topics.DomainIsLost, d.State == topics.DomainIsRefused:
		return 0
	case d.Problem != "":
		return 1
	case d.State != topics.DomainIsOnline:
		return 2
	}
	return 3
}

// drawServices draws the table of services, those with a problem first.
func drawServices(b *bufio.Writer, all []topics.Service, s Style) {
	if len(all) == 0 {
		b.WriteString("none yet: write [services.NAME] in dominion.toml\n")
		return
	}
	sorted := slices.Clone(all)
	slices.SortStableFunc(sorted, func(x, y topics.Service) int {
		return cmp.Or(cmp.Compare(serviceRank(x), serviceRank(y)), strings.Compare(x.Service, y.Service))
	})
	t := table{columns: []column{
		{head: "SERVICE", min: 12},
		{head: "STATE"},
		{head: "RUNS"},
		{head: "VERSION", drop: 3, empty: true},
		{head: "ON", min: 14, drop: 2},
		{head: "REASON", min: 28, drop: 1},
	}}
	for _, v := range sorted {
		var on []string
		for _, i := range v.Instances {
			on = append(on, instanceText(i, len(v.Instances)))
		}
		t.add(textCell(v.Service), serviceState(v), cell{fmt.Sprintf("%d of %d", v.Running, v.Wanted), noTint},
			textCell(versions(v)), textCell(strings.Join(on, ", ")), textCell(cleanLines(v.Reason)[0]+nextTry(triedNext(v), s.Now))) // its last lines are a problem's
	}
	t.draw(b, s)
}

// triedNext is when the first of the instances that wait for it is started again.
func triedNext(v topics.Service) (at topics.Time) {
	if v.State != topics.Failed && v.State != topics.Backoff {
		return at
	}
	for _, i := range v.Instances {
		if !i.NextTry.IsZero() && (at.IsZero() || i.NextTry.Before(at.Time)) {
			at = i.NextTry
		}
	}
	return at
}

// versions shows the version, and the one that waits for it.
func versions(v topics.Service) string {
	if u := v.Update; u.Installed != "" && services.Newer(u.Latest, u.Installed) {
		return u.Installed + " → " + u.Latest
	}
	return v.Version
}

// instanceText says where an instance is, and what it does unless the row of
// its service says so already.
func instanceText(i topics.ServiceInstance, of int) string {
	at := i.Domain
	if i.Port > 0 {
		at = net.JoinHostPort(i.Domain, strconv.Itoa(i.Port))
	}
	if i.State != topics.Running && of > 1 {
		at += " (" + string(i.State) + ")"
	} else if i.State == topics.Running && i.Health == topics.Unhealthy {
		at += " (unhealthy)"
	}
	return at
}

func serviceState(v topics.Service) cell {
	c := textCell(string(v.State)).withTint(stateTint(v.State))
	if v.State == topics.Running && v.Healthy < v.Running {
		c = cell{string(topics.Unhealthy), red}
	}
	if v.Update.InProgress && v.State != topics.Failed && v.State != topics.Backoff {
		c = cell{"updating", yellow}
	}
	return c
}

func stateTint(s topics.State) tint {
	switch s {
	case topics.Running:
		return green
	case topics.Starting, topics.Stopping, topics.Pending, topics.Backoff:
		return yellow
	case topics.Failed:
		return red
	}
	return faint
}

func serviceRank(v topics.Service) int {
	switch {
	case v.State == topics.Failed, v.State == topics.Running && v.Healthy < v.Running:
		return 0
	case v.State == topics.Backoff:
		return 1
	case v.Update.Problem != "":
		return 1
	case v.State == topics.Pending:
		return 2
	}
	return 3
}

// problem is what needs a human: one sentence, and what belongs to it, such
// as the last lines of a service that failed.
type problem struct {
	text  string
	lines []string
}

// findProblems gathers the hub's problems, and adds what the domains say of
// themselves and of their instances where the hub's words do not.
func findProblems(o topics.Overview, now time.Time) []problem {
	var all []problem
	add := func(text string) {
		if lines := cleanLines(text); lines[0] != "" {
			all = append(all, problem{lines[0], lines[1:]})
		}
	}
	if p := o.Hub.Protocol; p != "" && !topics.SameMajor(p) {
		add(fmt.Sprintf("the hub speaks protocol %s, this dominionctl %s: update the older one", p, topics.Protocol))
	}
	for _, p := range o.Problems {
		add(p)
	}
	for _, d := range o.Domains {
		if d.Problem != "" && !slices.ContainsFunc(all, func(p problem) bool { return p.contains(d.Problem) }) {
			add(d.Name + ": " + d.Problem)
		}
		for _, i := range d.Services {
			if unreachable(d) { // nobody knows what has become of it
				break
			}
			if i.Message == "" || (i.State != topics.Failed && i.State != topics.Backoff && i.Health != topics.Unhealthy) {
				continue
			}
			at := slices.IndexFunc(all, func(p problem) bool { return p.mentions(i.Service) && p.mentions(d.Name) })
			if at < 0 {
				what := string(i.State)
				if i.Health == topics.Unhealthy && i.State == topics.Running {
					what = "unhealthy"
				}
				head, lines, more := strings.Cut(i.Message, "\n")
				if head += nextTry(i.NextTry, now); more {
					head += "\n" + lines
				}
				add(fmt.Sprintf("%s %s on %s: %s", i.Service, what, d.Name, head))
				continue
			}
			for k, l := range cleanLines(i.Message) {
				if next := nextTry(i.NextTry, now); k == 0 && all[at].contains(l) {
					all[at].text += next
				} else if k == 0 {
					l += next
				}
				if l != "" && !all[at].contains(l) {
					all[at].lines = append(all[at].lines, l)
				}
			}
		}
	}
	return all
}

// contains reports whether the words of s are among those of the problem.
func (p problem) contains(s string) bool {
	return strings.Contains(cleanWords(p.text+" "+strings.Join(p.lines, " ")), cleanWords(s))
}

// mentions reports whether the sentence contains the name of a domain or a service.
func (p problem) mentions(name string) bool {
	return slices.Contains(strings.FieldsFunc(p.text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	}), name)
}

func drawProblems(b *bufio.Writer, all []problem, s Style) {
	if len(all) > 0 {
		heading(b, s, "PROBLEMS")
		drawProblemList(b, all, s)
	}
}

func drawProblemList(b *bufio.Writer, all []problem, s Style) {
	for _, p := range all {
		for i, line := range wrap(p.text, max(0, s.Width-2)) {
			mark := "  "
			if i == 0 {
				mark = s.paint(boldRed, "!") + " "
			}
			b.WriteString(mark + s.paint(red, line) + "\n")
		}
		drawLines(b, p.lines, s)
	}
}

// drawLines draws the last lines of a service's log, below its problem.
func drawLines(b *bufio.Writer, lines []string, s Style) {
	for _, line := range lines {
		if s.Width > 0 {
			line = shorten(line, max(10, s.Width-4))
		}
		b.WriteString("  " + s.paint(faint, "| ") + line + "\n")
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
