package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// TestSecretIsSeenByItsProcessAlone: a service waits for its secret, gets it in its
// environment, is restarted by another value and not by a restart of hub or agent. The value
// is searched for on every topic, in traces, in the files and the output of all machines and in
// what dominionctl prints, and is in the environment of the process alone.
func TestSecretIsSeenByItsProcessAlone(t *testing.T) {
	needs(t)
	for name, broker := range map[string]Broker{"embedded": Embedded, "mosquitto": External} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			secretIsSeenByItsProcessAlone(t, newHome(t, broker))
		})
	}
}

func secretIsSeenByItsProcessAlone(t *testing.T, home *Home) {
	home.Configure("[identity]\nadoption = \"open\"\n" +
		service("web", `priority = "required"`, `environment = { MQTT_PASSWORD = "secret:mqtt-password" }`) +
		service("lamp", `priority = "required"`))
	kitchen := home.Domain("kitchen")
	rest := "adoption = \"open\"\n"
	if m := home.external; m != nil { // where its user is shown
		rest += fmt.Sprintf("hub = %q\n", "mqtts://"+m.host.Address()+":8883")
	}
	kitchen.Configure(nil, rest)
	kitchen.InstallShell("web")
	kitchen.InstallShell("lamp")
	hub, agents, o := home.Up(kitchen)
	started := []*Process{hub, agents[0]}
	everything := home.observer.Start("mosquitto_sub", append(home.clientArgs(), "-v", "-t", "#")...)
	started = append(started, everything)
	if home.Broker == Embedded {
		started = append(started, home.observer.Start("env", append(home.ctlEnvironment(), programs.dominionctl, "trace", "dominion/#")...))
	}
	everything.AwaitLog("hub/status")

	home.Journal.Await(t, 1, "start", "lamp")
	o.Until("web waits for its secret", func(v View) bool {
		return strings.Contains(v.Service("web").Reason, "`dominionctl secret set mqtt-password`")
	})
	values := []string{"first-" + rand.Text(), "second-" + rand.Text()}
	printed := home.setSecret(values[0])
	first := home.Journal.Await(t, 1, "start", "web")
	hasSecret(t, first.PID, values[0])
	o.Until("web runs", func(v View) bool { return v.Service("web").State == topics.Running })

	agents[0].Kill()
	started = append(started, kitchen.Start())
	hub.Stop()
	epoch := o.Latest().Command("kitchen").Epoch
	started = append(started, home.StartHub())
	if home.Broker == Embedded {
		o = home.Observe()
	}
	o.Until("web runs after restarts of agent and hub", func(v View) bool {
		return v.Ready() && v.Online("kitchen") && v.Command("kitchen").Epoch > epoch && v.Service("web").State == topics.Running &&
			v.Heartbeat("kitchen").Generation == v.Command("kitchen").Generation
	})
	if starts := home.Journal.Of(t, "start", "web"); len(starts) != 1 || !alive(first.PID) {
		t.Errorf("a restart of hub or agent restarted it: %v", starts)
	}

	printed += home.setSecret(values[1])
	second := home.Journal.Await(t, 2, "start", "web")
	hasSecret(t, second.PID, values[1])
	if starts := home.Journal.Of(t, "start", "lamp"); len(starts) != 1 {
		t.Errorf("a secret of web restarted lamp: %v", starts)
	}
	o.Until("web runs with the other value", func(v View) bool { return v.Service("web").State == topics.Running })

	for _, args := range [][]string{
		{"secret", "list"},
		{"secret", "list", "--json"},
		{"status", "--json"},
		{"describe", "web"},
		{"why", "web"},
		{"plan"},
		{"events", "--json"},
		{"logs", "web"},
	} {
		r := home.Ctl(args...)
		if r.Code != 0 {
			t.Errorf("%v: %+v", args, r)
		}
		printed += r.Stdout + r.Stderr
	}
	retained := home.observer.Exec(nil, "mosquitto_sub", append(home.clientArgs(), "-v", "-t", "#", "--retained-only", "-W", "3")...).Stdout
	if !strings.Contains(retained, `"secrets":{"mqtt-password":"`) {
		t.Error("no retained start command has the sealed secret: nothing was searched")
	}
	if !strings.Contains(printed, "mqtt-password") {
		t.Error("dominionctl printed nothing: nothing was searched")
	}
	if r := home.Ctl("forget", "kitchen"); r.Code != 0 || !strings.Contains(r.Stderr, "mqtt-password") {
		t.Errorf("%+v", r)
	} else {
		printed += r.Stdout + r.Stderr
	}
	for _, value := range values {
		for _, text := range []string{value, base64.StdEncoding.EncodeToString([]byte(value))[:16]} {
			noneShows(t, "dominionctl", printed, text)
			noneShows(t, "a retained message", retained, text)
			for _, p := range started {
				noneShows(t, p.Name, p.tail(1_000_000), text)
			}
			noFileShows(t, home.dir, text)
		}
	}
}

// setSecret sets the secret, and returns what was printed.
func (h *Home) setSecret(value string) string {
	h.t.Helper()
	file := filepath.Join(h.t.TempDir(), "value") // not among what is searched
	h.must(os.WriteFile(file, []byte(value+"\n"), 0o600))
	r := h.Hub.Exec([]string{"DOMINION_URL=unix:" + h.ControlSocket()}, "sh", "-c", fmt.Sprintf("%s secret set mqtt-password <%s", programs.dominionctl, file))
	if r.Code != 0 {
		h.t.Fatalf("secret set: %+v", r)
	}
	return r.Stdout + r.Stderr
}

// hasSecret fails unless a process has the value in its environment.
func hasSecret(t *testing.T, pid int, value string) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil || !strings.Contains("\x00"+string(b), "\x00MQTT_PASSWORD="+value+"\x00") {
		t.Errorf("the process %d has no secret: %v", pid, err)
	}
}

func noneShows(t *testing.T, what, text, value string) {
	t.Helper()
	if at := strings.Index(text, value); at >= 0 {
		t.Errorf("%s shows the secret: …%.200s", what, text[max(0, at-100):])
	}
}

// noFileShows fails for each file in a directory that has the value.
func noFileShows(t *testing.T, dir, value string) {
	t.Helper()
	searched := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // it may be gone
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		searched++
		if bytes.Contains(b, []byte(value)) {
			t.Errorf("%s shows the secret", path)
		}
		return nil
	})
	if err != nil || searched < 10 {
		t.Errorf("%d files of %s were searched: %v", searched, dir, err)
	}
}
