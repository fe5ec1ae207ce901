package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/agent/facts"
	"github.com/jmbarzee/dominion/agent/traits"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/topics"
)

func TestDrainIsPersisted(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		dir := t.TempDir()
		a := h.agent(dir)
		time.Sleep(time.Second)
		u.domain(topics.DomainDrainSet, "ON")
		u.domain(topics.DomainDrainSet, "ON")
		if s := last[topics.Domain](u, topics.DomainStatus); !s.Draining {
			t.Error("the status does not say so at once")
		}
		if n := len(u.events()); n != 1 || !u.receivedEvent(topics.DomainDraining, "drained") {
			t.Errorf("events %q", u.events())
		}
		a.stop()
		h.agent(dir)
		time.Sleep(time.Second)
		if s := last[topics.Domain](u, topics.DomainStatus); !s.Draining {
			t.Error("forgotten over a restart")
		}
		u.domain(topics.DomainDrainSet, "OFF")
		if s := last[topics.Domain](u, topics.DomainStatus); s.Draining || !u.receivedEvent(topics.DomainUndrained, "") {
			t.Errorf("still draining; events %q", u.events())
		}
		u.domain(topics.DomainDrainSet, "ON\n")
		if s := last[topics.Domain](u, topics.DomainStatus); !s.Draining {
			t.Errorf("a line is not understood; events %q", u.events())
		}
	})
}

// Commands that were retained by the broker are old: it is unknown when they were
// meant.
func TestRetainedOrdersAreIgnored(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		u.send(u.tree.Domain(topics.DomainDrainSet, "pi"), "ON", true)
		u.send(u.tree.Domain(topics.DomainCommand, "pi"), topics.Command{Transaction: "1", Action: "logs", Service: "web"}, true)
		h.agent(t.TempDir())
		time.Sleep(5 * time.Second)
		if last[topics.Domain](u, topics.DomainStatus).Draining || len(u.of(topics.DomainResponse)) != 0 {
			t.Error("obeyed")
		}
		if h.log.count("ignored an order that was retained") != 2 {
			t.Error("no warning")
		}
	})
}

func TestCommandRestart(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		a := h.agent(t.TempDir())
		time.Sleep(time.Second)
		u.domain(topics.DomainServicesSet, a.command("d1", 5, 1, "web"))
		time.Sleep(5 * time.Second)
		u.domain(topics.DomainCommand, topics.Command{Transaction: "t1", Action: "restart", Service: "web"})
		time.Sleep(5 * time.Second)
		if r := last[topics.Reply](u, topics.DomainResponse); r.Transaction != "t1" || r.Status != topics.StatusOK {
			t.Errorf("response %+v", r)
		}
		if a.runner.starts() != "web web" || a.runner.living() != 1 {
			t.Errorf("started %q, %d live", a.runner.starts(), a.runner.living())
		}
		for _, c := range []topics.Command{
			{Transaction: "t2", Action: "restart", Service: "lamp"},
			{Transaction: "t3", Action: "restart"},
			{Transaction: "t4", Action: "explode", Service: "web"},
			{Transaction: "t5", Action: "logs", Service: "../web"},
			{Transaction: "t6", Action: "logs", Service: "unknown"},
			{Transaction: "t7", Action: "logs", Service: "web", Lines: -1},
		} {
			u.domain(topics.DomainCommand, c)
			if r := last[topics.Reply](u, topics.DomainResponse); r.Transaction != c.Transaction || r.Status != topics.StatusError || r.Error == "" {
				t.Errorf("%+v: response %+v", c, r)
			}
		}
		// Who asks waits for an answer, also where the question cannot be read.
		for payload, transaction := range map[string]string{
			`{"transaction":"t8","action":"logs","service":"web","lines":"all"}`: "t8",
			`{"transaction":9,"action":"logs"}`:                                  "",
			`{"transaction":"t10"`:                                               "",
		} {
			n := len(u.of(topics.DomainResponse))
			u.domain(topics.DomainCommand, payload)
			if r := last[topics.Reply](u, topics.DomainResponse); len(u.of(topics.DomainResponse)) != n+1 || r.Transaction != transaction || r.Status != topics.StatusError {
				t.Errorf("%s: response %+v", payload, r)
			}
		}
	})
}

func TestCommandLogs(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		a := h.agent(t.TempDir())
		time.Sleep(time.Second)
		u.domain(topics.DomainServicesSet, a.command("d1", 5, 1, "web"))
		file, err := os.OpenFile(filepath.Join(a.dir, "data", "logs", "web", "stdout.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		write := func(line string) {
			if _, err := file.WriteString(line + "\n"); err != nil {
				t.Fatal(err)
			}
		}
		for range 200 {
			write("line")
		}
		write("the last")
		ask := func(c topics.Command) []topics.LogLine {
			c.Transaction, c.Action, c.Service = "t", topics.ActionLogs, "web"
			u.domain(topics.DomainCommand, c)
			data, err := topics.Decode[topics.LogLines]("", last[topics.Reply](u, topics.DomainResponse).Data)
			if err != nil {
				t.Fatal(err)
			}
			return data.Lines
		}
		if got := ask(topics.Command{}); len(got) != 100 || got[99].Line != "the last" {
			t.Errorf("%d lines", len(got))
		}
		if got := ask(topics.Command{Lines: 2, Follow: topics.Seconds(10 * time.Second)}); len(got) != 2 {
			t.Errorf("%d lines", len(got))
		}
		followed := func() (all []string) {
			u.mu.Lock()
			defer u.mu.Unlock()
			for _, m := range u.received {
				if m.Topic == u.tree.Log("pi", "web") {
					l, _ := topics.Decode[topics.LogLine]("", m.Payload)
					all = append(all, l.Line)
				}
			}
			return all
		}
		time.Sleep(5 * time.Second)
		write("while followed")
		time.Sleep(time.Second)
		if got := followed(); len(got) != 1 || got[0] != "while followed" {
			t.Errorf("followed %q", got)
		}
		time.Sleep(10 * time.Second)
		write("later")
		time.Sleep(5 * time.Second)
		if got := followed(); len(got) != 1 {
			t.Errorf("followed after the end %q", got)
		}
	})
}

func TestBoundedLogs(t *testing.T) {
	lines := make([]topics.LogLine, 50)
	for i := range lines {
		lines[i].Line = strings.Repeat("x", 16<<10)
	}
	if n := len(limitSize(lines)); n != 15 {
		t.Errorf("%d lines of 16 KiB in an answer", n)
	}
	if n := len(limitSize(lines[:3])); n != 3 {
		t.Errorf("%d lines of 3", n)
	}
}

func TestChangesOfTheMachine(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		a := h.agent(t.TempDir())
		time.Sleep(10 * time.Second)
		a.facts.mu.Lock()
		a.facts.address = "198.51.100.7"
		a.facts.rows = []topics.CatalogRow{{Service: "web", Version: "1.3.0"}}
		a.facts.problems = []string{"service lamp is left out: nonsense"}
		a.facts.mu.Unlock()
		time.Sleep(5 * time.Second)
		s := last[topics.Domain](u, topics.DomainStatus)
		if s.Address != "198.51.100.7" || len(s.Catalog) != 1 || s.Catalog[0].Version != "1.3.0" {
			t.Errorf("after 5 s status %+v", s)
		}
		if n := len(u.of(topics.DomainStatus)); n != 2 {
			t.Errorf("%d statuses for two", n)
		}
		a.facts.mu.Lock()
		a.facts.address = ""
		a.facts.mu.Unlock()
		time.Sleep(5 * time.Second)
		if s := last[topics.Domain](u, topics.DomainStatus); s.Address != "198.51.100.7" {
			t.Errorf("with the cable out the address is %q", s.Address)
		}
		if !u.receivedEvent(topics.DomainProblem, "nonsense") {
			t.Errorf("events %q", u.events())
		}
	})
}

func TestReload(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		a := h.agent(t.TempDir())
		time.Sleep(5 * time.Second)
		c := a.o.Config
		c.Traits, c.Address, c.Name = []string{"compute", "npbar"}, "203.0.113.5", "other"
		a.Reload(c, nil)
		a.Reload(config.Domain{}, errors.New("domain.toml:1: nonsense"))
		time.Sleep(time.Second)
		s := last[topics.Domain](u, topics.DomainStatus)
		if len(s.Traits) != 2 || s.Address != "203.0.113.5" || s.Name != "pi" {
			t.Errorf("status %+v", s)
		}
		if h.log.count("key=name") != 1 || h.log.count("nonsense") != 1 {
			t.Error("the log does not say what was not taken")
		}
	})
}

func TestOneAgentADataDir(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		a := h.agent(t.TempDir())
		time.Sleep(time.Second)
		err := New(a.o).Run(context.Background())
		if err == nil || !strings.Contains(err.Error(), "another agent uses it") {
			t.Errorf("the second Run: %v", err)
		}
	})
}

// A broker that accepts connections and sends nothing must not hold the agent.
func TestSilentBroker(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		a := h.agent(t.TempDir(), func(o *Options) {
			o.Dial = func(context.Context, string) (net.Conn, error) {
				ours, theirs := net.Pipe()
				h.mu.Lock()
				h.lines = append(h.lines, theirs)
				h.mu.Unlock()
				return ours, nil
			}
		})
		time.Sleep(time.Minute)
		h.mu.Lock()
		n := len(h.lines)
		h.mu.Unlock()
		if n < 10 {
			t.Errorf("%d attempts in a minute", n)
		}
		began := time.Now()
		a.stop()
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("it took %v to stop", d)
		}
	})
}

func TestFullDisk(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Log("root writes everywhere: the directory is removed instead")
	}
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		a := h.agent(t.TempDir())
		time.Sleep(time.Second)
		file := filepath.Join(a.dir, "data", "command.json")
		if err := os.Mkdir(file, 0o700); err != nil { // rename onto it fails
			t.Fatal(err)
		}
		u.domain(topics.DomainServicesSet, a.command("d1", 5, 1, "web"))
		if a.runner.starts() != "web" || !u.receivedEvent(topics.DomainProblem, "cannot write") {
			t.Errorf("started %q, events %q", a.runner.starts(), u.events())
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if _, err := os.Stat(file); err != nil {
			t.Errorf("not written at last: %v", err)
		}
	})
}

func TestEnvironment(t *testing.T) {
	for _, c := range []struct{ hub, known, url, ip, port string }{
		{"192.0.2.1:1884", "", "mqtt://192.0.2.1:1884", "192.0.2.1", "1884"},
		{"mqtts://pi:secret@broker.lan", "", "mqtts://broker.lan", "broker.lan", "8883"},
		{"mqtt://[2001:db8::1]", "", "mqtt://[2001:db8::1]", "2001:db8::1", "1883"},
		{"", "mqtt://pi@192.0.2.9:1883", "mqtt://192.0.2.9:1883", "192.0.2.9", "1883"},
		{"", "", "", "", ""},
	} {
		l := &loop{config: config.Domain{Hub: c.hub}, store: &store{memory: memory{Hub: c.known}}, inventory: facts.NewInventory(&machineFacts{}, 0, slog.New(slog.DiscardHandler)), traits: traits.New(nil, nil, nil, nil, slog.New(slog.DiscardHandler))}
		e := l.environment("web")
		if e["DOMINION_URL"] != c.url || e["DOMINION_IP"] != c.ip || e["DOMINION_PORT"] != c.port {
			t.Errorf("hub %q, known %q: %v", c.hub, c.known, e)
		}
	}
}

// Another client came, and the hub requests the state again.
func TestCommandReport(t *testing.T) {
	inTestNetwork(t, func(h *testNetwork) {
		u := h.hub(hubAddr, "d1", 5)
		h.agent(t.TempDir())
		time.Sleep(5 * time.Second)
		before := last[topics.Domain](u, topics.DomainStatus)
		u.forget()
		u.domain(topics.DomainCommand, topics.Command{Action: topics.ActionReport})
		time.Sleep(time.Second)
		if got := u.of(topics.DomainAvailability); len(got) != 1 || got[0] != topics.Online {
			t.Errorf("availability %q", got)
		}
		if n := len(u.of(topics.DomainMetrics)); n != 1 {
			t.Errorf("metrics %d times", n)
		}
		after := last[topics.Domain](u, topics.DomainStatus)
		if after.Seq != before.Seq+1 || len(u.of(topics.DomainStatus)) != 1 {
			t.Errorf("the status of %d after that of %d", after.Seq, before.Seq)
		}
		if r := last[topics.Reply](u, topics.DomainResponse); r.Status != topics.StatusOK {
			t.Errorf("%+v", r)
		}
	})
}
