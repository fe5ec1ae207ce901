package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Fifty services that end as soon as they start and start again at once: the
// hub answers, the agent's heart beats, who behaves runs on, and afterwards
// there is peace.
func TestFiftyCrashLoopsDisturbNobody(t *testing.T) {
	home := onEmbedded(t)
	kitchen := home.Domain("kitchen")
	kitchen.Install("web")
	config := service("web", `priority = "required"`, healthHTTP)
	for i := range 50 {
		name := fmt.Sprintf("broken%d", i)
		kitchen.Write(name, "Makefile", "run:\n\t@echo there is no stick; exit 1\n")
		config += service(name, `priority = "dependency"`, `restart = { delay = "0s", max_delay = "0s" }`)
	}
	home.Configure(config)
	hub, agents, o := home.Up(kitchen)
	o.Until("web is healthy", func(v View) bool { return v.Healthy("web", 1) })
	busy := cpuOf(t, hub) + cpuOf(t, agents[0])
	mark, began := o.Now(), time.Now()
	for i := range 50 {
		home.Publish(fmt.Sprintf("dominion/service/broken%d/set", i), "ON")
	}
	var slowest time.Duration
	failed := func() (n int) {
		for _, i := range o.Latest().Domain("kitchen").Services {
			if i.State == topics.Failed {
				n++
			}
		}
		return n
	}
	eventually(t, "all fifty have failed", func() bool {
		asked := time.Now()
		if r := home.Ctl("status", "--timeout", "5s"); r.Code != 0 { // the time that it waits for the hub unless told otherwise
			t.Errorf("dominionctl status: %+v", r)
		}
		slowest = max(slowest, time.Since(asked))
		return failed() == 50
	})
	t.Logf("500 crashes in %v, %v of processor time of hub and agent; dominionctl status took %v at the most",
		time.Since(began), cpuOf(t, hub)+cpuOf(t, agents[0])-busy, slowest)
	var beat time.Time
	for _, m := range o.Since(mark) {
		if m.Topic == "dominion/domain/kitchen/heartbeat" {
			at := decode[topics.Heartbeat](t, m).At.Time
			if gap := at.Sub(beat); !beat.IsZero() && gap > 2500*time.Millisecond {
				t.Errorf("no heartbeat for %v, each second is one due", gap)
			}
			beat = at
		}
	}
	for _, e := range o.Events(mark) {
		if e.Type == topics.DomainLost || e.Type == topics.DomainOffline {
			t.Errorf("event %+v", e)
		}
	}
	if i := o.Latest().Instance("kitchen", "web"); i.Restarts != 0 || i.Health != topics.Healthy {
		t.Errorf("web suffered: %+v", i)
	}

	t.Log("then there is peace: nothing is tried for minutes")
	time.Sleep(2 * time.Second) // what is to be said is said
	o.CatchUp()
	hubs, agents0, mark := cpuOf(t, hub), cpuOf(t, agents[0]), o.Now()
	time.Sleep(10 * time.Second)
	hubs, agents0 = cpuOf(t, hub)-hubs, cpuOf(t, agents[0])-agents0
	t.Logf("in 10 s the hub used %v of the processor, the agent %v; %d messages", hubs, agents0, len(o.Since(mark)))
	if hubs+agents0 > time.Second {
		t.Errorf("hub and agent used %v of 10 s", hubs+agents0)
	}
	for _, e := range o.Events(mark) {
		if e.Type == topics.ServiceStarted {
			t.Errorf("event %+v", e)
		}
	}
}

// cpuOf is what a program has used of the processor.
func cpuOf(t testing.TB, p *Process) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	var ticks int64
	for _, s := range f[11:13] { // utime, stime: fields 14 and 15, in hundredths of a second
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
