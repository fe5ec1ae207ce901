package hub_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/topics"
)

// plan asks for a plan and returns it as "action service domain".
func (h *home) plan(ask string) (lines []string, reasons map[string]string) {
	h.Helper()
	reply := h.ask(topics.VerbPlan, ask)
	if reply.Status != topics.StatusOK {
		h.Fatalf("plan %s: %s", ask, reply.Error)
	}
	all, err := topics.Decode[[]topics.PlanLine]("plan", reply.Data)
	if err != nil {
		h.Fatal(err)
	}
	reasons = make(map[string]string)
	for _, l := range all {
		line := strings.TrimSpace(l.Action + " " + l.Service + " " + l.Domain)
		lines = append(lines, line)
		reasons[line] = l.Reason
	}
	return lines, reasons
}

// changes are the lines of a plan that change something.
func changes(lines []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(l string) bool {
		return strings.HasPrefix(l, "keep ") || strings.HasPrefix(l, "stays ") || strings.HasPrefix(l, "wait ")
	})
}

// orders returns what the commands to some agents held last.
func (h *home) orders(agents ...*agent) map[string][]string {
	all := make(map[string][]string)
	for _, a := range agents {
		c := get[topics.StartCommand](h, h.tree.Domain(topics.DomainServicesSet, a.name))
		for service := range c.Services {
			all[a.name] = append(all[a.name], service)
		}
		slices.Sort(all[a.name])
	}
	return all
}

const pair = `
[services.web]
port = 8080
[services.lamp]
priority = "required"
dependencies = ["web"]
traits = ["lamp"]
[services.clock]
priority = "required"
replicas = 1
`

// What the hub says it would do without a domain is what it does when that
// domain is lost.
func TestPlanWithout(t *testing.T) {
	inHome(t, pair, func(h *home) {
		a := h.agent("attic", nil, "web", "clock")
		b := h.agent("kitchen", []string{"lamp"}, "web", "lamp", "clock")
		for _, one := range []*agent{a, b} {
			if err := one.join(); err != nil {
				h.Fatal(err)
			}
		}
		time.Sleep(20 * time.Second)
		before, commands := h.orders(a, b), a.commands+b.commands
		first, other := a, b // the one that runs web is to be lost
		if !slices.Contains(before[a.name], "web") {
			first, other = b, a
		}
		lines, reasons := h.plan(fmt.Sprintf(`{"transaction":"t","without":%q}`, first.name))
		if len(changes(lines)) == 0 {
			h.Fatalf("nothing would change: %q %v", lines, before)
		}
		for line, reason := range reasons {
			down := strings.HasPrefix(line, "goes down ")
			if strings.HasSuffix(line, " "+first.name) && !down && !strings.HasPrefix(line, "stop ") {
				h.Errorf("%s: %s", line, reason)
			}
			if down && (strings.Contains(line, "web") || !strings.Contains(reason, first.name+" is lost")) {
				h.Errorf("%s: %s", line, reason)
			}
		}
		if now, n := h.orders(a, b), a.commands+b.commands; fmt.Sprint(now) != fmt.Sprint(before) || n != commands {
			h.Errorf("the question ordered something: %v, then %v", before, now)
		}
		if again, _ := h.plan(`{"transaction":"t"}`); len(changes(again)) > 0 {
			h.Errorf("the question stays in the plan: %q", again)
		}
		defer first.quit()
		first.cut()
		time.Sleep(3600 * time.Millisecond) // lost, and gone
		got := append(before[other.name], started(changes(lines), other.name)...)
		slices.Sort(got)
		if now := h.orders(other)[other.name]; !slices.Equal(now, got) {
			h.Errorf("said %q, so %s would run %q, and it runs %q", lines, other.name, got, now)
		}
		other.leave()
	})
}

func started(lines []string, domain string) (services []string) {
	for _, l := range lines {
		if w := strings.Fields(l); slices.Contains([]string{"start", "starts", "moves"}, w[0]) && w[2] == domain {
			services = append(services, w[1])
		}
	}
	return services
}

// What the hub says it would do with another configuration is what it does when
// it is reloaded with it.
func TestPlanWithConfig(t *testing.T) {
	inHome(t, pair, func(h *home) {
		a := h.agent("attic", nil, "web", "clock", "radio")
		b := h.agent("kitchen", []string{"lamp"}, "web", "lamp", "clock")
		for _, one := range []*agent{a, b} {
			if err := one.join(); err != nil {
				h.Fatal(err)
			}
		}
		time.Sleep(20 * time.Second)
		before := h.orders(a, b)
		next := strings.Replace(strings.Replace(pair, "8080", "8081", 1), "[services.clock]", "[services.radio]\n[services.clock]", 1)
		next = strings.Replace(next, "[services.radio]", "[services.radio]\npriority = \"required\"", 1)
		next = strings.Replace(next, "replicas = 1", "replicas = 2", 1)
		file := filepath.Join(h.TempDir(), "next.toml")
		if err := os.WriteFile(file, []byte(next), 0o600); err != nil {
			h.Fatal(err)
		}
		text, err := config.ServicesText(file)
		if err != nil {
			h.Fatal(err)
		}
		lines, reasons := h.plan(string(topics.Encode(topics.HubRequest{Transaction: "t", Config: text})))
		restarts := false
		for line, reason := range reasons {
			says := strings.Contains(reason, "web is restarted there")
			restarts = restarts || says
			if says != strings.HasPrefix(line, "keep web ") {
				h.Errorf("%s: %s", line, reason)
			}
		}
		if !restarts {
			h.Errorf("no restart of web: %q", reasons)
		}
		if now := h.orders(a, b); fmt.Sprint(now) != fmt.Sprint(before) {
			h.Errorf("the question ordered something: %v, then %v", before, now)
		}
		cfg, err := config.LoadDominion(file, nil)
		if err != nil {
			h.Fatal(err)
		}
		webs := a.started("web") + b.started("web")
		h.hub.Reload(cfg, nil)
		time.Sleep(100 * time.Millisecond) // before anything is ready
		for _, one := range []*agent{a, b} {
			want := append(slices.Clone(before[one.name]), started(changes(lines), one.name)...)
			slices.Sort(want)
			if now := h.orders(one)[one.name]; !slices.Equal(now, want) {
				h.Errorf("said %q, so %s would run %q, and it runs %q", lines, one.name, want, now)
			}
		}
		if n := a.started("web") + b.started("web"); n != webs+1 {
			h.Errorf("web was started %d times, said that it would be restarted", n-webs)
		}

		// Without what is needed, and with an empty one: all stops.
		if lines, _ := h.plan(`{"transaction":"t","config":"\n","without":"kitchen"}`); !slices.Contains(lines, "stop radio attic") || slices.ContainsFunc(lines, func(l string) bool { return !strings.HasPrefix(l, "stop ") }) {
			h.Errorf("with an empty configuration: %q", lines)
		}
		h.refuses(topics.VerbPlan, map[string]string{
			`{"transaction":"t","without":"cellar"}`:                             `there is no domain "cellar"; known are: attic, kitchen`,
			`{"transaction":"t","config":"[services.web]\nprot = 1"}`:            `unknown key (did you mean "port"?)`,
			`{"transaction":"t","config":"[services"}`:                           "cannot read it as TOML",
			`{"transaction":"t","config":"` + strings.Repeat("#", 1<<18) + `a"}`: "longer than 262144 bytes",
		})
		a.leave()
		b.leave()
	})
}

// A drain is planned in the words of a loss, does what it announced, and reports when
// nothing of it may be.
func TestPlanDrain(t *testing.T) {
	inHome(t, pair, func(h *home) {
		a := h.agent("attic", nil, "web", "clock")
		b := h.agent("kitchen", []string{"lamp"}, "web", "lamp", "clock")
		for _, one := range []*agent{a, b} {
			if err := one.join(); err != nil {
				h.Fatal(err)
			}
		}
		time.Sleep(20 * time.Second)
		before := h.orders(a, b)
		lines, reasons := h.plan(`{"transaction":"t","drain":"kitchen"}`)
		if reason := reasons["goes down lamp kitchen"]; !strings.Contains(reason, "kitchen is draining") {
			h.Errorf("lamp, which attic cannot run: %q in %q", reason, lines)
		}
		if lines[0] != "goes down lamp kitchen" {
			h.Errorf("losses are not first: %q", lines)
		}
		if now := h.orders(a, b); fmt.Sprint(now) != fmt.Sprint(before) {
			h.Errorf("the question ordered something: %v, then %v", before, now)
		}
		h.refuses(topics.VerbPlan, map[string]string{
			`{"transaction":"t","drain":"cellar"}`: `there is no domain "cellar"; known are: attic, kitchen`,
		})
		a.leave()
		b.leave()
	})
}

// What was switched and scaled by hand ends by a verb and by a word.
func TestReset(t *testing.T) {
	inHome(t, pair, func(h *home) {
		a := h.agent("attic", nil, "web", "clock")
		if err := a.join(); err != nil {
			h.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		reset := map[string]func(){
			"the verb": func() {
				if r := h.ask(topics.VerbReset, `{"transaction":"t","service":"clock"}`); r.Status != topics.StatusOK {
					h.Error(r.Error)
				}
			},
			"the word": func() { h.publish(h.tree.Service(topics.ServiceSet, "clock"), "RESET", false) },
		}
		for by, do := range reset {
			h.ask(topics.VerbStop, `{"transaction":"t","service":"clock"}`)
			h.ask(topics.VerbScale, `{"transaction":"t","service":"clock","replicas":3}`)
			time.Sleep(time.Second)
			if s := get[topics.Service](h, h.tree.Service(topics.ServiceStatus, "clock")); s.Switch != topics.Off || s.Replicas != 3 {
				h.Fatalf("not switched and scaled: %+v", s)
			}
			do()
			time.Sleep(time.Second)
			if s := get[topics.Service](h, h.tree.Service(topics.ServiceStatus, "clock")); s.Switch != topics.On || s.Replicas == 3 || s.Wanted != 1 {
				h.Errorf("after %s: %+v", by, s)
			}
		}
		if r := h.ask(topics.VerbReset, `{"transaction":"t","service":"clok"}`); !strings.Contains(r.Error, `did you mean "clock"`) {
			h.Errorf("an unknown one: %+v", r)
		}
		a.leave()
	})
}
