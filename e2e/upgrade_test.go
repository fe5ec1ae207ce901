package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// keyless is the last commit before hubs and domains had keys: its programs speak protocol 1.0.
const keyless = "315ca35d47d56d257dc41b4c973ca500080fda09"

// former builds the programs of that commit, once, and returns their directory. Go's cache has
// what was built before.
var former = sync.OnceValues(func() (dir string, err error) {
	dir = filepath.Join(os.Getenv(dirVariable), "former")
	source := filepath.Join(dir, "source")
	if err := os.MkdirAll(source, 0o755); err != nil {
		return "", err
	}
	if out, err := exec.Command("sh", "-c", "cd .. && git -c safe.directory=* archive "+keyless+" cmd agent broker config ctl hub internal services topics go.mod go.sum | tar -x -C "+source).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=0.0.0-former", "-o", dir+"/", "./cmd/dominion", "./cmd/domain")
	cmd.Dir, cmd.Env = source, append(os.Environ(), "CGO_ENABLED=0")
	out, err := outside(cmd)
	if err == nil {
		return dir, nil
	}
	modules := exec.Command("go", "mod", "download")
	modules.Dir = source
	if why, unavailable := outside(modules); unavailable != nil {
		return "", fmt.Errorf("%w: %s", errNoModules, why)
	}
	return "", fmt.Errorf("cannot build the programs of before there were keys: %w\n%s", err, out)
})

// errNoModules means that the modules of that commit are not in Go's cache, and cannot be had.
var errNoModules = errors.New("needs the modules of the version of before there were keys, which cannot be downloaded here")

// needsHistory skips a test where the commit is not there.
func needsHistory(t *testing.T) {
	t.Helper()
	needs(t, "git", "go", "tar")
	if exec.Command("git", "-c", "safe.directory=*", "cat-file", "-e", keyless+"^{commit}").Run() != nil {
		t.Skipf("needs the history of the project, with commit %.8s: git fetch --unshallow", keyless)
	}
}

// upgrading is a home that is upgraded from before there were keys.
type upgrading struct {
	*Home
	dir    string
	hub    *Process
	agents map[string]*Process
}

// newUpgrading starts the former programs: a hub, and the domains with a service each.
func newUpgrading(t *testing.T, home *Home, users string, domains ...*Domain) (*upgrading, *Observer) {
	t.Helper()
	dir, err := former()
	if errors.Is(err, errNoModules) {
		t.Skip(err)
	}
	home.must(err)
	u := &upgrading{Home: home, dir: dir, agents: make(map[string]*Process)}
	text := users
	for _, d := range domains {
		name := "of-" + d.Name
		d.Install(name, "lamp")
		text += service(name, `priority = "required"`, fmt.Sprintf("domains = [%q]", d.Name))
	}
	home.Configure(text + service("lamp", `priority = "dependency"`))
	u.startHub(filepath.Join(dir, "dominion"))
	for _, d := range domains {
		u.start(d, filepath.Join(dir, "domain"))
	}
	o := home.Observe()
	o.Until("every domain is online and runs its service", func(v View) bool {
		for _, d := range domains {
			if !v.Online(d.Name) || v.Instance(d.Name, "of-"+d.Name).State != topics.Running {
				return false
			}
		}
		return v.Ready()
	})
	return u, o
}

func (u *upgrading) startHub(program string) {
	u.began.Store(time.Now().UnixMilli())
	u.hub = u.Hub.startAsking(program, "-config", u.hubFile())
}

func (u *upgrading) start(d *Domain, program string) {
	u.agents[d.Name] = d.Host.startAsking(program, "-config", d.file())
}

func (u *upgrading) upgradeHub(o *Observer) {
	u.t.Helper()
	u.hub.Stop()
	u.startHub(programs.dominion)
	u.awaitHub()
	o.Until("the new hub is ready", func(v View) bool { return v.Ready() })
}

func (u *upgrading) upgradeAgent(d *Domain) {
	u.t.Helper()
	u.agents[d.Name].Stop()
	u.start(d, programs.domain)
}

// switches switches a service on and off, which the domains must obey.
func (u *upgrading) switches(when string) {
	u.t.Helper()
	for _, verb := range []string{"start", "stop"} {
		if r := u.Ctl(verb, "lamp", "--wait"); r.Code != 0 {
			u.t.Errorf("%s: %s lamp: %+v", when, verb, r)
		}
	}
}

// unsigned returns the names of the domains of which the hub says so.
func (u *upgrading) unsigned() (names []string) {
	u.t.Helper()
	for name, d := range u.domains() {
		if d.Unsigned {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// events returns the last events of some types.
func (u *upgrading) events(types ...topics.EventType) (some []topics.Event) {
	u.t.Helper()
	var all []topics.Event
	u.must(json.Unmarshal([]byte(u.control("events", "-n", "500", "--json").Stdout), &all))
	for _, e := range all {
		if slices.Contains(types, e.Type) {
			some = append(some, e)
		}
	}
	return some
}

// lives are the processes of the services that stay.
func (u *upgrading) lives() (lives []string) {
	for _, l := range u.Journal.Running(u.t) {
		if strings.Contains(l, "of-") {
			lives = append(lives, l)
		}
	}
	return lives
}

// A home of before there were keys is upgraded, the hub first or the agents first: services run
// on, orders work at each step, and in the end each domain has a key that was taken once, and
// obeys signed orders alone.
func TestUpgradeInAnyOrder(t *testing.T) {
	needsHistory(t)
	for _, hubFirst := range []bool{true, false} {
		name := map[bool]string{true: "hub first", false: "agents first"}[hubFirst]
		t.Run(name, func(t *testing.T) {
			onEachBroker(t, func(t *testing.T, home *Home) { upgradeInOrder(t, home, hubFirst) })
		})
	}
}

func upgradeInOrder(t *testing.T, home *Home, hubFirst bool) {
	kitchen, attic := home.Domain("kitchen"), home.Domain("attic")
	users, at := "", "hub = \"mqtts://"+home.brokerAddress()+":8883\"\n"
	kitchen.Configure(nil, at)
	attic.Configure(nil, at)
	if home.external == nil { // a user of its name, and one that is let in without
		password := filepath.Join(home.Hub.Dir, "password")
		home.must(os.WriteFile(password, []byte("a long password\n"), 0o600))
		users = fmt.Sprintf("[[broker.users]]\nname = \"kitchen\"\nrole = \"domain\"\npassword_file = %q\n", password)
		at = "hub = \"" + home.brokerAddress() + ":1883\"\n"
		kitchen.Configure(nil, at+fmt.Sprintf("user = \"kitchen\"\npassword_file = %q\n", password))
		attic.Configure(nil, at)
	}
	u, o := newUpgrading(t, home, users, kitchen, attic)
	lives := u.lives()
	same := func(when string) {
		t.Helper()
		if now := u.lives(); len(lives) != 2 || !slices.Equal(now, lives) {
			t.Errorf("%s: there run %v, before %v", when, now, lives)
		}
	}
	u.switches("before")

	if hubFirst {
		u.upgradeHub(o)
		for _, d := range []string{"kitchen", "attic"} {
			if v := home.awaitState(d, topics.DomainIsOnline); !v.Unsigned || !strings.Contains(v.Problem, "update the agent within 30 days") {
				t.Errorf("%s: %+v", d, v)
			}
		}
		if r := home.control("status"); !strings.Contains(r.Stdout, "attic: nothing between it and this hub is signed") {
			t.Errorf("status does not name who is unsigned: %s", r.Stdout)
		}
		same("after the upgrade of the hub")
		u.switches("with a new hub")
	}
	for _, d := range []*Domain{kitchen, attic} {
		mark := o.Now()
		u.upgradeAgent(d)
		o.Await(d.Name+" is back", mark, func(m Message) bool {
			return m.Topic == "dominion/domain/"+d.Name+"/status" && strings.Contains(m.Payload, `"version":"`+version+`"`)
		})
	}
	if !hubFirst {
		same("after the upgrade of the agents")
		u.switches("with new agents")
		u.upgradeHub(o)
	}
	for _, d := range []string{"kitchen", "attic"} {
		home.event(topics.DomainAdopted, d+" (")
	}
	eventually(t, "all are signed", func() bool {
		all := home.domains()
		return len(u.unsigned()) == 0 && all["kitchen"].State == topics.DomainIsOnline && all["attic"].State == topics.DomainIsOnline
	})
	same("in the end")
	u.switches("in the end")
	same("after that")
	for _, d := range []string{"kitchen", "attic"} {
		set := "dominion/domain/" + d + "/services/set"
		o.Until(d+" obeys a signed start command", func(v View) bool {
			return signed.IsSigned([]byte(v[set].Payload)) && v.Heartbeat(d).Generation == v.Command(d).Generation
		})
		home.event(topics.DomainProblem, `accept = "deploy"`)
		if v := home.domains()[d]; v.Accept != "environment" || !strings.HasPrefix(v.Platform, "linux/") {
			t.Errorf("%s accepts %q on %q", d, v.Accept, v.Platform)
		}
	}
	if all := u.events(topics.MessageRefused, topics.CommandRefused, topics.AdoptionRefused, topics.DomainRefused, topics.DomainLost); len(all) > 0 {
		t.Errorf("refused or lost on the way: %v", all)
	}
	mark, forged := o.Now(), o.Latest().Command("attic")
	forged.Generation, forged.Services, forged.Key = forged.Generation+1, map[string]topics.Spec{}, ""
	home.Publish("dominion/domain/attic/services/set", string(topics.Encode(forged)))
	o.Await("an order without a signature is refused", mark, func(m Message) bool {
		return m.Topic == "dominion/domain/attic/event" && strings.Contains(m.Payload, "is not signed")
	})
	for _, d := range []*Domain{kitchen, attic} { // no key is taken again
		u.upgradeAgent(d)
	}
	home.awaitState("attic", topics.DomainIsOnline)
	home.awaitState("kitchen", topics.DomainIsOnline)
	u.switches("after another start of the agents")
	same("after another start of the agents")
	if all := u.events(topics.DomainAdopted); len(all) != 2 {
		t.Errorf("there are %d adoptions: %v", len(all), all)
	}
}

// brokerAddress is where the broker is reached.
func (h *Home) brokerAddress() string {
	if h.external != nil {
		return h.external.host.Address()
	}
	return h.Hub.Address()
}

// Once keys are required, a domain that stays old is cut off, and its services run on there. Its
// agent of now shows a code, by which it is adopted.
func TestKeysAreRequired(t *testing.T) {
	needsHistory(t)
	home := onEmbedded(t)
	attic := home.Domain("attic")
	attic.Configure(nil, "hub = \""+home.brokerAddress()+":1883\"\n")
	u, o := newUpgrading(t, home, "", attic)
	lives := u.lives()
	u.upgradeHub(o)
	if v := home.awaitState("attic", topics.DomainIsOnline); !v.Unsigned {
		t.Errorf("%+v", v)
	}
	if r := home.observer.Exec(home.ctlEnvironment(), programs.dominionctl, "identity", "require"); r.Code != 1 || !strings.Contains(r.Stderr, "private") {
		t.Errorf("anybody requires keys: %+v", r)
	}
	if r := home.control("identity", "require"); r.Code != 0 {
		t.Fatalf("identity require: %+v", r)
	}
	home.event(topics.DomainRefused, "attic")
	u.agents["attic"].AwaitLog("must be adopted by its code")
	if v := home.awaitState("attic", topics.DomainIsRefused); !strings.Contains(v.Problem, "dominionctl adopt attic") {
		t.Errorf("%+v", v)
	}
	if now := u.lives(); !slices.Equal(now, lives) {
		t.Errorf("there run %v, before %v", now, lives)
	}
	u.upgradeAgent(attic)
	home.awaitWaiting("attic")
	if r := home.control("adopt", "attic", attic.code()); r.Code != 0 {
		t.Fatalf("adopt: %+v", r)
	}
	v := home.awaitState("attic", topics.DomainIsOnline)
	eventually(t, "it says what it accepts", func() bool { v = home.domains()["attic"]; return v.Accept == "deploy" })
	if v.Unsigned || v.Problem != "" {
		t.Errorf("%+v", v)
	}
	home.event(topics.DomainAdopted, "by code")
	if now := u.lives(); !slices.Equal(now, lives) {
		t.Errorf("in the end there run %v, before %v", now, lives)
	}
}
