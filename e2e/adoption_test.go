package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// adoptionHub is a dominion.toml that asks whom to adopt: over TLS with the dominion's own
// certificates, or beside mosquitto.
func (h *Home) adoptionHub(rest string) {
	h.t.Helper()
	broker := "listen = \"127.0.0.1:1883\"\n"
	if h.external != nil {
		broker = fmt.Sprintf("external = %q\npassword_file = %q\ncafile = %q\n", h.external.url("hub"), h.external.passwordFile, h.external.caFile)
	}
	h.WriteHubConfig(fmt.Sprintf("name = \"home\"\ndata_dir = %q\n[broker]\n%s\n%s", filepath.Join(h.Hub.Dir, "data"), broker, rest))
}

// startAsking starts a program without the variables by which the other tests adopt everybody.
func (h *Host) startAsking(program string, args ...string) *Process {
	h.t.Helper()
	return h.Start("env", append([]string{"-u", "DOMINION_CFG_IDENTITY_ADOPTION", "-u", "DOMAIN_CFG_ADOPTION", program}, args...)...)
}

func (d *Domain) startAsking() *Process {
	d.t.Helper()
	return d.Host.startAsking(programs.domain, "-config", d.file())
}

func (h *Home) startAskingHub() *Process {
	h.t.Helper()
	h.began.Store(time.Now().UnixMilli())
	return h.Hub.startAsking(programs.dominion, "-config", h.hubFile())
}

// control runs dominionctl on the hub's machine, through the control socket.
func (h *Home) control(args ...string) Result {
	h.t.Helper()
	return h.Hub.Exec([]string{"DOMINION_URL=unix:" + h.ControlSocket()}, programs.dominionctl, args...)
}

// domains returns what the hub says of all machines, by name.
func (h *Home) domains() map[string]topics.DomainView {
	h.t.Helper()
	var all []topics.DomainView
	r := h.control("domains", "--json")
	if r.Code != 0 {
		return nil
	}
	h.must(json.Unmarshal([]byte(r.Stdout), &all))
	byName := make(map[string]topics.DomainView)
	for _, d := range all {
		byName[d.Name] = d
	}
	return byName
}

// awaitState waits until a machine has a state.
func (h *Home) awaitState(name string, want topics.DomainState) topics.DomainView {
	h.t.Helper()
	var last topics.DomainView
	for began := time.Now(); time.Since(began) < patience; time.Sleep(100 * time.Millisecond) {
		if last = h.domains()[name]; last.State == want {
			return last
		}
	}
	h.t.Fatalf("%s is %q, want %q: %s", name, last.State, want, last.Problem)
	return last
}

// event waits for an event of a type about a machine.
func (h *Home) event(kind topics.EventType, text string) {
	h.t.Helper()
	var last string
	for began := time.Now(); time.Since(began) < patience; time.Sleep(100 * time.Millisecond) {
		var all []topics.Event
		if last = h.control("events", "--json").Stdout; json.Unmarshal([]byte(last), &all) != nil {
			continue
		}
		for _, e := range all {
			if e.Type == kind && strings.Contains(e.Message, text) {
				return
			}
		}
	}
	h.t.Errorf("no event %s with %q:\n%s", kind, text, last)
}

// code returns the code that a machine shows.
func (d *Domain) code() string {
	d.t.Helper()
	r := d.Exec(nil, programs.domain, "-config", d.file(), "code")
	if r.Code != 0 || strings.TrimSpace(r.Stdout) == "" {
		d.t.Fatalf("domain code: %+v", r)
	}
	return strings.TrimSpace(r.Stdout)
}

// hubAt is the line of domain.toml with the hub's address, where it is not mosquitto's.
func (h *Home) hubAt() string {
	if h.external != nil {
		return fmt.Sprintf("hub = %q\n", "mqtts://"+h.external.host.Address()+":8883")
	}
	return fmt.Sprintf("hub = %q\n", h.Hub.Address())
}

// The two commands of a second machine: domain code there, dominionctl adopt here. A wrong code
// adopts nobody and is reported; the machine comes back by itself after restarts of both; what
// is forgotten is out.
func TestAdoptByCode(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		home.adoptionHub("[services.web]\npriority = \"required\"\n")
		hub := home.startAskingHub()
		pi := home.Domain("pi")
		pi.Configure(nil, home.hubAt())
		pi.Install("web")
		agent := pi.startAsking()
		waiting := home.awaitState("pi", topics.DomainIsWaiting)
		home.event(topics.DomainWaiting, "pi")
		if status := home.control("status"); !strings.Contains(status.Stdout, waiting.Key) || len(waiting.Key) != len("0000 0000 0000 0000") {
			t.Errorf("status shows no %q:\n%s", waiting.Key, status.Stdout)
		}
		if r := home.control("adopt", "po", "K7QF-2M9X-4T1R"); r.Code != 1 || !strings.Contains(r.Stderr, "pi") {
			t.Errorf("adopt of nobody: %+v", r)
		}
		if r := home.control("adopt", "pi", "K7QF-2M9X-4T1R"); r.Code != 1 || !strings.Contains(r.Stderr, "wrong") {
			t.Errorf("adopt with a wrong code: %+v", r)
		}
		home.event(topics.AdoptionRefused, "wrong")
		if state := home.domains()["pi"].State; state != topics.DomainIsWaiting {
			t.Errorf("after a wrong code it is %q", state)
		}
		time.Sleep(2 * time.Second) // wrong codes are slowed
		if r := home.control("adopt", "pi", strings.ToLower(pi.code())); r.Code != 0 {
			t.Fatalf("adopt: %+v", r)
		}
		home.event(topics.DomainAdopted, "by code")
		home.awaitState("pi", topics.DomainIsOnline)

		t.Log("both restart")
		hub.Stop()
		agent.Stop()
		home.startAskingHub()
		agent = pi.startAsking()
		home.awaitState("pi", topics.DomainIsOnline)

		t.Log("another machine of that name")
		thief := home.Domain("pi")
		thief.Configure(nil, home.hubAt())
		other := thief.startAsking()
		home.awaitWaiting("pi")
		if r := home.control("adopt", "pi", thief.code()); r.Code != 1 || !strings.Contains(r.Stderr, "belongs to another key") {
			t.Errorf("a second machine of that name: %+v", r)
		}
		other.Stop()

		t.Log("forgotten while it is online: it is ordered to stop everything, and is out")
		home.Journal.AwaitRunning(t, "web@pi")
		if r := home.control("forget", "pi"); r.Code != 0 {
			t.Fatalf("forget: %+v", r)
		}
		home.Journal.AwaitRunning(t)
		home.event(topics.DomainRevoked, "pi")
		agent.Stop()
		refusal := "bad certificate"
		if home.external != nil { // which cannot know who is revoked
			refusal = "the hub refuses this domain"
		}
		pi.startAsking().AwaitLog(refusal)
		if state := home.domains()["pi"].State; state == topics.DomainIsOnline {
			t.Error("a forgotten domain is back")
		}
	})
}

// awaitWaiting waits until a machine of a name waits, beside one that has it.
func (h *Home) awaitWaiting(name string) {
	h.t.Helper()
	for began := time.Now(); time.Since(began) < patience; time.Sleep(100 * time.Millisecond) {
		var all []topics.DomainView
		if json.Unmarshal([]byte(h.control("domains", "--json").Stdout), &all) != nil {
			continue
		}
		for _, d := range all {
			if d.Name == name && d.State == topics.DomainIsWaiting {
				return
			}
		}
	}
	h.t.Fatalf("no %s waits", name)
}

// A token adopts one machine without a person beside it; a second one that stole it is refused
// and reported, and a token for a hub lets no domain join.
func TestAdoptByToken(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		home.adoptionHub("")
		home.startAskingHub()
		home.awaitHub()
		token := func(args ...string) string {
			r := home.control(append([]string{"token", "create"}, args...)...)
			if r.Code != 0 || strings.Count(r.Stdout, "\n") != 1 {
				t.Fatalf("token create: %+v", r)
			}
			return strings.TrimSpace(r.Stdout)
		}
		machine := func(name, token string) *Domain {
			d := home.Domain(name)
			file := filepath.Join(d.Dir, "token")
			home.must(os.WriteFile(file, []byte(token+"\n"), 0o600))
			d.Configure(nil, home.hubAt()+fmt.Sprintf("token_file = %q\n", file))
			d.startAsking()
			return d
		}
		one := token()
		machine("pi", one)
		home.awaitState("pi", topics.DomainIsOnline)
		home.event(topics.DomainAdopted, "by token")
		machine("thief", one)
		home.event(topics.AdoptionRefused, "used by pi")
		machine("tv", token("--hub"))
		home.awaitState("tv", topics.DomainIsWaiting)
		for _, name := range []string{"thief", "tv"} {
			if state := home.domains()[name].State; state == topics.DomainIsOnline {
				t.Errorf("%s is %s", name, state)
			}
		}
		var all []topics.TokenView
		r := home.control("token", "list", "--json")
		home.must(json.Unmarshal([]byte(r.Stdout), &all))
		used := 0
		for _, v := range all {
			if len(v.UsedBy) == 1 && v.UsedBy[0].Name == "pi" && v.UsesLeft == 0 {
				used++
			}
		}
		if used != 1 || strings.Contains(r.Stdout, one) {
			t.Errorf("tokens: %s", r.Stdout)
		}
	})
}

// awaitHub waits until the hub answers.
func (h *Home) awaitHub() {
	h.t.Helper()
	for began := time.Now(); time.Since(began) < patience; time.Sleep(100 * time.Millisecond) {
		if h.control("version").Code == 0 {
			return
		}
	}
	h.t.Fatal("the hub does not answer")
}

// A window adopts the first machine that wants it, and then closes.
func TestAdoptByWindow(t *testing.T) {
	home := onEmbedded(t)
	home.adoptionHub("")
	home.startAskingHub()
	home.awaitHub()
	pi, shy := home.Domain("pi"), home.Domain("shy")
	pi.Configure(nil, home.hubAt()+"adoption = \"open\"\n")
	shy.Configure(nil, home.hubAt())
	pi.startAsking()
	shy.startAsking()
	home.awaitState("pi", topics.DomainIsWaiting)
	home.awaitState("shy", topics.DomainIsWaiting)
	if r := home.control("permit-join", "11m"); r.Code != 1 {
		t.Errorf("too long a window: %+v", r)
	}
	if r := home.control("permit-join"); r.Code != 0 {
		t.Fatalf("permit-join: %+v", r)
	}
	home.awaitState("pi", topics.DomainIsOnline)
	home.event(topics.DomainAdopted, "dominionctl forget pi")
	home.event(topics.WindowClosed, "")
	if state := home.domains()["shy"].State; state != topics.DomainIsWaiting {
		t.Errorf("one that does not want it is %q", state)
	}
}

// A domain of the hub's own machine joins without a command, by the token that the hub wrote.
func TestAdoptOnTheHubsMachine(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		home.adoptionHub("")
		home.startAskingHub()
		home.awaitHub()
		file := filepath.Join(home.Hub.Dir, "data", "identity", "local-token")
		before, err := os.ReadFile(file)
		home.must(err)
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v %v", info, err)
		}
		domainFile := filepath.Join(home.Hub.Dir, "domain.toml")
		text := fmt.Sprintf("name = \"nas\"\nservices_dir = %q\ndata_dir = %q\ntoken_file = %q\n", home.Hub.Dir, filepath.Join(home.Hub.Dir, "domain"), file)
		if m := home.external; m != nil {
			text += fmt.Sprintf("hub = \"mqtts://%s:8883\"\nuser = \"domain\"\npassword_file = %q\ncafile = %q\n", m.host.Address(), m.passwordFile, m.caFile)
		}
		home.must(os.WriteFile(domainFile, []byte(text), 0o644))
		home.Hub.startAsking(programs.domain, "-config", domainFile)
		home.awaitState("nas", topics.DomainIsOnline)
		if after, err := os.ReadFile(file); err != nil || string(after) == string(before) {
			t.Errorf("the token was not renewed: %v", err)
		}
	})
}

// A copied disk has the key of its original and an older word: it is refused, whatever it is
// called, and the original goes on. adopt --replace decides that the copy is the one that counts.
func TestAdoptedDiskIsCopied(t *testing.T) {
	home := onEmbedded(t)
	home.adoptionHub("")
	home.startAskingHub()
	pi := home.Domain("pi")
	pi.Configure(nil, home.hubAt())
	agent := pi.startAsking()
	home.awaitState("pi", topics.DomainIsWaiting)
	if r := home.control("adopt", "pi", pi.code()); r.Code != 0 {
		t.Fatalf("adopt: %+v", r)
	}
	agent.Stop()
	clone := home.Domain("pi")
	clone.Configure(nil, home.hubAt())
	home.must(os.CopyFS(clone.DataDir(), os.DirFS(pi.DataDir())))
	home.must(filepath.WalkDir(clone.DataDir(), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.Chmod(path, 0o600)
	}))
	agent = pi.startAsking() // it gets another word
	home.awaitState("pi", topics.DomainIsOnline)
	agent.Stop()
	agent = pi.startAsking()
	home.awaitState("pi", topics.DomainIsOnline)

	other := clone.startAsking()
	home.event(topics.DomainCopied, "domain reset")
	if d := home.domains()["pi"]; d.State == topics.DomainIsLost {
		t.Errorf("the original is %s", d.State)
	}
	agent.Stop()
	if r := home.control("adopt", "pi", "--replace"); r.Code != 0 {
		t.Fatalf("adopt --replace: %+v", r)
	}
	agent = pi.startAsking()
	agent.AwaitLog("domain reset")
	other.Stop()
}

// A machine that gets another name stays the same: its key has a free name. Its services get
// certificates of that name.
func TestAdoptedDomainIsRenamed(t *testing.T) {
	home := onEmbedded(t)
	home.adoptionHub("")
	home.startAskingHub()
	pi := home.Domain("pi")
	pi.Configure(nil, home.hubAt())
	pi.InstallShell("web")
	agent := pi.startAsking()
	home.awaitState("pi", topics.DomainIsWaiting)
	if r := home.control("adopt", "pi", pi.code()); r.Code != 0 {
		t.Fatalf("adopt: %+v", r)
	}
	eventually(t, "web has a certificate", func() bool { return home.issuedTo("web.pi") })
	agent.Stop()
	pi.Name = "kitchen"
	pi.Configure(nil, home.hubAt())
	pi.startAsking()
	home.awaitState("kitchen", topics.DomainIsOnline)
	eventually(t, "web has a certificate of the other name", func() bool { return home.issuedTo("web.kitchen") && !home.issuedTo("web.pi") })
	if d, still := home.domains()["pi"]; still {
		t.Errorf("the former name is still there: %+v", d)
	}
}
