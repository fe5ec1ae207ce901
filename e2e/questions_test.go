package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// hostileRequests are requests that took the hub gigabytes, or seconds in the
// loop that renews leases: by name the verb and the key that is large.
func hostileRequests() map[string][3]string {
	var unknown, services strings.Builder
	unknown.WriteString("[services.a]\ndependencies = [")
	for i := range 5000 {
		fmt.Fprintf(&unknown, "\"b%04d\",", i)
		if i < 4000 {
			fmt.Fprintf(&services, "[services.s%d]\npriority = \"required\"\n", i)
		}
	}
	unknown.WriteString("]")
	return map[string][3]string{
		"nested lists":         {topics.VerbPlan, "config", "x=" + strings.Repeat("[", 260_000)},
		"parts of a key":       {topics.VerbPlan, "config", strings.Repeat("a.", 25_000) + "a=1"},
		"two long names":       {topics.VerbPlan, "config", "[services." + strings.Repeat("a", 120_000) + "]\n[services." + strings.Repeat("b", 120_000) + "]\n"},
		"unknown dependencies": {topics.VerbPlan, "config", unknown.String()},
		"many services":        {topics.VerbPlan, "config", services.String()},
		"a name of a megabyte": {topics.VerbWhy, "service", strings.Repeat("a", 1_000_000)},
		"a long domain":        {topics.VerbPlan, "without", strings.Repeat("a", 60_000)},
		"a long topic":         {topics.VerbAccess, "topic", strings.Repeat("a/", 30_000)},
		"a long filter":        {topics.VerbTrace, "topic", strings.Repeat("+/", 30_000)},
	}
}

// Whatever is asked of the hub, each question is answered, and an exclusive
// service runs on meanwhile: its lease is renewed, nothing is fenced.
func TestHostileQuestionsFenceNothing(t *testing.T) {
	home := onEmbedded(t)
	x := newExclusiveHome(t, home, exclusiveTiming, `stop_timeout = "1s"`)
	from, _, pid := x.begins(1)
	x.healthy(from.Name)
	all := hostileRequests()
	mark := x.o.Now()
	for round := range 3 {
		for name, r := range all {
			file := filepath.Join(home.dir, "request.json")
			transaction := fmt.Sprintf("%s %d", name, round)
			home.must(os.WriteFile(file, topics.Encode(map[string]string{"transaction": transaction, "user": "u", "action": "publish", "name": "n", r[1]: r[2]}), 0o600))
			args := append(home.clientArgs(), "-q", "1", "-t", "dominion/request/"+r[0], "-f", file)
			if r := home.observer.Exec(nil, "mosquitto_pub", args...); r.Code != 0 {
				t.Fatalf("%s: %s", name, r.Stderr)
			}
			x.o.Await("an answer to "+transaction, mark, func(m Message) bool {
				reply, err := topics.Decode[topics.Reply](m.Topic, []byte(m.Payload))
				return m.Topic == "dominion/response/"+r[0] && err == nil && reply.Transaction == transaction
			})
		}
	}
	if r := home.Ctl("status"); r.Code != 0 {
		t.Errorf("dominionctl status: code %d: %s", r.Code, r.Stderr)
	}
	x.never()
	if n := len(x.beginnings()); n != 1 || !alive(pid) {
		t.Errorf("it began %d times; the first is alive: %v", n, alive(pid))
	}
	for _, m := range x.o.Since(mark) {
		if e, err := topics.Decode[topics.Event](m.Topic, []byte(m.Payload)); strings.HasSuffix(m.Topic, "/event") && err == nil &&
			slices.Contains([]topics.EventType{topics.ServiceFenced, topics.DomainLost, topics.HubStarted}, e.Type) {
			t.Errorf("%s: %s", e.Type, e.Message)
		}
	}
	const most = 400 << 10 // kB: what a hub may take with these questions, where one alone took gigabytes
	if peak := field(t, x.hub.PID(), "status", "VmHWM:"); peak > most {
		t.Errorf("the hub took %d kB", peak)
	} else {
		t.Logf("the hub took %d kB at most", peak)
	}
}
