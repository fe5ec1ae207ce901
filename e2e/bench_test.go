package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// TestBench measures what docs/performance.md has goals for and prints one
// table. It judges nothing: figures of a busy machine are no faults.
func TestBench(t *testing.T) {
	if os.Getenv("DOMINION_BENCH") != "1" {
		t.Skip("set DOMINION_BENCH=1 to measure")
	}
	needs(t)
	var rows []row
	for _, measure := range []struct {
		name string
		run  func(t *testing.T) []row
	}{
		{"start", benchStart},
		{"crash", benchCrash},
		{"agent", benchKilledAgent},
		{"power", benchPowerCut},
		{"size", benchSize},
		{"idle", benchIdle},
	} {
		t.Run(measure.name, func(t *testing.T) { rows = append(rows, measure.run(t)...) })
	}
	table := new(strings.Builder)
	w := tabwriter.NewWriter(table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "what\tmeasured\tgoal\tpeers\thow")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.what, r.measured, r.goal, r.peer, r.how)
	}
	w.Flush()
	fmt.Printf("\n%s\n", table)
}

// row is a line of the table: a figure, what it should be, what others need.
type row struct{ what, measured, goal, peer, how string }

// times sums up several measurements of one duration.
func times(what, goal, peer string, all []time.Duration) row {
	slices.Sort(all)
	ms := func(d time.Duration) string { return strconv.FormatFloat(d.Seconds()*1000, 'f', 1, 64) + " ms" }
	return row{what, ms(all[len(all)/2]), goal, peer, fmt.Sprintf("median of %d, %s to %s", len(all), ms(all[0]), ms(all[len(all)-1]))}
}

// benchHome is a settled home of one domain with one service.
func benchHome(t *testing.T, keys ...string) (home *Home, kitchen *Domain, agent *Process, o *Observer) {
	t.Helper()
	home = newHome(t, Embedded)
	kitchen = home.Domain("kitchen")
	kitchen.Install("web")
	home.Configure(service("web", append(keys, `priority = "required"`)...))
	_, agents, o := home.Up(kitchen)
	o.Until("web is healthy", func(v View) bool { return v.Healthy("web", 1) })
	return home, kitchen, agents[0], o
}

// benchStart measures from the ON that the broker passes to the hub until the
// service's process, started by make, writes the time of its own start.
func benchStart(t *testing.T) []row {
	home, _, _, o := benchHome(t)
	var all []time.Duration
	for i := range 15 {
		home.Publish("dominion/service/web/set", "OFF")
		o.Until("web is off", func(v View) bool { return v.Service("web").State == topics.Stopped })
		mark := o.Now()
		home.Publish("dominion/service/web/set", "ON")
		// the observer gets the ON from the broker as the hub does
		on := o.AwaitTopic(mark, "dominion/service/web/set", "ON")
		start := home.Journal.Await(t, i+2, "start", "web")
		all = append(all, start.At.Sub(on.At))
	}
	return []row{times("ON at the hub → process runs", "≤ 25 ms", "Nomad 240 ms", all)}
}

// benchCrash measures from SIGKILL of the process until the next one runs,
// with no delay in the policy.
func benchCrash(t *testing.T) []row {
	home, _, _, o := benchHome(t, `restart = { delay = "0s", max_delay = "1s" }`)
	var all []time.Duration
	// ten crashes in ten minutes are a failure
	for i := range 7 {
		o.Until("web is healthy", func(v View) bool {
			return v.Healthy("web", 1) && v.Instance("kitchen", "web").Restarts == i
		})
		starts := home.Journal.Of(t, "start", "web")
		killed := time.Now()
		kill(t, starts[len(starts)-1].PID)
		again := home.Journal.Await(t, i+2, "start", "web")
		all = append(all, again.At.Sub(killed))
	}
	return []row{times("crash → running again, delay 0", "≤ 25 ms", "Nomad 280 ms", all)}
}

// benchKilledAgent measures from SIGKILL of the agent until a client is told.
func benchKilledAgent(t *testing.T) []row {
	_, kitchen, agent, o := benchHome(t)
	var all []time.Duration
	for range 9 {
		mark, killed := o.Now(), time.Now()
		agent.Kill()
		offline := o.AwaitTopic(mark, "dominion/domain/kitchen/availability", "offline")
		all = append(all, offline.At.Sub(killed))
		mark = o.Now()
		agent = kitchen.Start()
		o.AwaitTopic(mark, "dominion/domain/kitchen/availability", "online")
		awaitLiveHeartbeat(o, o.Now(), "kitchen")
	}
	return []row{times("agent killed → a client knows", "≤ 50 ms", "heartbeat TTL", all)}
}

// benchPowerCut measures from the end of a domain, cable and all, until its
// service runs on another, with the default settings.
func benchPowerCut(t *testing.T) []row {
	var all []time.Duration
	for range 5 {
		home := newHome(t, Embedded)
		domains := map[string]*Domain{"kitchen": home.Domain("kitchen"), "cellar": home.Domain("cellar")}
		for _, d := range domains {
			d.Install("web")
		}
		home.Configure(service("web", `priority = "required"`, `replicas = 1`))
		_, _, o := home.Up(domains["kitchen"], domains["cellar"])
		o.Until("web is healthy", func(v View) bool { return v.Healthy("web", 1) && len(v.Endpoints("web")) == 1 })
		cut := time.Now()
		domains[o.Latest().Endpoints("web")[0].Domain].PowerCut()
		all = append(all, home.Journal.Await(t, 2, "start", "web").At.Sub(cut))
	}
	return []row{times("power cut → runs elsewhere", "≤ 5000 ms", "Nomad 11.9–18.7 s", all)}
}

func benchSize(t *testing.T) []row {
	var rows []row
	for _, program := range []string{programs.dominion, programs.domain, programs.dominionctl} {
		info, err := os.Stat(program)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row{"size of " + filepath.Base(program), mb(info.Size()), "", "", "static, stripped"})
	}
	return rows
}

func mb(bytes int64) string {
	if bytes < 1e6 {
		return fmt.Sprintf("%d kB", bytes/1000)
	}
	return strconv.FormatFloat(float64(bytes)/1e6, 'f', 1, 64) + " MB"
}

// benchIdle lets a hub with ten domains and an agent with ten services do
// nothing for two minutes, and weighs them.
func benchIdle(t *testing.T) []row {
	home := newHome(t, Embedded)
	var config strings.Builder
	var domains []*Domain
	var want []string
	for i := range 10 {
		name := fmt.Sprintf("domain%d", i)
		domains = append(domains, home.Domain(name))
		service10 := fmt.Sprintf("service%d", i)
		config.WriteString(service(service10, `priority = "required"`, `domains = ["domain0"]`))
		domains[0].Install(service10)
		want = append(want, service10)
	}
	home.Configure(config.String())
	hub, agents, o := home.Up(domains...)
	o.Until("ten services are healthy", func(v View) bool {
		return !slices.ContainsFunc(want, func(s string) bool { return !v.Healthy(s, 1) })
	})
	// the start itself is not idle
	idle := 2 * time.Minute
	pass(t, o, 15*time.Second)
	processes := map[string]*Process{"hub": hub, "agent": agents[0]}
	written, began := map[string]int64{}, time.Now()
	for name, p := range processes {
		written[name] = field(t, p.PID(), "io", "write_bytes:")
	}
	pass(t, o, idle)
	var rows []row
	for _, weigh := range []struct{ name, what, memory, peer string }{
		{"hub", "hub with 10 domains, idle", "≤ 30 MB", "Nomad server 90 MB"},
		{"agent", "agent with 10 services, idle", "≤ 15 MB", "Nomad client 90 MB + 140 MB a service"},
	} {
		pid := processes[weigh.name].PID()
		took := time.Since(began)
		perDay := float64(field(t, pid, "io", "write_bytes:")-written[weigh.name]) * (24 * time.Hour).Seconds() / took.Seconds()
		rows = append(rows,
			row{
				weigh.what + ": memory", mb(field(t, pid, "status", "VmRSS:") * 1024), weigh.memory, weigh.peer,
				fmt.Sprintf("VmRSS; Pss %s", mb(field(t, pid, "smaps_rollup", "Pss:")*1024)),
			},
			row{weigh.what + ": written a day", mb(int64(perDay)), "≤ 5 MB", "Nomad server 210 MB", fmt.Sprintf("of %v, by /proc/PID/io", took.Round(time.Second))},
		)
	}
	return rows
}

// pass lets time pass, as seen by heartbeats.
func pass(t *testing.T, o *Observer, d time.Duration) {
	t.Helper()
	end := time.Now().Add(d)
	for time.Now().Before(end) {
		awaitLiveHeartbeat(o, o.Now(), "domain0")
	}
}

// field reads a number of a file of /proc/PID.
func field(t *testing.T, pid int, file, name string) int64 {
	t.Helper()
	n, err := processField(pid, file, name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// processField returns the number that a file of /proc/PID gives for a name.
func processField(pid int, file, name string) (int64, error) {
	path := fmt.Sprintf("/proc/%d/%s", pid, file)
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == name {
			return strconv.ParseInt(f[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, name)
}
