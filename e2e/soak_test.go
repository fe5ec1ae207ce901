package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// TestSoak lets everything happen to a home that can: cables out, both ways and
// one way, programs killed again and again, power cuts that take what was not
// on the disk yet, full disks, services that fall ill, while users switch and
// drain. When that has ended, within a minute everything that is wanted runs,
// once, where it may; nothing else does; what the broker acknowledged is there;
// hub and agents have not grown.
//
//	DOMINION_E2E_SOAK=10m  for how long, and something else each time; a minute otherwise
//	DOMINION_E2E_SEED=n    what happens
func TestSoak(t *testing.T) {
	home := onEmbedded(t)
	length, seed := time.Minute, uint64(1)
	if text := os.Getenv("DOMINION_E2E_SOAK"); text != "" {
		seed = uint64(time.Now().UnixNano() % 1_000_000)
		var err error
		length, err = time.ParseDuration(text)
		home.must(err)
	}
	if text := os.Getenv("DOMINION_E2E_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		home.must(err)
	}
	t.Logf("seed %d, for %v", seed, length)

	s := newSoak(home)
	for _, u := range s.units {
		u.start()
	}
	o := home.Observe()
	o.Until("all is healthy", s.calm)
	before := s.sizes()

	var around sync.WaitGroup
	quit := make(chan struct{})
	end := sync.OnceFunc(func() { close(quit); around.Wait() })
	t.Cleanup(end)
	around.Go(func() { s.keepUp(quit) })
	around.Go(func() { s.units[0].grows(quit) })
	around.Go(func() { s.watchTwins(quit) })
	p := s.newSteady()
	s.steady = p
	around.Go(func() { p.run(quit) })
	around.Go(func() { p.visits(quit) })

	began := time.Now()
	var hands sync.WaitGroup
	for n := range uint64(2) {
		hands.Go(func() { s.hand(seed, n).run(began.Add(length)) })
	}
	hands.Wait()
	if t.Failed() {
		t.FailNow()
	}

	t.Logf("%v: calm; %v", time.Since(began).Round(time.Second), s.done)
	calm := time.Now()
	s.mend()
	o.Close()
	o = home.Observe()
	o.Until("every domain is online", func(v View) bool {
		return v.Ready() && !slices.ContainsFunc(s.domains, func(d *Domain) bool { return !v.Online(d.Name) })
	})
	for _, d := range s.domains {
		o.Undrain(d.Name)
	}
	for _, service := range soaked {
		home.Publish("dominion/service/"+service+"/set", "ON")
		home.Publish("dominion/service/"+service+"/set", "UPDATE") // what did not get well in all that
	}
	within := max(time.Minute, time.Since(calm)+30*time.Second)
	o.Until("all is healthy", s.calm)
	if took := time.Since(calm); took > within {
		t.Errorf("all is healthy %v after the last mishap, want at most %v", took, within)
	}
	eventually(t, "every instance is as the configuration says", s.painted)
	o.Until("all is healthy", s.calm)
	t.Logf("all is healthy %v after the last mishap ended", time.Since(calm).Round(100*time.Millisecond))
	for _, d := range s.domains {
		awaitLiveHeartbeat(o, o.Now(), d.Name)
	}
	o.Until("all is healthy still", s.calm)
	p.finish()
	end()
	s.checkInstances(o)
	if met, err := os.ReadFile(s.meetings()); err != nil || len(met) > 0 {
		t.Errorf("an exclusive service ran twice:\n%s", met)
	}
	p.check()
	s.checkSizes(before)
	if t.Failed() {
		t.Logf("to try it again: make soak SOAK=%v SEED=%d", length, seed)
	}
}

// soaked are the services of the soak, each with the number of its instances.
var (
	soaked    = []string{"web", "orchestrator", "lamp", "pair", "clock", "boiler"}
	instances = map[string]int{"web": 1, "orchestrator": 1, "lamp": 2, "pair": 2, "clock": 1, "boiler": 1}
)

// soak is a home to which things happen.
type soak struct {
	*Home
	domains []*Domain
	units   []*unit // the hub's first, then one a domain
	steady  *steady
	paint   int // of the service pair; who has the hub changes it

	mu   sync.Mutex
	done map[string]int // mishaps, by kind
}

func newSoak(home *Home) *soak {
	s := &soak{Home: home, done: make(map[string]int)}
	s.configure()
	home.Hub.disk(filepath.Join(home.Hub.Dir, "data"), "64m")
	s.units = append(s.units, newUnit(home.Hub, "hub", filepath.Join(home.Hub.Dir, "data"), home.StartHub))
	traits := map[string][]string{"kitchen": {"compute", "lamp"}, "cellar": {"compute"}, "attic": {"compute", "lamp"}, "garage": {"compute"}}
	for _, name := range []string{"kitchen", "cellar", "attic", "garage"} {
		d := home.Domain(name, traits[name]...)
		d.disk(d.DataDir(), "8m")
		d.Install("web", "orchestrator", "lamp", "pair")
		d.InstallShell("clock")
		d.installBoiler(s.meetings())
		s.domains = append(s.domains, d)
		s.units = append(s.units, newUnit(d.Host, name, d.DataDir(), d.Start))
	}
	return s
}

// configure writes the configuration, in one of two colours.
func (s *soak) configure() {
	quick := `restart = { delay = "100ms", max_delay = "1s" }`
	paint := fmt.Sprintf("environment = { PAINT = \"%d\" }", s.paint%2)
	s.Configure("[timing]\nisolation = \"6s\"\n" + service("boiler", `priority = "required"`, `exclusive = true`, `stop_timeout = "1s"`, quick) +
		service("web", `priority = "dependency"`, `traits = ["compute"]`, healthHTTP, quick) +
		service("orchestrator", `priority = "dependency"`, `traits = ["compute"]`, `dependencies = ["web"]`, quick) +
		service("lamp", `priority = "required"`, `traits = ["lamp"]`, `dependencies = ["orchestrator"]`, healthHTTP, quick) +
		service("pair", `priority = "required"`, `replicas = 2`, healthHTTP, quick, paint) +
		service("clock", `priority = "required"`, `replicas = 1`, quick))
}

// meetings is the file of who began while another one of the exclusive service
// was there.
func (s *soak) meetings() string { return filepath.Join(s.dir, "meetings") }

// calm reports whether everything runs as it should, as far as it is told.
func (s *soak) calm(v View) bool {
	if !v.Ready() {
		return false
	}
	for _, d := range s.domains {
		if !v.Online(d.Name) {
			return false
		}
	}
	for service, n := range instances {
		if !v.Healthy(service, n) {
			return false
		}
	}
	return true
}

// checkInstances compares what is told with the processes that are there: all
// that carry an instance's token are of one that is told of, and no service
// runs twice on a domain.
func (s *soak) checkInstances(o *Observer) {
	s.t.Helper()
	told := make(map[string]bool)
	for service := range instances {
		for _, e := range o.Latest().Endpoints(service) {
			told[service+"@"+e.Domain] = true
		}
	}
	there := make(map[string]int)
	for _, d := range s.domains {
		for _, l := range lives(d.Host) {
			there[l.service+"@"+d.Name]++
		}
		for _, i := range o.Latest().Domain(d.Name).Services {
			if i.State == topics.Running && !alive(i.PID) {
				s.t.Errorf("%s tells of a process that is not there: %+v", d.Name, i)
			}
		}
	}
	for name, n := range there {
		if !told[name] {
			s.t.Errorf("an orphan: %s runs and nobody tells of it", name)
		}
		if n != 1 {
			s.t.Errorf("%s runs %d times", name, n)
		}
	}
	for name := range told {
		if there[name] == 0 {
			s.t.Errorf("%s is told of and does not run", name)
		}
	}
	for name, n := range instances {
		running := 0
		for where := range told {
			if strings.HasPrefix(where, name+"@") {
				running++
			}
		}
		if running != n {
			s.t.Errorf("%s runs %d times, want %d", name, running, n)
		}
	}
}

// painted reports whether a changed definition has reached every instance.
func (s *soak) painted() bool {
	for _, d := range s.domains {
		for _, l := range lives(d.Host) {
			if l.service == "pair" && l.paint != fmt.Sprint(s.paint%2) {
				return false
			}
		}
	}
	return true
}

// size is what a program takes.
type size struct {
	memory int // kB resident
	files  int
}

func (s *soak) sizes() map[string]size {
	all := make(map[string]size)
	for _, u := range s.units {
		pid := u.pid()
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		s.must(err)
		var z size
		for line := range strings.Lines(string(status)) {
			if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
				fmt.Sscan(rest, &z.memory)
			}
		}
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		s.must(err)
		z.files = len(files)
		all[u.name] = z
	}
	return all
}

// checkSizes: what has gone through a program leaves nothing in it.
func (s *soak) checkSizes(before map[string]size) {
	s.t.Helper()
	for name, now := range s.sizes() {
		was := before[name]
		s.t.Logf("%s: %d kB and %d files, %d kB and %d files before", name, now.memory, now.files, was.memory, was.files)
		if now.memory > was.memory+24<<10 || now.files > was.files+24 {
			s.t.Errorf("%s has grown from %+v to %+v", name, was, now)
		}
	}
}

// alike is a process of a service, as its environment tells.
type alike struct {
	service, token, paint string
	pids                  []int
}

// lives are the lives of services on a host: what carries a DOMINION_INSTANCE.
func lives(h *Host) []alike {
	byToken := make(map[string]*alike)
	var all []*alike
	for _, pid := range h.Processes() {
		environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil || !alive(pid) {
			continue
		}
		var service, token, paint string
		for kv := range strings.SplitSeq(string(environment), "\x00") {
			if v, ok := strings.CutPrefix(kv, "SERVICE_NAME="); ok {
				service = v
			}
			if v, ok := strings.CutPrefix(kv, "PAINT="); ok {
				paint = v
			}
			if v, ok := strings.CutPrefix(kv, "DOMINION_INSTANCE="); ok {
				token = v
			}
		}
		if token == "" {
			continue
		}
		if byToken[token] == nil {
			byToken[token] = &alike{service: service, token: token, paint: paint}
			all = append(all, byToken[token])
		}
		byToken[token].pids = append(byToken[token].pids, pid)
	}
	var lives []alike
	for _, l := range all {
		lives = append(lives, *l)
	}
	return lives
}

// watchTwins looks all the time whether a domain runs two lives of a service.
func (s *soak) watchTwins(quit chan struct{}) {
	for !over(quit) {
		for _, d := range s.domains {
			seen := make(map[string]alike)
			for _, l := range lives(d.Host) {
				other, twice := seen[l.service]
				// Processes are looked at one after the other: one may have ended
				// and the next begun in between.
				if twice && slices.ContainsFunc(other.pids, alive) && slices.ContainsFunc(l.pids, alive) {
					s.t.Errorf("%s runs twice on %s: %+v and %+v", l.service, d.Name, other, l)
				}
				seen[l.service] = l
			}
		}
		select {
		case <-quit:
		case <-time.After(200 * time.Millisecond):
		}
	}
}
