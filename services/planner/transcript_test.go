package planner_test

import (
	"bufio"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/services/transcript"
	"github.com/jmbarzee/dominion/topics"
)

// TestTranscripts replays testdata/*.txt. A line describes a thing (a later
// description of the same thing replaces the former), "plan" plans; what the
// plan says stands between "----" and the next empty line. With "obey" the
// domains are given what was planned and run it, healthy, before the next plan.
//
//	service NAME [required] [needs=a,b>=1.2] [traits=x] [pinned=d] [replicas=N] [scale=1..3] [version=>=1] [cpu=0.5] [memory=MB] [exclusive]
//	retired NAME …                 gone from the configuration
//	domain NAME STATE [gone] [draining] [flapping] [traits=x] [has=a@1.2,b] [ordered=a] [runs=a:running:healthy]
//	       [cores=N] [memory=MB] [load=QUARTERS] [full]
//	want NAME on|off|N
//	scaled NAME N REASON           what its figure calls for
//	held NAME DOMAIN|- REASON      why none but a domain may be given it; without more: anybody may
func TestTranscripts(t *testing.T) { transcript.Test(t, replay) }

type script struct {
	defs, retired map[string]services.Definition
	domains       map[string]planner.Domain
	wants         map[string]planner.Override
	scaled        map[string]planner.Scaled
	held          map[string]planner.Hold
	last          planner.Plan
}

func newScript() *script {
	return &script{
		defs: map[string]services.Definition{}, retired: map[string]services.Definition{},
		domains: map[string]planner.Domain{}, wants: map[string]planner.Override{}, scaled: map[string]planner.Scaled{}, held: map[string]planner.Hold{},
	}
}

func replay(t *testing.T, text string) string {
	s := newScript()
	var out strings.Builder
	skip := false
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		if skip {
			skip = line != ""
			continue
		}
		fmt.Fprintln(&out, line)
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		switch words[0] {
		case "service", "retired":
			d := definition(t, words[1:])
			if words[0] == "retired" {
				delete(s.defs, d.Name)
				s.retired[d.Name] = d
			} else {
				s.defs[d.Name] = d
			}
		case "domain":
			d := domain(t, words[1:])
			s.domains[d.Name] = d
		case "want":
			s.want(words[1], words[2])
		case "scaled":
			n, _ := strconv.Atoi(words[2])
			s.scaled[words[1]] = planner.Scaled{Number: n, Reason: strings.Join(words[3:], " ")}
		case "held":
			delete(s.held, words[1])
			if len(words) > 3 {
				s.held[words[1]] = planner.Hold{Why: strings.Join(words[3:], " "), Only: strings.Trim(words[2], "-")}
			}
		case "plan":
			s.plan(&out)
			skip = true
		case "obey":
			s.obey()
		case "rebalance":
			s.rebalance(&out)
			skip = true
		case "without", "drained":
			s.forecast(&out, words[0], words[1])
			skip = true
		default:
			t.Fatalf("unknown line %q", line)
		}
	}
	return out.String()
}

func (s *script) input() planner.Input {
	in := planner.Input{Overrides: s.wants, Scaled: s.scaled, Holds: maps.Clone(s.held)}
	for _, d := range s.defs {
		in.Services = append(in.Services, d)
	}
	for _, d := range s.retired {
		in.Retired = append(in.Retired, d)
	}
	for _, d := range s.domains {
		in.Domains = append(in.Domains, d)
		for service, i := range d.Observed { // as far as its agent's word goes
			if s.defs[service].Exclusive && i.State.Alive() && !d.Gone && s.held[service].Why == "" {
				h := planner.Hold{Why: "waits until it has stopped where it is", Only: d.Name}
				if in.Holds[service].Why != "" {
					h.Only = ""
				}
				in.Holds[service] = h
			}
		}
	}
	return in
}

func (s *script) plan(out *strings.Builder) {
	s.last = planner.New(s.input())
	fmt.Fprintln(out, "----")
	for _, l := range s.last.Lines() {
		fmt.Fprintf(out, "%s %s %s: %s\n", l.Action, l.Service, l.Domain, l.Reason)
	}
	for _, name := range sortedKeys(s.last.Services) {
		o := s.last.Services[name]
		fmt.Fprintf(out, "= %s: wanted %d, %s\n", name, o.Wanted, o.Reason)
		for _, c := range o.Choices {
			if c.Ranges != "" {
				fmt.Fprintf(out, "  on %s in the range of %s\n", c.Domain, c.Ranges)
			}
		}
		if o.Broken != "" {
			fmt.Fprintf(out, "! %s\n", o.Broken)
		}
	}
	fmt.Fprintln(out)
}

// forecast writes what becomes of the home without a domain, or when it is drained.
func (s *script) forecast(out *strings.Builder, what, name string) {
	in := s.input()
	now := planner.PresenceOf(in)
	for i := range in.Domains {
		d := &in.Domains[i]
		switch {
		case d.Name != name:
		case what == "without":
			d.State, d.Gone, d.Observed = topics.DomainIsLost, true, nil
		default:
			d.Draining = true
		}
	}
	s.write(out, now, in)
}

func (s *script) write(out *strings.Builder, now planner.Presence, in planner.Input) {
	lines, _ := planner.Forecast(now, in, nil)
	fmt.Fprintln(out, "----")
	for _, l := range lines {
		where := l.Domain
		if l.From != "" {
			where = l.From + " to " + l.Domain
		}
		fmt.Fprintf(out, "%s %s %s: %s\n", l.Action, l.Service, where, l.Reason)
	}
	fmt.Fprintln(out)
}

// rebalance has the services spread anew, and writes what becomes of them.
func (s *script) rebalance(out *strings.Builder) {
	in := s.input()
	now := planner.PresenceOf(in)
	moving, _ := planner.Rebalance(in, nil)
	for name, d := range s.domains {
		d.Moving = map[string]bool{}
		for service, domains := range moving {
			d.Moving[service] = slices.Contains(domains, name)
		}
		s.domains[name] = d
	}
	s.write(out, now, s.input())
}

// obey lets every domain that is online run what was planned.
func (s *script) obey() {
	desired := s.last.Desired()
	for name, d := range s.domains {
		before := d.Chosen
		d.Ordered, d.Chosen = map[string]bool{}, map[string]string{}
		for _, service := range desired[name] {
			d.Ordered[service] = true
			if c := s.last.Services[service].At(name); c.Action == topics.ActionStart {
				d.Chosen[service] = c.Because
			} else {
				d.Chosen[service] = before[service]
			}
		}
		if d.State == topics.DomainIsOnline && !d.Micro {
			for service := range d.Observed {
				if !d.Ordered[service] {
					delete(d.Observed, service)
				}
			}
			for service := range d.Ordered {
				d.Observed[service] = planner.Instance{State: topics.Running, Health: topics.Healthy, Version: d.Catalog[service]}
			}
		}
		s.domains[name] = d
	}
}

func (s *script) want(name, what string) {
	w := s.wants[name]
	switch what {
	case "on":
		w.Switch = topics.On
	case "off":
		w.Switch = topics.Off
	default:
		w.Replicas, _ = strconv.Atoi(what)
	}
	s.wants[name] = w
}

func definition(t *testing.T, words []string) services.Definition {
	d := services.Default(words[0])
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		var err error
		switch key {
		case "required":
			d.Priority = services.Required
		case "needs":
			for _, n := range strings.Split(value, ",") {
				at := strings.IndexAny(n+">", "<>=")
				var dep services.Dependency
				dep, err = services.ParseDependency(n[:at] + " " + n[at:])
				d.Dependencies = append(d.Dependencies, dep)
			}
		case "traits":
			d.Traits = strings.Split(value, ",")
		case "pinned":
			d.Domains = strings.Split(value, ",")
		case "scale":
			least, most, _ := strings.Cut(value, "..")
			d.Scale = new(services.Scale)
			if d.Scale.Min, err = strconv.Atoi(least); err == nil {
				d.Scale.Max, err = strconv.Atoi(most)
			}
		case "exclusive":
			d.Exclusive = true
		case "oneshot":
			d.Oneshot = true
		case "replicas":
			d.Replicas, err = strconv.Atoi(value)
		case "cpu":
			d.Needs.CPU, err = strconv.ParseFloat(value, 64)
		case "memory":
			d.Needs.Memory, err = strconv.ParseInt(value+"000000", 10, 64)
		case "version":
			d.Version, err = services.ParseRange(value)
		default:
			t.Fatalf("unknown key %q", w)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func domain(t *testing.T, words []string) planner.Domain {
	d := planner.Domain{
		Name: words[0], State: topics.DomainState(words[1]),
		Catalog: map[string]string{}, Ordered: map[string]bool{}, Observed: map[string]planner.Instance{},
	}
	for _, w := range words[2:] {
		key, value, _ := strings.Cut(w, "=")
		for _, item := range strings.Split(value, ",") {
			switch key {
			case "gone":
				d.Gone = true
			case "awaited":
				d.Awaited, d.Gone = true, true
			case "draining":
				d.Draining = true
			case "micro":
				d.Micro = true
			case "flapping":
				d.Flapping = true
			case "cores":
				d.Machine.Cores, _ = strconv.Atoi(item)
			case "memory":
				d.Machine.Memory, _ = strconv.ParseUint(item+"000000", 10, 64)
			case "load":
				d.Machine.Load, _ = strconv.Atoi(item)
			case "full":
				d.Machine.Full = true
			case "traits":
				d.Traits = append(d.Traits, item)
			case "has":
				name, version, _ := strings.Cut(item, "@")
				d.Catalog[name] = version
			case "ordered":
				d.Ordered[item] = true
			case "runs", "first":
				p := append(strings.Split(item, ":"), "running", "healthy")
				done := p[1] == "done" // finished, with exit code 0
				if done {
					p[1] = string(topics.Finished)
				}
				version := d.Catalog[p[0]]
				if len(p) == 6 { // not that of the disk
					version = p[3]
				}
				d.Observed[p[0]] = planner.Instance{
					State: topics.State(p[1]), Health: topics.Health(p[2]), Version: version, Done: done,
					Best: key == "first", Order: uint64(len(d.Name)),
				}
			default:
				t.Fatalf("unknown key %q", w)
			}
		}
	}
	return d
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
