package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/agent/link"
	"github.com/jmbarzee/dominion/topics"
)

func TestJoinsAndBeats(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		a := h.agent(t.TempDir())
		time.Sleep(100 * time.Millisecond)
		if got := u.of(topics.DomainAvailability); !slices.Equal(got, []string{"online"}) {
			t.Errorf("availability %q", got)
		}
		s := last[topics.Domain](u, topics.DomainStatus)
		if s.ID != a.id() || s.Name != "pi" || s.Version != "1.0.0" || s.Protocol != topics.Protocol ||
			s.Address != "192.0.2.7" || !slices.Equal(s.Traits, []string{"compute"}) || len(s.Catalog) != 2 || s.Draining {
			t.Errorf("status %+v", s)
		}
		if raw := u.of(topics.DomainStatus)[0]; !strings.Contains(raw, `"services":[]`) {
			t.Errorf("no services must be [] on the wire: %s", raw)
		}
		if m := last[topics.Metrics](u, topics.DomainMetrics); m.Load1 != 0.5 {
			t.Errorf("metrics %+v", m)
		}
		time.Sleep(10 * time.Second)
		beats := u.of(topics.DomainHeartbeat)
		if len(beats) != 11 {
			t.Errorf("%d heartbeats in 10 s: %q", len(beats), beats)
		}
		b := last[topics.Heartbeat](u, topics.DomainHeartbeat)
		if b.ID != a.id() || b.Seq != 11 || b.Session == "" || b.Epoch != 0 {
			t.Errorf("heartbeat %+v", b)
		}
		// A hub that has another status does not take the domain for online.
		if b.Status == 0 || b.Status != s.Seq || b.Session != s.Session {
			t.Errorf("the heartbeat speaks of status %d of %s, the last was %d of %s", b.Status, b.Session, s.Seq, s.Session)
		}
		if n := len(u.of(topics.DomainStatus)); n != 1 {
			t.Errorf("%d times the same status", n)
		}
		time.Sleep(50 * time.Second)
		if n := len(u.of(topics.DomainMetrics)); n != 3 { // at 0, 30 and 60 s
			t.Errorf("%d metrics in a minute", n)
		}
	})
}

// The first connection has no will and the second has: a broken one says
// offline, and the agent is back with all of its state.
func TestWillAndReturn(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		h.agent(t.TempDir())
		time.Sleep(time.Minute)
		u.forget()
		h.cut()
		time.Sleep(300 * time.Millisecond)
		// it is back in no time: the will may be late, and is contradicted then
		if got := u.of(topics.DomainAvailability); !slices.Contains(got, "offline") || got[len(got)-1] != "online" {
			t.Errorf("availability %q", got)
		}
		if len(u.of(topics.DomainStatus)) != 1 || len(u.of(topics.DomainHeartbeat)) == 0 || len(u.of(topics.DomainMetrics)) != 1 {
			t.Error("status, heartbeat and metrics must be said anew")
		}
	})
}

func TestStopPublishesOffline(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		a := h.agent(t.TempDir())
		time.Sleep(time.Second)
		u.domain(topics.DomainServicesSet, a.command("d1", 5, 1, "web"))
		time.Sleep(5 * time.Second)
		a.stop()
		if got := u.of(topics.DomainAvailability); !slices.Equal(got, []string{"online", "offline"}) {
			t.Errorf("availability %q", got)
		}
		if n := a.runner.living(); n != 1 {
			t.Errorf("%d services live on, want 1", n)
		}
	})
}

func TestStopServicesOnExit(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		a := h.agent(t.TempDir(), func(o *Options) { o.Config.StopServicesOnExit = true })
		time.Sleep(time.Second)
		u.domain(topics.DomainServicesSet, a.command("d1", 5, 1, "web", "lamp"))
		time.Sleep(5 * time.Second)
		a.stop()
		if n := a.runner.living(); n != 0 {
			t.Errorf("%d services are left", n)
		}
		if got := u.of(topics.DomainAvailability); got[len(got)-1] != "offline" {
			t.Errorf("availability %q", got)
		}
	})
}

// The hub may still give orders while the services of an agent that ends stop.
func TestNothingIsStartedWhileStopping(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		a := h.agent(t.TempDir(), func(o *Options) { o.Config.StopServicesOnExit = true })
		time.Sleep(time.Second)
		u.domain(topics.DomainServicesSet, a.command("d1", 5, 1, "web"))
		time.Sleep(5 * time.Second)
		a.runner.mu.Lock()
		a.runner.stubborn = true
		a.runner.mu.Unlock()
		time.AfterFunc(time.Second, func() {
			u.domain(topics.DomainServicesSet, a.command("d1", 5, 2, "web", "lamp"))
		})
		a.stop()
		if got := a.runner.starts(); got != "web" || a.runner.living() != 0 {
			t.Errorf("started %q, %d left", got, a.runner.living())
		}
	})
}

func TestRefusedJoin(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		grant := u.answer
		asked := 0
		u.answer = func(a topics.HubRequest) (topics.Reply, bool) {
			if asked++; asked > 10 {
				return grant(a)
			}
			return topics.Refuse(a.Transaction, fmt.Errorf("the name %q is another machine's, at 192.0.2.9", a.Name)), true
		}
		h.agent(t.TempDir())
		time.Sleep(20 * time.Second)
		u.mu.Lock()
		if asked < 4 || asked > 11 {
			t.Errorf("asked %d times in 20 s, want each 2 to 5 s", asked)
		}
		for _, m := range u.received {
			if strings.Contains(m.Topic, "/domain/pi/") {
				t.Errorf("a refused agent published %s %s", m.Topic, m.Payload)
			}
		}
		u.mu.Unlock()
		if n := h.log.count("another machine's, at 192.0.2.9"); n != 1 {
			t.Errorf("the log says %d times why", n)
		}
		time.Sleep(40 * time.Second)
		if len(u.of(topics.DomainHeartbeat)) == 0 {
			t.Error("it did not join when it was let in")
		}
	})
}

// A broker without a hub behind it gives no answer; the hub that comes up is
// joined at once.
func TestWaitsForTheHub(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		grant := u.answer
		u.answer = func(topics.HubRequest) (topics.Reply, bool) { return topics.Reply{}, false }
		h.agent(t.TempDir())
		time.Sleep(30 * time.Second)
		if len(u.of(topics.DomainHeartbeat)) != 0 {
			t.Error("it beats before it joined")
		}
		u.mu.Lock()
		u.answer = grant
		u.mu.Unlock()
		time.Sleep(1100 * time.Millisecond)
		if len(u.of(topics.DomainHeartbeat)) == 0 {
			t.Error("not joined 1.1 s after the hub came up")
		}
	})
}

// A hub that answers joins at the topic of all alone is joined too.
func TestHubOfOneTopicForAllAnswers(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		u.common = true
		h.agent(t.TempDir())
		time.Sleep(link.AnswerTimeout)
		if len(u.of(topics.DomainHeartbeat)) == 0 {
			t.Error("not joined")
		}
	})
}

func TestStartCommand(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		a := h.agent(t.TempDir())
		time.Sleep(time.Second)
		u.domain(topics.DomainServicesSet, a.command("d1", 5, 3, "web"))
		if got := a.runner.starts(); got != "web" {
			t.Fatalf("started %q", got)
		}
		for _, want := range []string{
			"DOMINION_IP=192.0.2.1", "DOMINION_PORT=1883", "DOMINION_URL=mqtt://192.0.2.1:1883", "DOMINION_TOPIC_PREFIX=dominion",
			"DOMAIN_UUID=" + a.id(), "DOMAIN_NAME=pi", "DOMAIN_IP=192.0.2.7", "SERVICE_VERSION=1.2.0",
		} {
			if !slices.Contains(a.runner.last.Env, want) {
				t.Errorf("the environment has no %s: %q", want, a.runner.last.Env)
			}
		}
		if b := last[topics.Heartbeat](u, topics.DomainHeartbeat); b.Epoch != 5 || b.Generation != 3 {
			t.Errorf("the heartbeat says epoch %d generation %d", b.Epoch, b.Generation)
		}
		time.Sleep(2 * time.Second)
		if s := last[topics.Domain](u, topics.DomainStatus); len(s.Services) != 1 || s.Services[0].State != topics.Running {
			t.Errorf("status %+v", s.Services)
		}

		// the same again, and what is old or foreign
		u.domain(topics.DomainServicesSet, a.command("d1", 5, 3, "web"))
		for _, c := range []topics.StartCommand{a.command("d1", 4, 99), a.command("d1", 5, 2), a.command("d2", 9, 9), a.command("d1", 2_000_000, 1)} {
			u.domain(topics.DomainServicesSet, c)
			u.domain(topics.DomainServicesSet, c) // ordered once
		}
		if got := a.runner.starts(); got != "web" || a.runner.living() != 1 {
			t.Errorf("started %q, %d live", got, a.runner.living())
		}
		refused := slices.DeleteFunc(u.events(), func(s string) bool { return !strings.HasPrefix(s, "command_refused") })
		if len(refused) != 4 {
			t.Errorf("events %q", refused)
		}
		for _, want := range []string{"epoch 4 generation 99", "epoch 5 generation 2 ", `of dominion "d2"`, "far above"} {
			if !u.receivedEvent(topics.CommandRefused, want) || h.log.count("refused") == 0 {
				t.Errorf("no event with %q", want)
			}
		}

		// what is absent is stopped
		u.domain(topics.DomainServicesSet, a.command("d1", 6, 1, "lamp"))
		time.Sleep(2 * time.Second)
		if got := a.runner.starts(); got != "web lamp" || a.runner.living() != 1 {
			t.Errorf("started %q, %d live", got, a.runner.living())
		}
	})
}

// Thirty services that are ordered at once take seconds to start on a slow
// machine: its heartbeats go on, and report the command as applied when a status
// has its effect.
func TestHeartBeatsWhileManyStart(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		a := h.agent(t.TempDir(), func(o *Options) { o.Runner.(*runner).slow = 200 * time.Millisecond })
		time.Sleep(time.Second)
		var names []string
		for i := range 30 {
			names = append(names, fmt.Sprintf("s%02d", i))
			path := filepath.Join(a.dir, "services", names[i])
			if err := errors.Join(os.Mkdir(path, 0o755), os.WriteFile(filepath.Join(path, "Makefile"), []byte("run:\n"), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		u.domain(topics.DomainServicesSet, a.command("d1", 5, 1, names...))
		time.Sleep(12 * time.Second)
		var before time.Time
		for _, payload := range u.of(topics.DomainHeartbeat) {
			b, err := topics.Decode[topics.Heartbeat]("heartbeat", []byte(payload))
			if err != nil {
				t.Fatal(err)
			}
			if gap := b.At.Sub(before); !before.IsZero() && gap > 1500*time.Millisecond {
				t.Errorf("no heartbeat for %v", gap)
			}
			if before = b.At.Time; b.Generation == 1 && b.Status < 2 {
				t.Errorf("the command is said to be obeyed, and no status tells of it: %s", payload)
			}
		}
		if b := last[topics.Heartbeat](u, topics.DomainHeartbeat); b.Generation != 1 || a.runner.living() != 30 {
			t.Errorf("%d run, the heartbeat is %+v", a.runner.living(), b)
		}
	})
}

func TestNothingUnreadableDisturbs(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		a := h.agent(t.TempDir())
		time.Sleep(time.Second)
		u.domain(topics.DomainServicesSet, a.command("d1", 5, 1, "web"))
		for _, k := range []topics.Kind{topics.DomainServicesSet, topics.DomainCommand, topics.DomainDrainSet} {
			for _, payload := range []string{"{", `{"epoch":"five","transaction":7}`, "\xff\x00", "null and void", strings.Repeat("[", 10000)} {
				u.domain(k, payload)
			}
		}
		u.send(u.tree.Hub(topics.HubStatus), "{", false)
		u.domain(topics.DomainServicesSet, "")
		time.Sleep(5 * time.Second)
		if a.runner.starts() != "web" || a.runner.living() != 1 {
			t.Errorf("started %q, %d live", a.runner.starts(), a.runner.living())
		}
		if !u.receivedEvent(topics.MessageRefused, "services/set: field epoch") || !u.receivedEvent(topics.MessageRefused, "want ON or OFF") {
			t.Errorf("events %q", u.events())
		}
		if n := len(u.of(topics.DomainHeartbeat)); n < 6 {
			t.Errorf("%d heartbeats", n)
		}
	})
}

// After a power cut with no hub the services of the last start command run.
func TestStartsWithoutAHub(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		dir := t.TempDir()
		a := h.agent(dir)
		time.Sleep(time.Second)
		u.domain(topics.DomainServicesSet, a.command("d1", 5, 3, "web", "lamp"))
		a.stop()
		u.gone()

		b := h.agent(dir)
		time.Sleep(time.Second)
		if got := b.runner.starts(); got != "lamp web" {
			t.Errorf("without a hub started %q", got)
		}
		if !slices.Contains(b.runner.last.Env, "DOMINION_URL=mqtt://192.0.2.1:1883") {
			t.Errorf("the environment does not have the broker known last: %q", b.runner.last.Env)
		}
		if b.id() != a.id() {
			t.Error("another id")
		}

		// the hub comes back, of a new epoch, and is followed; its old command is not
		u = h.hub(hubAddr, "d1", 6)
		time.Sleep(3 * time.Second)
		if beat := last[topics.Heartbeat](u, topics.DomainHeartbeat); beat.Epoch != 5 || beat.Generation != 3 {
			t.Errorf("heartbeat %+v", beat)
		}
		u.domain(topics.DomainServicesSet, b.command("d1", 5, 2))
		u.domain(topics.DomainServicesSet, b.command("d1", 6, 1, "web", "lamp"))
		if b.runner.starts() != "lamp web" || b.runner.living() != 2 {
			t.Errorf("started %q, %d live", b.runner.starts(), b.runner.living())
		}
	})
}

func TestBrokenFilesAreSetAside(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		dir := t.TempDir()
		data := filepath.Join(dir, "data")
		if err := os.MkdirAll(data, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"command.json", "memory.json", "id", "ports.json"} {
			if err := os.WriteFile(filepath.Join(data, name), []byte("{\x00\x00\x00"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		h.agent(dir)
		time.Sleep(5 * time.Second)
		if len(u.of(topics.DomainHeartbeat)) == 0 {
			t.Error("it did not join")
		}
		for _, name := range []string{"command.json", "memory.json", "id"} {
			if _, err := os.Stat(filepath.Join(data, name+".broken")); err != nil {
				t.Error(err)
			}
		}
	})
}

// A start command that was stored counts only with the hub that stored it.
func TestRetainedStartCommand(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		dir := t.TempDir()
		first := h.agent(dir) // makes the id
		synctest.Wait()
		first.stop()
		u := h.hub(hubAddr, "d1", 5)
		u.send(u.tree.Hub(topics.HubAvailability), topics.Offline, true)
		u.send(u.tree.Domain(topics.DomainServicesSet, "pi"), first.command("d1", 5, 1, "web"), true)
		a := h.agent(dir)
		time.Sleep(5 * time.Second)
		if len(u.of(topics.DomainHeartbeat)) == 0 {
			t.Fatal("not joined")
		}
		if got := a.runner.starts(); got != "" {
			t.Fatalf("a hub that is offline started %q", got)
		}
		u.send(u.tree.Hub(topics.HubAvailability), topics.Online, true)
		if got := a.runner.starts(); got != "web" {
			t.Errorf("a hub that is online started %q", got)
		}
		a.stop()

		// of a former run of the hub
		u.send(u.tree.Domain(topics.DomainServicesSet, "pi"), a.command("d1", 5, 2, "web", "lamp"), true)
		u.send(u.tree.Hub(topics.HubStatus), topics.Hub{ID: "d1", Protocol: topics.Protocol, Epoch: 6}, true)
		b := h.agent(dir)
		time.Sleep(5 * time.Second)
		if got := b.runner.starts(); got != "web" {
			t.Errorf("a stored command of an old epoch started %q", got)
		}
	})
}
