package hub_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/hub"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/identity/secrets"
	"github.com/jmbarzee/dominion/topics"
)

const mqttClient = `
[services.web]
priority = "required"
replicas = 1
environment = { MQTT_PASSWORD = "secret:mqtt-password", COLOUR = "blue" }
[services.lamp]
priority = "required"
`

// hunter is the value that is searched for.
const hunter = "correct-horse-battery"

// inSecretHome runs a test with a hub that stores secrets, and with the age identity of
// kitchen, which it has adopted. attic has no key.
func inSecretHome(t *testing.T, test func(h *home, key *secrets.Identity, kitchen, attic *agent)) {
	t.Helper()
	files, err := identity.OpenStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	key, err := secrets.OpenIdentity(files, false)
	if err != nil {
		t.Fatal(err)
	}
	cfg := load(t, mqttClient)
	cfg.DataDir = t.TempDir()
	own := newSigningDomain(t, "id-of-kitchen")
	synctest.Test(t, func(t *testing.T) {
		h := &home{T: t, cfg: cfg, dataDir: cfg.DataDir, tree: topics.NewTree("")}
		h.setup = func(s *store.Store, o *hub.Options) {
			if len(s.Adoption().Members) == 0 {
				member := own.member("kitchen", "w")
				member.Recipient = key.Recipient()
				s.Change(func(s *store.State) {
					s.Domains["attic"] = store.Domain{ID: "id-of-attic", Lost: true} // of before there were keys
					s.Adoption.Members = map[string]adoption.Member{member.ID: member}
				})
			}
			own.dominion = s.ID()
			o.Keys = openKeys(t, h.dataDir, s)
			files, err := identity.OpenStore(h.dataDir)
			if err != nil {
				t.Fatal(err)
			}
			// With an error it is locked.
			o.Secrets, _ = secrets.OpenVault(files, files.Path(secrets.VaultFile), o.Log)
		}
		h.start()
		defer h.busy.Wait()
		defer func() { h.stop() }()
		kitchen, attic := h.agent("kitchen", nil, "web", "lamp"), h.agent("attic", nil, "web", "lamp")
		kitchen.word, kitchen.key = "w", own
		for _, a := range []*agent{kitchen, attic} {
			if err := a.join(); err != nil {
				t.Fatal(err)
			}
			defer a.leave()
		}
		time.Sleep(5 * time.Second)
		test(h, key, kitchen, attic)
	})
}

// spec returns what an agent is ordered of a service.
func (a *agent) spec(service string) (topics.Spec, bool) {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	s, is := a.specs[service]
	return s, is
}

// open returns the secret of web that an agent was given.
func (a *agent) open(key *secrets.Identity) string {
	s, _ := a.spec("web")
	value, err := key.Open(secrets.Context{Dominion: a.home.hub.ID(), Domain: a.id, Service: "web", Name: "mqtt-password"}, s.Secrets["mqtt-password"])
	if err != nil {
		return err.Error()
	}
	return string(value)
}

func (h *home) setSecret(value string) {
	h.Helper()
	if r := h.ask(topics.VerbSecret, `{"action":"set","secret":"mqtt-password","value":"`+value+`"}`); r.Status != topics.StatusOK {
		h.Fatalf("%+v", r)
	}
	time.Sleep(30 * time.Second)
}

// A service waits for its secret; a domain with a key alone is given it, sealed; another value
// restarts it, and a restart of the hub does not. Nothing that anybody reads shows it.
func TestSecrets(t *testing.T) {
	inSecretHome(t, func(h *home, key *secrets.Identity, kitchen, attic *agent) {
		if v := h.service("web"); v.State != topics.Pending || !strings.Contains(v.Reason, "dominionctl secret set mqtt-password") {
			h.Errorf("without its secret: %+v", v)
		}
		if _, is := kitchen.spec("lamp"); !is {
			h.Error("a service without secrets waits, too")
		}
		why := string(h.ask(topics.VerbWhy, `{"service":"web"}`).Data)
		if !strings.Contains(why, "dominionctl adopt attic") || !strings.Contains(why, "the secret mqtt-password is missing") {
			h.Error(why)
		}

		h.setSecret(hunter)
		if h.where("web") != "[kitchen:running]" || attic.started("web") != 0 {
			h.Fatalf("%s: %+v", h.where("web"), h.service("web"))
		}
		if got := kitchen.open(key); got != hunter {
			h.Errorf("it was given %q", got)
		}
		first, _ := kitchen.spec("web")
		h.setSecret(hunter)
		h.ask(topics.VerbReplan, `{}`)
		if again, _ := kitchen.spec("web"); again.Secrets["mqtt-password"] != first.Secrets["mqtt-password"] || kitchen.started("web") != 1 {
			h.Error("the same value was sealed again")
		}

		h.stop()
		h.start()
		if err := kitchen.rejoin(); err != nil {
			h.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		if again, _ := kitchen.spec("web"); again.Revision != first.Revision || again.Secrets["mqtt-password"] != first.Secrets["mqtt-password"] || kitchen.started("web") != 1 {
			h.Errorf("after a restart of the hub: %d starts, %+v", kitchen.started("web"), again)
		}

		h.setSecret("another")
		if second, _ := kitchen.spec("web"); second.Revision == first.Revision || kitchen.started("web") != 2 || kitchen.open(key) != "another" || kitchen.started("lamp") != 1 {
			h.Errorf("another value: %d starts, %+v", kitchen.started("web"), second)
		}
		h.setSecret(hunter)

		if r := h.ask(topics.VerbSecret, `{"action":"remove","secret":"mqtt-password"}`); r.Status != topics.StatusOK || !strings.Contains(string(r.Data), `"missing":true,"services":["web"],"domains":["kitchen"]`) {
			h.Errorf("%+v: %s", r, r.Data)
		}
		time.Sleep(30 * time.Second)
		if removed, is := kitchen.spec("web"); !is || len(removed.Secrets) != 0 || kitchen.started("web") != 3 || !strings.Contains(h.service("web").Reason+string(h.ask(topics.VerbWhy, `{"service":"web"}`).Data), "the secret mqtt-password is missing") {
			h.Errorf("removed: %d starts, %+v, %+v", kitchen.started("web"), removed, h.service("web"))
		}

		h.setSecret(hunter)
		h.mu.Lock()
		for topic, payload := range h.retained {
			if strings.Contains(payload, hunter) {
				h.Errorf("%s shows it: %s", topic, payload)
			}
		}
		h.mu.Unlock()
		h.searchFiles(h.dataDir)
	})
}

// searchFiles fails for each file that shows the value.
func (h *home) searchFiles(dir string) {
	h.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(hunter)) {
			h.Errorf("%s shows it", path)
		}
		return err
	})
	if err != nil {
		h.Error(err)
	}
}

// Whoever forgets a machine is shown which secrets it has had, once.
func TestForgetListsSecrets(t *testing.T) {
	inSecretHome(t, func(h *home, _ *secrets.Identity, _, _ *agent) {
		h.setSecret(hunter)
		r := h.ask(topics.VerbForget, `{"domain":"kitchen"}`)
		if r.Status != topics.StatusOK || string(r.Data) != `{"secrets":["mqtt-password"]}` {
			h.Errorf("%+v: %s", r, r.Data)
		}
		if e := h.event(topics.DomainForgotten); !strings.Contains(e.Message, "mqtt-password") {
			h.Errorf("%+v", e)
		}
		if r := h.ask(topics.VerbForget, `{"domain":"attic"}`); r.Status == topics.StatusOK {
			h.Errorf("%+v", r) // it is online, and has no key
		}
		if list := string(h.ask(topics.VerbSecret, `{}`).Data); strings.Contains(list, "kitchen") {
			h.Error(list)
		}
	})
}

func TestSecretRefusals(t *testing.T) {
	inSecretHome(t, func(h *home, _ *secrets.Identity, _, _ *agent) {
		h.refuses(topics.VerbSecret, map[string]string{
			`{"action":"set","value":"x"}`:                                                            `needs "secret"`,
			`{"action":"set","secret":"a b","value":"x"}`:                                             "secret",
			`{"action":"set","secret":"a"}`:                                                           "1 to 32768 bytes",
			`{"action":"set","secret":"a","value":"\u0000"}`:                                          "value",
			`{"action":"remove","secret":"never"}`:                                                    "no such secret",
			`{"action":"show","secret":"a"}`:                                                          `"action" is list, set or remove`,
			`{"action":"set","secret":"a","value":"` + strings.Repeat("x", topics.MaxSecret+1) + `"}`: "value",
		})
	})
}

// A hub whose vault lost its key has what runs go on, and shows what to do.
func TestLostKeyOfSecretsStopsNothing(t *testing.T) {
	inSecretHome(t, func(h *home, key *secrets.Identity, kitchen, _ *agent) {
		h.setSecret(hunter)
		h.stop()
		if err := os.Remove(filepath.Join(h.dataDir, identity.Directory, "secrets.key")); err != nil {
			h.Fatal(err)
		}
		h.start()
		if err := kitchen.rejoin(); err != nil {
			h.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		if kitchen.started("web") != 1 || kitchen.open(key) != hunter || h.where("web") != "[kitchen:running]" {
			h.Errorf("%d starts, %s, %s", kitchen.started("web"), kitchen.open(key), h.where("web"))
		}
		if r := h.ask(topics.VerbSecret, `{"action":"set","secret":"mqtt-password","value":"x"}`); r.Status == topics.StatusOK {
			h.Errorf("%+v", r)
		}
	})
}
