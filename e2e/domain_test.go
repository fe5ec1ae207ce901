package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// A cable that is put in after the start, at the domain or at the hub.
func TestInterfaceComesUpLate(t *testing.T) {
	home := onEmbedded(t)
	up := func(h *Host, on bool) {
		t.Helper()
		state := map[bool]string{true: "up", false: "down"}[on]
		h.must(command("ip", "-n", h.netns, "link", "set", "eth0", state))
		if on { // routes went with the interface
			h.SetAddress(h.address.Addr().As4()[3])
		}
	}
	kitchen, attic := home.Domain("kitchen"), home.Domain("attic")
	home.Configure("")
	up(home.Hub, false)
	up(kitchen.Host, false)
	attic.Start()
	kitchen.Start()
	home.StartHub().AwaitLog("listening")

	up(home.Hub, true)
	o := home.Observe()
	o.Until("attic joins when the hub's cable is in", func(v View) bool { return v.Online("attic") })
	if o.Latest().Online("kitchen") {
		t.Error("kitchen joined without a cable")
	}
	up(kitchen.Host, true)
	o.Until("kitchen joins when its cable is in", func(v View) bool {
		return v.Online("kitchen") && v.Domain("kitchen").Address == kitchen.Address()
	})
}

// The router gives a domain another address: its services run on and are
// offered at the new one.
func TestDomainChangesItsAddress(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		kitchen := home.Domain("kitchen")
		kitchen.Install("web")
		home.Configure(service("web", `priority = "required"`, healthHTTP))
		_, _, o := home.Up(kitchen)
		o.Until("web is healthy", func(v View) bool { return v.Healthy("web", 1) })
		before, starts := home.Lives(o)
		port := o.Latest().Endpoints("web")[0].Port

		kitchen.SetAddress(97)
		o.Until("web is offered at the new address", func(v View) bool {
			e := v.Endpoints("web")
			return v.Healthy("web", 1) && e[0].Address == kitchen.Address() && e[0].Port == port && v.Domain("kitchen").Address == kitchen.Address()
		})
		if _, err := home.observer.Get(endpointURL(o.Latest().Endpoints("web")[0]) + "/health"); err != nil {
			t.Errorf("the endpoint does not answer: %v", err)
		}
		awaitLiveHeartbeat(o, o.Now(), "kitchen")
		home.Journal.Undisturbed(t, "after the domain's address changed", before, starts)
	})
}

// A will that arrives late, of a connection that was replaced.
func TestLateWillDoesNoHarm(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		_, _, _, _, o := upWithServices(t, home)
		before, starts := home.Lives(o)
		for _, domain := range []string{"kitchen", "cellar"} {
			topic := "dominion/domain/" + domain + "/availability"
			mark := o.Now()
			home.Publish(topic, "offline", "-r")
			o.AwaitTopic(mark, topic, "offline")
			o.AwaitTopic(mark, topic, "online")
		}
		for range 4 { // longer than it takes to be lost
			awaitLiveHeartbeat(o, o.Now(), "kitchen")
		}
		o.Until("all is as it was", func(v View) bool {
			return v.Online("kitchen") && v.Online("cellar") && v.Healthy("web", 1) && v.Healthy("lamp", 1)
		})
		home.Journal.Undisturbed(t, "after late wills", before, starts)
	})
}

// Services of a careful owner run as a user who may do nothing.
func TestServicesRunAsAnotherUser(t *testing.T) {
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip("needs a user nobody")
	}
	home := onEmbedded(t)
	kitchen := home.Domain("kitchen")
	kitchen.Install("web")
	kitchen.InstallShell("lamp")
	kitchen.must(os.Chmod(home.Journal.file, 0o666))
	kitchen.Configure(nil, "run_as = \"nobody\"\n")
	home.Configure(service("web", `priority = "required"`, healthHTTP) + service("lamp", `priority = "required"`))
	_, agents, o := home.Up(kitchen)
	o.Until("both are healthy", func(v View) bool { return v.Healthy("web", 1) && v.Healthy("lamp", 1) })
	for _, e := range home.Journal.Entries(t) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", e.PID))
		if err != nil || !strings.Contains(string(status), fmt.Sprintf("Uid:\t%s\t%[1]s\t%[1]s\t%[1]s", nobody.Uid)) {
			t.Errorf("%s does not run as nobody: %v\n%s", e.Service, err, status)
		}
	}
	environment := askEnvironment(t, home, o.Latest().Endpoints("web")[0])
	if r := kitchen.Exec(nil, "setpriv", "--reuid", nobody.Uid, "--clear-groups", "touch", filepath.Join(environment["SERVICE_DATA_DIR"], "file")); r.Code != 0 {
		t.Errorf("a service may not write into its own data directory: %s", r.Stderr)
	}
	command := filepath.Join(kitchen.DataDir(), "command.json") // the environment of others is in it
	if _, err := os.Stat(command); err != nil {
		t.Errorf("the last start command is not on disk: %v", err)
	}
	if r := kitchen.Exec(nil, "setpriv", "--reuid", nobody.Uid, "--clear-groups", "cat", command); r.Code == 0 {
		t.Errorf("a service may read the agent's last start command")
	}

	t.Log("the next agent adopts and stops them")
	before, starts := home.Lives(o)
	agents[0].Kill()
	mark := o.Now()
	kitchen.Start()
	awaitRejoin(o, mark, "kitchen")
	home.Journal.Undisturbed(t, "after the agent restarted", before, starts)
	home.Publish("dominion/service/web/set", "OFF")
	home.Publish("dominion/service/lamp/set", "OFF")
	o.Until("both are stopped", func(v View) bool {
		return v.Service("web").State == topics.Stopped && v.Service("lamp").State == topics.Stopped
	})
	home.Journal.AwaitRunning(t)
}

// A service that talks without end fills no disk, and its last words are
// still there.
func TestLogsAreCapped(t *testing.T) {
	home := onEmbedded(t)
	kitchen := home.Domain("kitchen")
	kitchen.Write("loud", "Makefile", "run:\n\t@exec sh ./run.sh\n")
	kitchen.Write("loud", "run.sh", `i=0
while [ $i -lt 100 ]; do head -c 100000 /dev/zero | tr '\0' 'x' | fold -w 99; i=$((i+1)); sleep 0.03; done
echo; echo the last words; printf '\033[31mred\033[0m\n'
exec sleep 3600
`)
	home.Configure(service("loud", `priority = "required"`))
	_, _, o := home.Up(kitchen)
	o.Until("loud runs", func(v View) bool { return v.Healthy("loud", 1) })
	eventually(t, "dominionctl shows the last words", func() bool {
		return containsAll(home.Ctl("logs", "-n", "3", "loud").Stdout, []string{"the last words", "red"})
	})
	if r := home.Ctl("logs", "-n", "3", "loud"); strings.Contains(r.Stdout, "\x1b") || !strings.Contains(r.Stdout, "red") {
		t.Errorf("terminal escapes reach the terminal: %q", r.Stdout)
	}
	var size int64
	kitchen.must(filepath.WalkDir(kitchen.DataDir(), func(_ string, e fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil && !e.IsDir() {
			info, err = e.Info()
		}
		if err == nil && info != nil {
			size += info.Size()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the agent lives, and writes
		}
		return err
	}))
	if size > 3<<20 {
		t.Errorf("after 10 MB of output the agent keeps %d bytes, want about 2 MB", size)
	}
}

// A fixed port that somebody else has is a reason that people can read.
func TestTakenPort(t *testing.T) {
	home := onEmbedded(t)
	kitchen := home.Domain("kitchen")
	kitchen.Install("web")
	var taken net.Listener
	kitchen.must(kitchen.in(func() (err error) {
		taken, err = net.Listen("tcp", ":8080")
		return err
	}))
	defer taken.Close()
	// ten tries are a failure, and then there is none for minutes: they must not be over before the port is free
	home.Configure(service("web", `priority = "required"`, `port = 8080`, healthHTTP, `restart = { delay = "4s", max_delay = "4s" }`))
	_, _, o := home.Up(kitchen)
	o.Await("the status of web tells of the port", Mark{}, func(m Message) bool {
		return m.Topic == "dominion/domain/kitchen/status" && strings.Contains(View{m.Topic: m}.Instance("kitchen", "web").Message, "8080")
	})
	eventually(t, "why tells of the port", func() bool { return strings.Contains(home.Ctl("why", "web").Stdout, "8080") })
	taken.Close()
	o.Until("web is healthy when the port is free", func(v View) bool { return v.Healthy("web", 1) })
}
