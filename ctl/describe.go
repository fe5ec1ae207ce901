package ctl

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/jmbarzee/dominion/topics"
)

// describeEvents is how many of the last events a description shows.
const describeEvents = 10

// describeCommand shows all that the hub has about one service or one domain.
func (a *app) describeCommand() *cobra.Command {
	args := names{"SERVICE|DOMAIN"}
	return &cobra.Command{
		Use: "describe " + args[0], Short: "All about one service or one domain, on one screen", GroupID: "look",
		Args: a.check(args), ValidArgsFunction: a.completed(args),
		RunE: func(cmd *cobra.Command, args []string) error { return a.describe(cmd.Context(), args[0]) },
	}
}

// Description is all that the hub has about a service, a domain, or both where
// they share a name. It is the document of describe.
type Description struct {
	Service *topics.Service    `json:"service,omitempty"`
	Why     *topics.Why        `json:"why,omitempty"`
	Domain  *topics.DomainView `json:"domain,omitempty"`
	// Instances are what the domains report of the service, in the order of
	// their names, without those that are lost; Metrics are the last of each domain that matters here.
	Instances map[string]topics.Instance `json:"instances,omitempty"`
	Metrics   map[string]topics.Metrics  `json:"metrics,omitempty"`
	Events    []topics.Event             `json:"events"`
}

func (a *app) describe(ctx context.Context, name string) error {
	s, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	d, err := s.description(ctx, a, name)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(topics.Encode(d))
	}
	return RenderDescription(a.env.Stdout, d, a.style)
}

// description asks the hub for what describe shows. The metrics are retained
// messages: they arrive before the answer to the question that follows their
// subscription.
func (s *session) description(ctx context.Context, a *app, name string) (Description, error) {
	var d Description
	o, err := s.overview(ctx, a.timeout)
	if err != nil {
		return d, err
	}
	var domains []string
	for _, v := range o.Services {
		if v.Service == name {
			d.Service, d.Instances = &v, make(map[string]topics.Instance)
		}
	}
	for _, v := range o.Domains {
		if v.Name == name && d.Domain == nil {
			d.Domain = &v
			domains = append(domains, v.Name)
		}
		if i, reported := instanceOn(v, name); d.Service != nil && reported {
			d.Instances[v.Name] = i
			domains = append(domains, v.Name)
		}
	}
	if d.Service == nil && d.Domain == nil {
		return d, fail(ExitFailed, a.unknownNameHint(ctx, s, o, name), "there is no service and no domain %q", name)
	}
	for _, domain := range domains {
		if topics.ValidName(domain) {
			if err := s.subscribe(ctx, s.tree.Domain(topics.DomainMetrics, domain)); err != nil {
				return d, err
			}
		}
	}
	events, err := askFor[[]topics.Event](ctx, s, topics.VerbEvents, topics.HubRequest{Limit: maxLines}, a.timeout)
	if err != nil {
		return d, err
	}
	events = slices.DeleteFunc(events, func(e topics.Event) bool { return e.Service != name && e.Domain != name })
	d.Events = append([]topics.Event{}, events[max(0, len(events)-describeEvents):]...)
	d.Metrics = s.queuedMetrics()
	if d.Service != nil {
		why, err := askFor[topics.Why](ctx, s, topics.VerbWhy, topics.HubRequest{Service: name}, a.timeout)
		if err != nil {
			return d, err
		}
		d.Why = &why
	}
	return d, nil
}

// instanceOn returns what a domain reports of a service, unless it is lost.
func instanceOn(v topics.DomainView, service string) (i topics.Instance, reported bool) {
	n := slices.IndexFunc(v.Services, func(i topics.Instance) bool { return i.Service == service })
	if n < 0 || unreachable(v) {
		return i, false
	}
	return v.Services[n], true
}

// queuedMetrics returns the metrics that arrived beside an answer, by domain.
func (s *session) queuedMetrics() map[string]topics.Metrics {
	all := make(map[string]topics.Metrics)
	for _, m := range s.queue {
		a, ok := s.tree.Parse(m.Topic)
		if !ok || a.Kind != topics.DomainMetrics {
			continue
		}
		if figures, err := topics.DecodeForDisplay[topics.Metrics](m.Topic, m.Payload); err == nil {
			all[a.Domain] = figures
		}
	}
	return all
}

// RenderDescription draws the answer to describe.
func RenderDescription(w io.Writer, d Description, s Style) error {
	return buffered(w, func(b *bufio.Writer) {
		if d.Service != nil {
			drawServiceDescription(b, d, s)
		}
		if d.Domain != nil {
			if d.Service != nil {
				b.WriteByte('\n')
			}
			drawDomainDescription(b, d, s)
		}
		if len(d.Events) > 0 {
			heading(b, s, "EVENTS")
			drawEvents(b, d.Events, s)
		}
	})
}

// drawServiceDescription draws a service: its facts, its instances, and why it runs where.
func drawServiceDescription(b *bufio.Writer, d Description, s Style) {
	v := *d.Service
	state := serviceState(v)
	fmt.Fprintf(b, "%s  %s, %d of %d running\n", s.paint(bold, cleanWords(v.Service)), s.paint(state.tint, state.text), v.Running, v.Wanted)
	reason := cleanLines(v.Reason)
	drawFacts(b, s, [][2]string{
		{"kind", "service"},
		{"switch", v.Switch},
		{"reason", reason[0]},
		{"version", versions(v)},
		{"update", updateText(v.Update)},
		{"notes", strings.TrimSpace(v.Update.Summary + " " + v.Update.ReleaseURL)},
		{"healthy", fmt.Sprintf("%d of %d", v.Healthy, v.Running)},
		{"problem", problemText(v)},
		{"last error", lastError(v.LastError, s)},
		{"page", v.Link},
	})
	drawLines(b, reason[1:], s)
	if len(d.Instances) > 0 {
		heading(b, s, "INSTANCES")
		t := instanceTable("DOMAIN")
		for _, domain := range slices.Sorted(maps.Keys(d.Instances)) {
			t.add(instanceRow(domain, d.Instances[domain], d.Metrics[domain].Services[v.Service], s)...)
		}
		t.draw(b, s)
	}
	if d.Why != nil && len(d.Why.Domains) > 0 {
		heading(b, s, "WHY")
		t := table{columns: []column{{head: "DOMAIN", min: 12}, {head: "STATE"}, {head: "REASON", min: 20, wrap: true}}}
		for _, l := range d.Why.Domains {
			t.add(textCell(l.Domain), whyState(l), textCell(l.Reason+nextTry(l.NextTry, s.Now)))
		}
		t.draw(b, s)
	}
}

// drawDomainDescription draws a domain: its facts and figures, and its services.
func drawDomainDescription(b *bufio.Writer, d Description, s Style) {
	v := *d.Domain
	state := domainState(v)
	fmt.Fprintf(b, "%s  %s\n", s.paint(bold, cleanWords(v.Name)), s.paint(state.tint, state.text))
	kind := "domain"
	if v.Micro {
		kind = "microcontroller"
	}
	facts := [][2]string{
		{"kind", kind},
		{"problem", v.Problem},
		{"since", ago(v.Since, s.Now)},
		{"address", v.Address},
		{"system", cmp.Or(v.Platform, strings.Trim(v.OS+"/"+v.Arch, "/"))},
		{"accepts", v.Accept},
		{"agent", v.Version},
		{"traits", strings.Join(v.Traits, " ")},
		{"on its disk", strings.Join(v.Catalog, " ")},
		{"id", v.ID},
	}
	m, measured := d.Metrics[v.Name]
	if measured {
		facts = append(facts, [][2]string{
			{"load", fmt.Sprintf("%.2f on %d cores", m.Load1, m.Cores)},
			{"memory", fmt.Sprintf("%s of %s used", size(m.MemoryUsed), size(m.MemoryTotal))},
			{"disk", size(m.DiskFree) + " free"},
		}...)
		if m.Temperature != nil {
			facts = append(facts, [2]string{"temperature", fmt.Sprintf("%.0f °C", *m.Temperature)})
		}
	}
	drawFacts(b, s, facts)
	if len(v.Services) > 0 {
		title := "SERVICES"
		if unreachable(v) {
			title = "SERVICES, AS LAST REPORTED"
		}
		heading(b, s, title)
		t := instanceTable("SERVICE")
		for _, i := range v.Services {
			t.add(instanceRow(i.Service, i, m.Services[i.Service], s)...)
		}
		t.draw(b, s)
	}
}

// instanceTable is the table of instances, by the name that heads a row.
func instanceTable(head string) table {
	return table{columns: []column{
		{head: head, min: 12},
		{head: "STATE"},
		{head: "SINCE", drop: 3},
		{head: "VERSION", drop: 4, empty: true},
		{head: "PORT", drop: 6, empty: true},
		{head: "RESTARTS", drop: 2},
		{head: "CPU", drop: 5, empty: true},
		{head: "MEMORY", drop: 5, empty: true},
		{head: "MESSAGE", min: 20, wrap: true, empty: true},
	}}
}

// instanceRow returns the row of an instance in an instanceTable.
func instanceRow(head string, i topics.Instance, used topics.Usage, s Style) []cell {
	state := textCell(string(i.State)).withTint(stateTint(i.State))
	if i.State == topics.Running && i.Health == topics.Unhealthy {
		state = cell{string(topics.Unhealthy), red}
	}
	port, cpu, memory := "", "", ""
	if i.Port > 0 {
		port = strconv.Itoa(i.Port)
	}
	if used.Memory > 0 {
		cpu, memory = fmt.Sprintf("%.2f", used.CPU), size(used.Memory)
	}
	return []cell{
		textCell(head), state, textCell(ago(i.Since, s.Now)), textCell(i.Version), textCell(port), textCell(strconv.Itoa(i.Restarts)),
		textCell(cpu), textCell(memory), textCell(cleanLines(i.Message)[0] + nextTry(i.NextTry, s.Now)),
	}
}

// problemText returns what is wrong with a service, unless its reason or its update
// says the same.
func problemText(v topics.Service) string {
	if strings.Contains(v.Reason, v.Problem) || strings.Contains(v.Update.Problem, v.Problem) {
		return ""
	}
	return v.Problem
}

// lastError returns the last crash or failure of a service, with when and where it
// was.
func lastError(e *topics.ServiceError, s Style) string {
	if e == nil {
		return ""
	}
	return fmt.Sprintf("%s on %s: %s", ago(e.At, s.Now), e.Domain, e.Message)
}

// updateText says what of a service waits or is on its way; "" for nothing.
func updateText(u topics.ServiceUpdate) string {
	if u.Problem != "" {
		return u.Problem
	}
	if u.InProgress {
		return strings.TrimSuffix(fmt.Sprintf("%d of %d instances; %s", u.Updated, u.Total, u.Waits), "; ")
	}
	return u.Waits
}

// drawFacts writes what is not empty, a name and a text a line.
func drawFacts(b *bufio.Writer, s Style, facts [][2]string) {
	width := len("temperature")
	for _, f := range facts {
		if f[1] != "" {
			width = max(width, len(f[0]))
		}
	}
	room := 0
	if s.Width > 0 {
		room = max(20, s.Width-width-4)
	}
	for _, f := range facts {
		text := cleanWords(f[1])
		if text == "" {
			continue
		}
		fmt.Fprintf(b, "  %s  ", s.paint(faint, fmt.Sprintf("%-*s", width, f[0])))
		b.WriteString(strings.Join(wrap(text, room), "\n"+strings.Repeat(" ", width+4)) + "\n")
	}
}

// size writes bytes in the unit that people use for so many.
func size(bytes uint64) string {
	if bytes >= 1e10 {
		return fmt.Sprintf("%.0f GB", float64(bytes)/1e9)
	}
	if bytes >= 1e9 {
		return fmt.Sprintf("%.1f GB", float64(bytes)/1e9)
	}
	return fmt.Sprintf("%.0f MB", float64(bytes)/1e6)
}
