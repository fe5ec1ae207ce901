package e2e

import (
	"strings"
	"testing"
)

// The harness must see what there is, and must not see what there is not.
func TestHarness(t *testing.T) {
	needs(t)
	t.Parallel()
	home := newHome(t, External)
	home.Publish("e2e/kept", `{"a": 1}`, "-r")
	o := home.Observe()
	if m := o.Latest()["e2e/kept"]; !m.Retain || m.QoS != 1 || m.Payload != `{"a": 1}` {
		t.Errorf("a retained message is observed as %v", m)
	}
	home.Publish("e2e/live", "x", "-r")
	if m := o.AwaitTopic(Mark{}, "e2e/live", "x"); m.Retain {
		t.Errorf("a live message is observed as a retained one: %v", m)
	}

	// a domain's host runs a service as an agent would, and is named
	kitchen := home.Domain("kitchen")
	kitchen.Install("web")
	kitchen.InstallShell("lamp")
	env := []string{"SERVICE_NAME=web", "DOMAIN_NAME=kitchen", "SERVICE_PORT=8080", "SERVICE_DATA_DIR=" + kitchen.Dir}
	kitchen.Host.Start("env", append(env, "make", "-C", kitchen.ServicesDir()+"/web")...)
	kitchen.Host.Start("env", append(env, "SERVICE_NAME=lamp", "make", "-C", kitchen.ServicesDir()+"/lamp")...)
	web, lamp := home.Journal.Await(t, 1, "start", "web"), home.Journal.Await(t, 1, "start", "lamp")
	if !alive(web.PID) || !alive(lamp.PID) {
		t.Errorf("the services of %v and %v do not live", web, lamp)
	}
	if name := kitchen.Exec(nil, "hostname").Stdout; strings.TrimSpace(name) != "kitchen" {
		t.Errorf("the host's name is %q", name)
	}
	url := "http://" + kitchen.Address() + ":8080/health"
	eventually(t, "web answers over the bridge", func() bool { _, err := home.observer.Get(url); return err == nil })
	kitchen.LinkDown()
	if _, err := home.observer.Get(url); err == nil {
		t.Error("web answers without a cable")
	}
	kitchen.LinkUp()
	eventually(t, "web answers again", func() bool { _, err := home.observer.Get(url); return err == nil })
	kitchen.SetAddress(77)
	eventually(t, "web answers at the new address", func() bool {
		_, err := home.observer.Get("http://" + kitchen.Address() + ":8080/health")
		return err == nil
	})
	kitchen.PowerCut()
	if pids := kitchen.Processes(); len(pids) != 0 || alive(web.PID) || alive(lamp.PID) {
		t.Errorf("after a power cut there run %v", pids)
	}
	if stops := home.Journal.Of(t, "stop", "web"); len(stops) != 0 {
		t.Errorf("a power cut gave the service time: %v", stops)
	}
}
