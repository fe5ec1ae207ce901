package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/jmbarzee/dominion/topics"
)

// disk puts a small disk of its own under a directory.
func (h *Host) disk(dir string, size string) {
	h.t.Helper()
	h.must(os.MkdirAll(dir, 0o755))
	h.must(unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size+",mode=755"))
	h.t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// fill writes a file until not a byte is left; it returns what empties it.
func (h *Host) fill(dir string) (empty func()) {
	h.t.Helper()
	name := filepath.Join(dir, "holiday-photos")
	f, err := os.Create(name)
	h.must(err)
	defer f.Close()
	for _, n := range []int{64 << 10, 4 << 10, 1} {
		for {
			if _, err := f.Write(make([]byte, n)); err != nil {
				break
			}
		}
	}
	return func() { h.must(os.Remove(name)) }
}

// A full disk stops no service, and the agent goes on with what it can.
func TestFullDiskOfADomain(t *testing.T) {
	home := onEmbedded(t)
	kitchen := home.Domain("kitchen")
	kitchen.disk(kitchen.DataDir(), "4m")
	kitchen.Install("web", "lamp")
	home.Configure(service("web", `priority = "required"`, healthHTTP, `restart = { delay = "100ms" }`) + service("lamp", `priority = "required"`))
	_, agents, o := home.Up(kitchen)
	o.Until("both are healthy", func(v View) bool { return v.Healthy("web", 1) && v.Healthy("lamp", 1) })
	before, starts := home.Lives(o)

	empty := kitchen.fill(kitchen.DataDir())
	e := o.Latest().Endpoints("web")[0]
	for range 100 { // into its log, which has no room
		if err := home.say(e, "a line of a service that talks a lot"); err != nil {
			t.Fatalf("web does not answer on a full disk: %v", err)
		}
	}
	awaitLiveHeartbeat(o, o.Now(), "kitchen")
	home.Journal.Undisturbed(t, "on a full disk", before, starts)

	t.Log("a crash is still repaired")
	kill(t, home.Journal.Of(t, "start", "web")[0].PID)
	home.Journal.Await(t, 2, "start", "web")
	o.Until("web is healthy", func(v View) bool { return v.Healthy("web", 1) && v.Instance("kitchen", "web").Restarts == 1 })

	t.Log("and an order still obeyed")
	home.Publish("dominion/service/lamp/set", "OFF")
	o.Until("lamp is off", func(v View) bool { return v.Service("lamp").State == topics.Stopped })
	home.Publish("dominion/service/lamp/set", "ON")
	o.Until("lamp is on", func(v View) bool { return v.Healthy("lamp", 1) })
	if agents[0].Ended() {
		t.Error("the agent ended")
	}

	t.Log("room again: an agent that restarts now adopts all of it")
	empty()
	home.Publish("dominion/service/web/set", "RESTART")
	home.Journal.Await(t, 3, "start", "web")
	o.Until("web is healthy", func(v View) bool { return v.Healthy("web", 1) })
	before, starts = home.Lives(o)
	agents[0].Kill()
	mark := o.Now()
	kitchen.Start()
	awaitRejoin(o, mark, "kitchen")
	o.Until("both are healthy", func(v View) bool { return v.Healthy("web", 1) && v.Healthy("lamp", 1) })
	home.Journal.Undisturbed(t, "after the agent restarted", before, starts)
}

// An agent that is killed while its disk is full comes back all the same, and
// knows also what was started when nothing could be written down.
func TestAgentRestartsOnAFullDisk(t *testing.T) {
	home := onEmbedded(t)
	kitchen := home.Domain("kitchen")
	kitchen.disk(kitchen.DataDir(), "4m")
	kitchen.Install("web", "lamp")
	home.Configure(service("web", `priority = "required"`) + service("lamp", `priority = "required"`))
	_, agents, o := home.Up(kitchen)
	o.Until("both are healthy", func(v View) bool { return v.Healthy("web", 1) && v.Healthy("lamp", 1) })
	kitchen.fill(kitchen.DataDir())
	home.Publish("dominion/service/lamp/set", "OFF")
	o.Until("lamp is off", func(v View) bool { return v.Service("lamp").State == topics.Stopped })
	home.Publish("dominion/service/lamp/set", "ON")
	o.Until("lamp is on", func(v View) bool { return v.Healthy("lamp", 1) })
	before, starts := home.Lives(o)

	agents[0].Kill()
	mark := o.Now()
	agent := kitchen.Start()
	awaitRejoin(o, mark, "kitchen")
	o.Until("both are healthy", func(v View) bool {
		return v.Online("kitchen") && v.Healthy("web", 1) && v.Healthy("lamp", 1) && v.Instance("kitchen", "lamp").PID != 0
	})
	awaitLiveHeartbeat(o, o.Now(), "kitchen")
	home.Journal.Undisturbed(t, "after the agent restarted on a full disk", before, starts)
	home.Publish("dominion/service/lamp/set", "OFF")
	o.Until("lamp is off", func(v View) bool { return v.Service("lamp").State == topics.Stopped })
	home.Journal.AwaitRunning(t, "web@kitchen")
	agent.Stop()
}

// A full disk of the hub: the house goes on.
func TestFullDiskOfTheHub(t *testing.T) {
	home := onEmbedded(t)
	kitchen := home.Domain("kitchen")
	home.Hub.disk(filepath.Join(home.Hub.Dir, "data"), "4m")
	kitchen.Install("web", "lamp")
	home.Configure(service("web", `priority = "required"`) + service("lamp", `priority = "required"`))
	hub, _, o := home.Up(kitchen)
	o.Until("both are healthy", func(v View) bool { return v.Healthy("web", 1) && v.Healthy("lamp", 1) })
	home.Hub.fill(filepath.Join(home.Hub.Dir, "data"))
	home.Publish("dominion/service/lamp/set", "OFF")
	o.Until("lamp is off", func(v View) bool { return v.Service("lamp").State == topics.Stopped })
	awaitLiveHeartbeat(o, o.Now(), "kitchen")
	if hub.Ended() || !o.Latest().Healthy("web", 1) {
		t.Error("the hub ended, or web did")
	}
}

// A full disk of the hub does not refuse what would not be written to it, and
// is reported once although some of what is published has room and some has not.
func TestFullDiskAndWhatIsNotPersisted(t *testing.T) {
	home := onEmbedded(t)
	data := filepath.Join(home.Hub.Dir, "data")
	home.Hub.disk(data, "12m")
	home.Configure("[broker.persistence]\nexclude = [\"camera/#\"]\n")
	hub, _, o := home.Up()
	publish := func(topic string, payload string) bool {
		r := home.observer.Exec(nil, "mosquitto_pub", append(home.clientArgs(), "-V", "mqttv5", "-q", "1", "-r", "-t", topic, "-m", payload)...)
		return r.Code == 0 && !strings.Contains(r.Stderr, "failed")
	}
	large := strings.Repeat("x", 100_000)
	if !publish("written/first", large) {
		t.Fatal("refused with an empty disk")
	}
	empty := home.Hub.fill(data)
	refused := 0
	for i := range 30 {
		if !publish(fmt.Sprintf("written/%d", i), large) {
			refused++
		}
		publish("written/small", "x")
		if refused == 5 {
			break
		}
	}
	if refused < 5 {
		t.Fatalf("%d large messages were refused on a full disk", refused)
	}
	for i := range 3 {
		if !publish("camera/a", fmt.Sprint("hi ", i)) {
			t.Error("camera/a is refused on a full disk, although it is not written")
		}
	}
	o.AwaitTopic(Mark{}, "camera/a", "hi 2")
	empty()
	hub.AwaitLog("accepts everything again")
	if !publish("written/last", large) {
		t.Error("refused with room again")
	}
	lines, _ := hub.log.from(0)
	log := strings.Join(lines, "\n")
	if full, again := strings.Count(log, "disk is full"), strings.Count(log, "accepts everything again"); full != 1 || again != 1 {
		t.Errorf("the log says %d times that the disk is full and %d times that it accepts everything again, want 1 and 1:\n%s", full, again, log)
	}
}

// A file that a power cut broke is set aside, not fatal. A hub that has lost hub.json knows its
// dominion and its domains by what is beside its keys.
func TestBrokenFiles(t *testing.T) {
	home := onEmbedded(t)
	kitchen := home.Domain("kitchen")
	kitchen.Install("web")
	home.Configure(service("web", `priority = "required"`))
	hub, agents, o := home.Up(kitchen)
	o.Until("web is healthy", func(v View) bool { return v.Healthy("web", 1) })
	hub.Stop()
	agents[0].Stop()
	for _, dir := range []string{kitchen.DataDir(), filepath.Join(home.Hub.Dir, "data")} {
		entries, err := os.ReadDir(dir)
		home.must(err)
		broken := 0
		for _, e := range entries {
			if e.Type().IsRegular() {
				home.must(os.WriteFile(filepath.Join(dir, e.Name()), []byte{0, 0, 0, 0}, 0o600))
				broken++
			}
		}
		if broken == 0 {
			t.Errorf("%s holds no file to break: %v", dir, entries)
		}
	}
	home.StartHub()
	kitchen.Start()
	o = home.Observe()
	o.Until("hub, kitchen and web are back", func(v View) bool { return v.Ready() && v.Online("kitchen") && v.Healthy("web", 1) })
	if webs := running(home.Journal.Running(t), "web"); len(webs) != 1 {
		t.Errorf("there run %q, want one web", webs)
	}
}
