package questions

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

func question(asker, transaction string) Question {
	return Question{
		Verb: topics.VerbPlan, Ask: topics.HubRequest{Transaction: transaction, Without: "a"}, Asker: asker,
		Reply: topics.Message{Topic: "answer/" + transaction}, Until: time.Now().Add(Timeout),
	}
}

// Of one asker few questions wait, of all not many.
func TestPut(t *testing.T) {
	q := New(Options{})
	for i, want := range []string{"", "", "2 such questions of yours wait already", "2 such questions of yours wait already"} {
		err := q.Put(question("greedy", "t"))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("question %d of one asker: %v, want %q", i+1, err, want)
		}
	}
	for i := range maxWaiting - maxOfAsker {
		if err := q.Put(question(fmt.Sprint("asker ", i), "t")); err != nil {
			t.Errorf("question %d of another asker: %v", i+1, err)
		}
	}
	if err := q.Put(question("late", "t")); err == nil || !strings.Contains(err.Error(), "too many such questions wait") {
		t.Errorf("one too many: %v", err)
	}
}

// Who was charged with the least is next; of equals who waits longest.
func TestTake(t *testing.T) {
	q := New(Options{})
	q.spent["greedy"] = time.Second
	for _, one := range []Question{question("greedy", "1"), question("modest", "2"), question("greedy", "3"), question("other", "4"), question("modest", "5")} {
		if err := q.Put(one); err != nil {
			t.Fatal(err)
		}
	}
	var order []string
	for one, some := q.Take(); some; one, some = q.Take() {
		order = append(order, one.Ask.Transaction)
	}
	if want := []string{"2", "4", "5", "1", "3"}; !slices.Equal(order, want) {
		t.Errorf("in the order %v, want %v", order, want)
	}
}

// loop stands for the hub's loop.
type loop struct {
	*Questions
	t     *testing.T
	wake  chan struct{}
	home  Home
	err   error
	asked []map[string]services.Definition
}

// inLoop calls f in virtual time with questions about a home.
func inLoop(t *testing.T, o Options, f func(l *loop)) {
	synctest.Test(t, func(t *testing.T) {
		l := &loop{t: t, wake: make(chan struct{}, 10)}
		o.Wake = func() { l.wake <- struct{}{} }
		l.Questions = New(o)
		f(l)
		l.Close()
	})
}

// step does what the loop does when it is woken.
func (l *loop) step() []Answer {
	return l.Step(func(_ topics.HubRequest, next map[string]services.Definition) (Home, error) {
		l.asked = append(l.asked, next)
		return l.home, l.err
	}, time.Now())
}

// ask puts a question and returns the answer.
func (l *loop) ask(one Question) (topics.Reply, Answer) {
	l.t.Helper()
	if err := l.Put(one); err != nil {
		l.t.Fatal(err)
	}
	all := l.step()
	for len(all) == 0 {
		<-l.wake
		all = l.step()
	}
	if len(all) != 1 || all[0].Reply.Topic != one.Reply.Topic {
		l.t.Fatalf("%d answers: %+v", len(all), all)
	}
	r, err := topics.Decode[topics.Reply](all[0].Reply.Topic, all[0].Reply.Payload)
	if err != nil || r.Transaction != one.Ask.Transaction {
		l.t.Fatalf("%+v: %v", r, err)
	}
	return r, all[0]
}

// definitions reads services from TOML.
func definitions(t *testing.T, text string) []services.Definition {
	t.Helper()
	defs, err := config.ParseServices(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return defs
}

// pair is a home of two domains of which a runs web.
func pair(t *testing.T) planner.Input {
	t.Helper()
	domain := func(name string, runs ...string) planner.Domain {
		d := planner.Domain{
			Name: name, State: topics.DomainIsOnline, Catalog: map[string]string{"web": "1.0.0", "lamp": "1.0.0"},
			Ordered: make(map[string]bool), Observed: make(map[string]planner.Instance),
		}
		for _, service := range runs {
			d.Ordered[service], d.Observed[service] = true, planner.Instance{State: topics.Running, Health: topics.Healthy, Version: "1.0.0"}
		}
		return d
	}
	return planner.Input{
		Services: definitions(t, "[services.web]\npriority = \"required\"\n"),
		Domains:  []planner.Domain{domain("a", "web"), domain("b")},
	}
}

func text(lines []topics.PlanLine) string {
	var all []string
	for _, l := range lines {
		all = append(all, fmt.Sprintf("%s %s %s: %s", l.Action, l.Service, l.Domain, l.Reason))
	}
	return strings.Join(all, "\n")
}

// A question is answered by the plan of its home, and the time is charged to its asker.
func TestPlan(t *testing.T) {
	inLoop(t, Options{}, func(l *loop) {
		l.home = Home{Input: pair(t)}
		one := question("user anna", "1")
		one.Ask = topics.HubRequest{Transaction: "1", Config: "[services.lamp]\npriority = \"required\"\n"}
		r, a := l.ask(one)
		if data := string(r.Data); r.Status != topics.StatusOK || !strings.Contains(data, `"action":"keep","service":"web","domain":"a"`) || a.Moves != nil {
			t.Errorf("%s %s, moves %v", r.Status, data, a.Moves)
		}
		if len(l.asked) != 1 || l.asked[0]["lamp"].Name != "lamp" {
			t.Errorf("the home was asked for with %v", l.asked)
		}
		if _, charged := l.spent["user anna"]; charged || l.busy {
			t.Errorf("after the last answer %v is charged, busy %v", l.spent, l.busy)
		}
	})
}

// What cannot be planned is refused with the reason.
func TestRefusals(t *testing.T) {
	inLoop(t, Options{}, func(l *loop) {
		one := question("c", "1")
		one.Ask = topics.HubRequest{Transaction: "1", Config: "[services.web]\npriority = \"often\"\n"}
		if r, _ := l.ask(one); r.Status == topics.StatusOK || !strings.Contains(r.Error, "priority") || len(l.asked) != 0 {
			t.Errorf("a configuration with an error: %+v, the home was asked for %d times", r, len(l.asked))
		}
		l.err = errors.New("there is no domain a")
		if r, _ := l.ask(question("c", "2")); r.Error != l.err.Error() {
			t.Errorf("a domain that is not there: %+v", r)
		}
		l.err = nil
		one = question("c", "3")
		one.Until = time.Now()
		if r, _ := l.ask(one); !strings.Contains(r.Error, "took longer than 10s") {
			t.Errorf("too late: %+v", r)
		}
		one = question("c", "4")
		if err := l.Put(one); err != nil {
			t.Fatal(err)
		}
		l.step()
		<-l.wake
		time.Sleep(Timeout) // the loop is busy, and takes the home too late
		l.home = Home{Input: pair(t)}
		l.step()
		<-l.wake
		if all := l.step(); len(all) != 1 || !strings.Contains(string(all[0].Reply.Payload), "took longer than 10s") {
			t.Errorf("a home that comes too late: %+v", all)
		}
	})
}

// Where the domain that is asked about is the hub's own machine, the plan says that first.
func TestHubGoesDown(t *testing.T) {
	for _, c := range []struct {
		addresses []string
		want      bool
	}{
		{[]string{"10.0.0.2", "10.0.0.3"}, true},
		{[]string{"127.0.0.1"}, true},
		{[]string{"10.0.0.4", "shed.local"}, false},
		{nil, false},
	} {
		inLoop(t, Options{Machine: func() []string { return []string{"10.0.0.3"} }}, func(l *loop) {
			l.home = Home{Input: pair(t), Present: planner.PresenceOf(pair(t)), Addresses: c.addresses}
			r, _ := l.ask(question("c", "1"))
			if got := strings.HasPrefix(string(r.Data), `[{"action":"goes down","service":"","domain":"a"`); got != c.want {
				t.Errorf("at %v the hub goes down: %v, want %v: %s", c.addresses, got, c.want, r.Data)
			}
		})
	}
}

// An order to rebalance returns what is to move.
func TestRebalance(t *testing.T) {
	inLoop(t, Options{}, func(l *loop) {
		in := pair(t)
		in.Services = definitions(t, "[services.web]\nreplicas = 1\n[services.lamp]\nreplicas = 1\n")
		in.Domains[0].Ordered["lamp"], in.Domains[0].Observed["lamp"] = true, in.Domains[0].Observed["web"]
		l.home = Home{Input: in, Rebalance: true, Present: planner.PresenceOf(in)}
		one := question("c", "1")
		one.Verb = topics.VerbRebalance
		r, a := l.ask(one)
		if r.Status != topics.StatusOK || len(a.Moves) != 1 {
			t.Errorf("%+v, moves %v, want one", r, a.Moves)
		}
		for service, domains := range a.Moves {
			if !slices.Equal(domains, []string{"a"}) {
				t.Errorf("%s leaves %v, want a", service, domains)
			}
		}
		r, a = l.ask(question("c", "2"))
		if !strings.Contains(string(r.Data), `"action":"moves"`) || a.Moves != nil {
			t.Errorf("the plan of a rebalance: %s, moves %v", r.Data, a.Moves)
		}
	})
}

// One question is worked on at a time.
func TestOneAtATime(t *testing.T) {
	inLoop(t, Options{}, func(l *loop) {
		l.home = Home{Input: pair(t)}
		for i := range 3 {
			if err := l.Put(question(fmt.Sprint("asker ", i), fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		l.step()
		synctest.Wait()
		if l.step(); len(l.waiting) != 2 {
			t.Errorf("%d wait while one is worked on, want 2", len(l.waiting))
		}
	})
}

// Close ends a question that waits for its home. The test ends only if the goroutine does.
func TestCloseEndsTheGoroutine(t *testing.T) {
	inLoop(t, Options{}, func(l *loop) {
		if err := l.Put(question("c", "1")); err != nil {
			t.Fatal(err)
		}
		l.step()
		<-l.wake
	})
}

// A plan names what is restarted where it stays.
func TestPlanOfOtherDefinitions(t *testing.T) {
	in := pair(t)
	before := map[string]services.Definition{"web": in.Services[0]}
	next := definitions(t, "[services.web]\npriority = \"required\"\nenvironment = { COLOUR = \"blue\" }\n")
	never := func() bool { return false }
	in.Services = next
	for _, c := range []struct {
		what string
		next map[string]services.Definition
		want string
	}{
		{"the same", before, ""},
		{"another environment", map[string]services.Definition{"web": next[0]}, "; web is restarted there: its command, port or environment changes"},
	} {
		lines, ok := Home{Input: in, Before: before, Next: c.next}.Plan(never)
		if got := text(lines); !ok || strings.Contains(got, "restarted") != (c.want != "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %v, %s, want %q", c.what, ok, got, c.want)
		}
	}
}

// What changes waits until the hub has settled, what stays does not.
func TestAfterSettling(t *testing.T) {
	lines := []topics.PlanLine{{Action: topics.ActionStart, Reason: "is wanted"}, {Action: topics.ActionKeep, Reason: "runs"}, {Action: topics.ActionStays, Reason: "runs"}}
	AfterSettling(lines)
	for i, want := range []string{"is wanted (after the hub has settled)", "runs", "runs"} {
		if lines[i].Reason != want {
			t.Errorf("%s: %q, want %q", lines[i].Action, lines[i].Reason, want)
		}
	}
}

// A plan that nobody has time for is given up.
func TestPlanStops(t *testing.T) {
	in := pair(t)
	for _, home := range []Home{{Input: in}, {Input: in, Present: planner.PresenceOf(in)}, {Input: in, Rebalance: true}} {
		if lines, ok := home.Plan(func() bool { return true }); ok || lines != nil {
			t.Errorf("%+v: planned all the same", home)
		}
	}
}

// Step is called in every round of the hub's loop: without a question it allocates nothing.
func TestStepWithoutAQuestionAllocatesNothing(t *testing.T) {
	q := New(Options{})
	now := time.Now()
	if n := testing.AllocsPerRun(100, func() { q.Step(nil, now) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
