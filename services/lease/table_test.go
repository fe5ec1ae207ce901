package lease

import (
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// A domain with exclusive services whose run has not reported what runs there
// gets no lease, and the table says that it waits for that report alone.
func TestALeaseAwaitsTheStatus(t *testing.T) {
	start := time.Unix(0, 0)
	b := NewTable("run", start, 0)
	b.Configure(20*time.Second, map[string]time.Duration{"lock": time.Second})
	at := Position{Epoch: 1, Generation: 1, Run: "run"}
	b.Ordered("kitchen", at, map[string]bool{"lock": true, "web": true})
	b.Ordered("attic", at, map[string]bool{"web": true})
	beat := func(domain, session string, left time.Duration) Beat {
		return Beat{Run: Run{domain, session}, Name: domain, At: at, Left: left}
	}
	says := func(domain, session string, at Position) {
		b.Report(Status{Run: Run{domain, session}, At: at, Services: map[string]topics.State{"lock": topics.Pending}})
	}
	check := func(what string, beat Beat, awaits, gets bool) {
		t.Helper()
		_, got := b.Answer(beat, start)
		if is := b.AwaitsStatus(beat); is != awaits || got != gets {
			t.Errorf("%s: awaits a status %v, gets a lease %v", what, is, got)
		}
	}
	check("before any status", beat("kitchen", "s1", 0), true, false)
	says("kitchen", "s1", Position{})
	check("with a status of before the command", beat("kitchen", "s1", 0), true, false)
	says("kitchen", "s1", at)
	check("with its status", beat("kitchen", "s1", 0), false, true)
	check("another run", beat("kitchen", "s2", 0), true, false)
	check("nothing exclusive", beat("attic", "a", 0), false, false)
	check("a lease of an earlier run of the hub", beat("attic", "a", time.Second), true, false)
}
