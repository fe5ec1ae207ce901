package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Whatever happens to a home, when it has calmed down everything that is
// wanted runs, once, where it may, and nothing else does. DOMINION_E2E_SEED
// chooses what happens, DOMINION_E2E_MISHAPS how much.
func TestAfterMuchMisfortune(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		seed, mishaps := uint64(1), 12
		if s := os.Getenv("DOMINION_E2E_SEED"); s != "" {
			var err error
			seed, err = strconv.ParseUint(s, 10, 64)
			home.must(err)
		}
		if s := os.Getenv("DOMINION_E2E_MISHAPS"); s != "" {
			var err error
			mishaps, err = strconv.Atoi(s)
			home.must(err)
		}
		random := rand.New(rand.NewPCG(seed, 0))

		quick := `restart = { delay = "100ms", max_delay = "500ms" }`
		home.Configure(service("web", `priority = "dependency"`, `traits = ["compute"]`, healthHTTP, quick) +
			service("orchestrator", `priority = "dependency"`, `traits = ["compute"]`, `dependencies = ["web"]`, quick) +
			service("lamp", `priority = "required"`, `traits = ["lamp"]`, `dependencies = ["orchestrator"]`, healthHTTP, quick) +
			service("clock", `priority = "required"`, `replicas = 1`, quick))
		traits := map[string][]string{"kitchen": {"compute", "lamp"}, "cellar": {"compute"}, "attic": {"lamp"}}
		var domains []*Domain
		for _, name := range []string{"kitchen", "cellar", "attic"} {
			d := home.Domain(name, traits[name]...)
			d.Install("web", "orchestrator", "lamp")
			d.InstallShell("clock")
			domains = append(domains, d)
		}
		hub, agents, o := home.Up(domains...)
		calm := func(v View) bool {
			return v.Ready() && v.Online("kitchen") && v.Online("cellar") && v.Online("attic") && v.Healthy("web", 1) &&
				v.Healthy("orchestrator", 1) && v.Healthy("lamp", 2) && v.Healthy("clock", 1)
		}
		o.Until("all is healthy", calm)

		cut := make([]bool, len(domains))
		for range mishaps {
			i := random.IntN(len(domains))
			d := domains[i]
			switch what := random.IntN(8); what {
			case 0:
				t.Logf("%s: agent killed and started", d.Name)
				agents[i].Kill()
				agents[i] = d.Start()
			case 1:
				t.Logf("%s: agent stopped and started", d.Name)
				agents[i].Stop()
				agents[i] = d.Start()
			case 2:
				t.Log("hub killed and started")
				hub.Kill()
				hub = home.StartHub()
			case 3:
				t.Log("hub stopped and started")
				hub.Stop()
				hub = home.StartHub()
			case 4:
				t.Logf("%s: cable %v", d.Name, map[bool]string{true: "back", false: "out"}[cut[i]])
				if cut[i] {
					d.LinkUp()
				} else {
					d.LinkDown()
				}
				cut[i] = !cut[i]
			case 5:
				t.Logf("%s: power cut and back", d.Name)
				d.PowerCut()
				d.LinkUp()
				cut[i] = false
				agents[i] = d.Start()
			case 6:
				if all := home.Journal.Running(t); len(all) > 0 {
					victim := all[random.IntN(len(all))]
					_, pid, _ := strings.Cut(victim, " ")
					n, err := strconv.Atoi(pid)
					home.must(err)
					t.Logf("%s killed", victim)
					_ = syscall.Kill(n, syscall.SIGKILL) // it may have ended by itself
				}
			case 7:
				t.Logf("%s: drained and undrained", d.Name)
				_ = home.tryPublish("dominion/domain/"+d.Name+"/drain/set", "ON") // nobody may be there to hear
				_ = home.tryPublish("dominion/domain/"+d.Name+"/drain/set", "OFF")
			}
			time.Sleep(time.Duration(random.IntN(2500)) * time.Millisecond) // the scenario: no two homes are alike
		}
		for i, d := range domains {
			if cut[i] {
				d.LinkUp()
			}
		}

		t.Log("calm")
		o = home.Observe()
		for _, d := range domains {
			o.Undrain(d.Name)
		}
		o.Until("all is healthy", calm)
		for range 2 {
			for _, d := range domains {
				awaitLiveHeartbeat(o, o.Now(), d.Name)
			}
		}
		o.Until("all is healthy still", calm)
		var want []string
		for _, name := range []string{"web", "orchestrator", "lamp", "clock"} {
			for _, e := range o.Latest().Endpoints(name) {
				want = append(want, fmt.Sprintf("%s@%s", name, e.Domain))
			}
		}
		slices.Sort(want)
		running := home.Journal.AwaitRunning(t, want...)
		for i, d := range domains {
			for _, instance := range o.Latest().Domain(d.Name).Services {
				if instance.State == topics.Running && !alive(instance.PID) {
					t.Errorf("%s tells of a process that is not there: %+v", d.Name, instance)
				}
			}
			if agents[i].Ended() {
				t.Errorf("the agent of %s ended", d.Name)
			}
		}
		t.Logf("seed %d: %q", seed, running)
	})
}
