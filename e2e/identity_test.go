package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/jmbarzee/dominion/topics"
)

// identityHome is a home whose domains log in as users of the role domain, with
// an exclusive service; whoever has no user is let in too, so that observers see.
type identityHome struct {
	*exclusiveHome
	passwords string // directory
}

func newIdentityHome(t *testing.T, users ...string) *identityHome {
	home := onEmbedded(t)
	x := &identityHome{&exclusiveHome{
		Home: home, t: t, domains: make(map[string]*Domain), agents: make(map[string]*Process),
		meetings: filepath.Join(home.dir, "meetings"), beginning: filepath.Join(home.dir, "beginnings"),
	}, home.dir}
	var accounts strings.Builder
	for _, name := range users {
		home.must(writeFile(x.passwordFile(name), "secret of "+name+"\n"))
		hash, err := bcrypt.GenerateFromPassword([]byte("secret of "+name), bcrypt.MinCost)
		home.must(err)
		fmt.Fprintf(&accounts, "[[broker.users]]\nname = %q\nrole = \"domain\"\npassword_hash = %q\n", name, hash)
	}
	home.Configure(accounts.String() + exclusiveTiming + service("boiler", `priority = "required"`, `exclusive = true`) + service("lamp", `priority = "required"`))
	return x
}

func (x *identityHome) passwordFile(user string) string {
	return filepath.Join(x.passwords, user+".password")
}

// member adds a machine with the services of the home. user "": it has none.
func (x *identityHome) member(name, user string) *Domain {
	d := x.Domain(name)
	x.settings(d, name, user)
	d.installBoiler(x.meetings)
	d.Install("lamp")
	return d
}

// settings writes a domain.toml with a name that need not be the host's.
func (x *identityHome) settings(d *Domain, name, user string) {
	text := fmt.Sprintf("name = %q\nservices_dir = %q\ndata_dir = %q\n", name, d.ServicesDir(), d.DataDir())
	if user != "" {
		text += fmt.Sprintf("hub = %q\nuser = %q\npassword_file = %q\n", x.Hub.Address()+":1883", user, x.passwordFile(user))
	}
	x.must(os.WriteFile(d.file(), []byte(text), 0o644))
}

// startAlone starts the agent where it sees no process of other machines, which
// are told apart by the id of their domain: a copied one has the same.
func (d *Domain) startAlone() *Process {
	d.t.Helper()
	return d.Host.Start("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c",
		`mount -t tmpfs none /sys/fs/cgroup && exec "$0" "$@"`, programs.domain, "-config", d.file())
}

// stopAlone stops it: unshare passes no signal on.
func (d *Domain) stopAlone(p *Process) {
	d.t.Helper()
	for _, pid := range d.Processes() {
		if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.HasPrefix(string(b), programs.domain+"\x00-config") {
			d.must(syscall.Kill(pid, syscall.SIGTERM))
		}
	}
	if code := p.Wait(); code != 0 {
		d.t.Errorf("exit code %d after SIGTERM", code)
	}
}

// forge publishes as a user does who has its password and mosquitto_pub.
func (x *identityHome) forge(user, topic string, payload any, args ...string) Result {
	b, err := json.Marshal(payload)
	x.must(err)
	return x.observer.Exec(nil, "mosquitto_pub", append([]string{"-h", x.Hub.Address(), "-u", user, "-P", "secret of " + user, "-t", topic, "-m", string(b)}, args...)...)
}

// untouched fails if anything was published since a mark that says that a domain
// was away.
func (x *identityHome) untouched(o *Observer, since Mark, domain string) {
	x.t.Helper()
	for _, m := range o.Since(since) {
		if m.Topic == "dominion/domain/"+domain+"/availability" {
			x.t.Errorf("%s was disturbed: %v", domain, m)
		}
	}
}

// What the password of one domain's user is good for against the others: its own
// topics and requests, and neither another's id, nor its client identifiers, nor
// numbers that lock it out.
func TestAUserOfOneDomainHarmsNoOther(t *testing.T) {
	x := newIdentityHome(t, "kitchen", "mallory")
	kitchen := x.member("kitchen", "kitchen")
	_, _, o := x.Up(kitchen)
	eventually(t, "boiler has begun", func() bool { return len(x.beginnings()) == 1 })
	pid := 0
	_, err := fmt.Sscan(x.beginnings()[0][2], &pid)
	x.must(err)
	o.Until("all is healthy", func(v View) bool { return v.Healthy("boiler", 1) && v.Healthy("lamp", 1) })
	beat := o.Latest().Heartbeat("kitchen")
	mark := o.Now()

	t.Log("by its own name with the other's id")
	const own = "dominion/domain/mallory/"
	x.forge("mallory", "dominion/request/join", topics.HubRequest{Transaction: "1", ID: beat.ID, Name: "mallory", Session: "m"})
	refused := o.AwaitEvent(mark, "dominion/hub/event", topics.DomainRefused, "mallory", "")
	if !containsAny(refused.Message, "domain reset", "must show its certificate") || !strings.Contains(refused.Message, "kitchen") {
		t.Errorf("the event does not say whose the id is, and what to do: %q", refused.Message)
	}
	for n := range uint64(3) {
		session := fmt.Sprint("m", n)
		x.forge("mallory", own+"availability", "online")
		x.forge("mallory", own+"status", topics.Domain{ID: beat.ID, Name: "mallory", Session: session, Seq: 1, Protocol: topics.Protocol})
		x.forge("mallory", own+"heartbeat", topics.Heartbeat{ID: beat.ID, Session: session, Seq: 1, Status: 1, Epoch: beat.Epoch, Generation: beat.Generation + 1, Run: beat.Run, Lease: 4_000_000_000})
	}

	t.Log("by the client identifiers of its agent")
	for _, id := range []string{"domain-" + beat.ID, "domain-" + beat.ID + "-join"} {
		if r := x.forge("mallory", "dominion/request/status", topics.HubRequest{}, "-i", id); r.Code == 0 {
			t.Errorf("mallory is let in as %s", id)
		}
		if r := x.forge("kitchen", "dominion/request/status", topics.HubRequest{}, "-i", "domain-"+beat.ID+"-join"); r.Code != 0 {
			t.Errorf("kitchen is not let in by its own client identifier: %s", r.Stderr)
		}
	}

	t.Log("by epochs and generations, each within a jump that agents obey")
	hub, _ := look[topics.Hub](o.Latest(), "dominion/hub/status")
	x.forge("mallory", "dominion/request/join", topics.HubRequest{Transaction: "2", ID: topics.NewID(), Name: "mallory", Session: "own"})
	id := topics.NewID()
	for _, step := range []uint64{999_000, 90_000} {
		epoch := hub.Epoch
		for n := range uint64(12) {
			epoch += step
			x.forge("mallory", own+"heartbeat", topics.Heartbeat{ID: id, Session: "own", Seq: n + 1, Epoch: epoch, Generation: 1})
		}
	}
	x.stays(9*time.Second, pid) // longer than two leases
	x.untouched(o, mark, "kitchen")
	if r := x.Ctl("stop", "lamp", "--wait"); r.Code != 0 {
		t.Errorf("the home is locked out: %s%s", r.Stdout, r.Stderr)
	}
	now, _ := look[topics.Hub](o.Latest(), "dominion/hub/status")
	if now.Epoch-hub.Epoch > 100_000 {
		t.Errorf("the epoch went from %d to %d", hub.Epoch, now.Epoch)
	}

	t.Log("who may not ask for a resync, and who may")
	x.forge("mallory", "dominion/request/resync", topics.HubRequest{Transaction: "3", Domain: "kitchen"})
	x.stays(2*time.Second, pid)
	x.untouched(o, mark, "kitchen")
	if r := x.Ctl("resync", "kitchen"); r.Code != 0 {
		t.Errorf("resync: %s%s", r.Stdout, r.Stderr)
	}
	if r := x.Ctl("start", "lamp", "--wait"); r.Code != 0 {
		t.Errorf("after resync: %s%s", r.Stdout, r.Stderr)
	}
	x.stays(5*time.Second, pid)
}

// joinedBefore makes a domain one that had joined the home before there were keys: it
// goes on without one.
func (x *identityHome) joinedBefore(d *Domain) {
	x.t.Helper()
	o := x.Observe()
	o.Until("the hub is there", func(v View) bool { h, _ := look[topics.Hub](v, "dominion/hub/status"); return h.ID != "" })
	hub, _ := look[topics.Hub](o.Latest(), "dominion/hub/status")
	x.must(os.MkdirAll(d.DataDir(), 0o755))
	x.must(os.WriteFile(filepath.Join(d.DataDir(), "memory.json"), fmt.Appendf(nil, `{"dominion": {"id": %q, "name": "home"}}`, hub.ID), 0o600))
}

// A domain without a key that obeys an epoch which its hub cannot reach is brought back by
// resync, and nothing that runs is touched. One that has a key obeys no such epoch.
func TestResyncBringsADomainBack(t *testing.T) {
	x := newIdentityHome(t, "kitchen")
	kitchen := x.member("kitchen", "kitchen")
	x.StartHub()
	x.joinedBefore(kitchen)
	kitchen.Start()
	o := x.Observe()
	o.Until("all is healthy", func(v View) bool { return v.Healthy("boiler", 1) && v.Healthy("lamp", 1) })
	pid := 0
	_, err := fmt.Sscan(x.beginnings()[0][2], &pid)
	x.must(err)

	t.Log("somebody who may do everything publishes a start command with an epoch far ahead")
	c := decode[topics.StartCommand](t, o.Latest()["dominion/domain/kitchen/services/set"])
	if c.Key != "" {
		t.Fatal("kitchen has a key")
	}
	c.Epoch += 900_000
	mark := o.Now()
	x.Publish("dominion/domain/kitchen/services/set", string(topics.Encode(c)), "-r")
	o.Await("kitchen obeys it", mark, func(m Message) bool {
		return m.Topic == "dominion/domain/kitchen/heartbeat" && decode[topics.Heartbeat](t, m).Epoch == c.Epoch
	})
	x.Ctl("stop", "lamp")
	o.Await("the hub says what to do", mark, func(m Message) bool {
		return m.Topic == "dominion/hub/event" && strings.Contains(m.Payload, "dominionctl resync kitchen")
	})
	if r := x.Ctl("resync", "kitchen"); r.Code != 0 {
		t.Fatalf("resync: %s%s", r.Stdout, r.Stderr)
	}
	o.Until("lamp is off", func(v View) bool { return v.Service("lamp").State == topics.Stopped })
	x.stays(5*time.Second, pid)
}

// One card in two machines, the copy renamed or not: the copy is refused and both
// sides say what to do; the first never notices. After `domain reset` it is a
// machine of its own.
func TestACopiedCard(t *testing.T) {
	for _, name := range []string{"kitchen", "attic"} {
		t.Run(name, func(t *testing.T) {
			x := newIdentityHome(t)
			kitchen := x.member("kitchen", "")
			_, agents, o := x.Up(kitchen)
			o.Until("all is healthy", func(v View) bool { return v.Healthy("boiler", 1) && v.Healthy("lamp", 1) })
			pid := 0
			_, err := fmt.Sscan(x.beginnings()[0][2], &pid)
			x.must(err)
			id := o.Latest().Heartbeat("kitchen").ID

			mark := o.Now()
			twin := x.member("twin", "")
			x.must(command("cp", "-a", kitchen.DataDir(), twin.DataDir()))
			x.must(os.RemoveAll(filepath.Join(twin.DataDir(), "instances"))) // of another boot, on another machine
			x.settings(twin, name, "")
			other := twin.startAlone()
			other.AwaitLog("runs as kitchen already", "domain reset")
			refused := o.AwaitEvent(mark, "dominion/hub/event", topics.DomainRefused, name, "")
			if !strings.Contains(refused.Message, "domain reset") {
				t.Errorf("the event does not say what to do: %q", refused.Message)
			}
			if r := x.Ctl("status"); !strings.Contains(r.Stdout, "domain reset") {
				t.Errorf("dominionctl status does not say what to do:\n%s", r.Stdout)
			}
			x.stays(9*time.Second, pid) // longer than two leases
			x.untouched(o, mark, "kitchen")

			t.Log("the first begins anew: the copy does not take its place")
			agents[0].Stop()
			mark = o.Now()
			kitchen.Start()
			awaitLiveHeartbeat(o, mark, "kitchen")
			for range 5 {
				awaitLiveHeartbeat(o, o.Now(), "kitchen")
			}
			if b := o.Latest().Heartbeat("kitchen"); b.ID != id {
				t.Errorf("kitchen is %s, was %s", b.ID, id)
			}

			t.Log("the copy is reset")
			if r := twin.Exec(nil, programs.domain, "-config", twin.file(), "reset", "--yes"); r.Code == 0 {
				t.Error("it is reset while its agent runs")
			}
			twin.stopAlone(other)
			if r := twin.Exec(nil, programs.domain, "-config", twin.file(), "reset"); r.Code == 0 {
				t.Error("it is reset although nobody said yes")
			}
			if r := twin.Exec(nil, programs.domain, "-config", twin.file(), "reset", "--yes"); r.Code != 0 {
				t.Fatalf("reset: %s%s", r.Stdout, r.Stderr)
			}
			if left := twin.Processes(); len(left) != 0 {
				t.Errorf("processes %v outlive the reset", left)
			}
			for _, stays := range []string{twin.ServicesDir() + "/lamp/Makefile", twin.DataDir() + "/logs"} {
				if _, err := os.Stat(stays); err != nil {
					t.Errorf("gone with the reset: %v", err)
				}
			}
			x.settings(twin, "attic", "")
			twin.Start()
			o.Until("it is a machine of its own", func(v View) bool { return v.Online("attic") && v.Online("kitchen") && v.Heartbeat("attic").ID != id })
		})
	}
}

// domain reset stops what the dominion started, with no agent and no hub there.
func TestResetStopsWhatTheDominionStarted(t *testing.T) {
	home := onEmbedded(t)
	kitchen := home.Domain("kitchen")
	kitchen.InstallShell("lamp")
	home.Configure(service("lamp", `priority = "required"`))
	_, agents, o := home.Up(kitchen)
	home.Journal.AwaitRunning(t, "lamp@kitchen")
	id := o.Latest().Heartbeat("kitchen").ID
	agents[0].Stop()
	if r := kitchen.Exec(nil, programs.domain, "-config", kitchen.file(), "reset", "--yes"); r.Code != 0 {
		t.Fatalf("reset: %s%s", r.Stdout, r.Stderr)
	}
	if left := kitchen.Processes(); len(left) != 0 || len(home.Journal.Of(t, "stop", "lamp")) != 1 {
		t.Errorf("processes %v outlive the reset, or were not told", left)
	}
	if r := home.Ctl("forget", "kitchen"); r.Code != 0 { // the name belongs to the key of before
		t.Fatalf("forget: %s%s", r.Stdout, r.Stderr)
	}
	mark := o.Now()
	kitchen.Start()
	o.Await("it joins as a new machine of its name", mark, func(m Message) bool {
		return m.Topic == "dominion/domain/kitchen/heartbeat" && len(m.Payload) > 0 && decode[topics.Heartbeat](t, m).ID != id
	})
}

// A machine that is given another name is one machine: nothing is started anew,
// and nothing of the former name is left.
func TestARenamedMachine(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		kitchen := home.Domain("kitchen")
		kitchen.Install("web")
		cellar := home.Domain("cellar")
		cellar.Install("web")
		home.Configure(service("web", `priority = "required"`, `replicas = 1`, `domains = ["kitchen", "pantry", "cellar"]`))
		_, agents, o := home.Up(kitchen, cellar)
		o.Until("web is healthy", func(v View) bool { return v.Healthy("web", 1) })
		from, agent := kitchen, agents[0]
		if o.Latest().Service("web").Instances[0].Domain == "cellar" {
			from, agent = cellar, agents[1]
		}
		before := home.Journal.AwaitRunning(t, "web@"+from.Name)
		starts := home.Journal.Starts(t)

		agent.Stop()
		text, err := os.ReadFile(from.file())
		home.must(err)
		home.must(os.WriteFile(from.file(), []byte(strings.Replace(string(text), `"`+from.Name+`"`, `"pantry"`, 1)), 0o644))
		mark := o.Now()
		from.Start()
		o.AwaitEvent(mark, "dominion/hub/event", topics.DomainRenamed, "pantry", "")
		o.Until("web is healthy on pantry", func(v View) bool {
			return v.Healthy("web", 1) && v.Service("web").Instances[0].Domain == "pantry"
		})
		o.Until("nothing of the former name is left", func(v View) bool {
			for _, topic := range topics.NewTree("").DomainTopics(from.Name) {
				if v[topic].Payload != "" {
					return false
				}
			}
			return true
		})
		for range 4 {
			awaitLiveHeartbeat(o, o.Now(), "pantry")
		}
		home.Journal.Undisturbed(t, "after the machine was renamed", before, starts)
		var domains []topics.DomainView
		home.must(oneDocument(home.Ctl("domains", "--json").Stdout, &domains))
		if len(domains) != 2 {
			t.Errorf("domains: %+v", domains)
		}
	})
}
