package hub_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/hub"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/topics"
)

// shelf is a registry of bundles for linux/amd64 and linux/arm/v6.
type shelf struct {
	mu       sync.Mutex
	versions map[string]bool // "web:1.4.0"
	permits  map[string][]string
	keep     map[string][]string
}

func digestFor(text string) string {
	hex := fmt.Sprintf("%x", text)
	return "sha256:" + (hex + strings.Repeat("0", 64))[:64]
}

func (s *shelf) Resolve(service, version string) (topics.Bundle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.versions[service+":"+version] {
		return topics.Bundle{}, errors.New("not in the registry")
	}
	b := topics.Bundle{Version: version, Digest: digestFor(service + version)}
	for _, p := range []string{"linux/amd64", "linux/arm/v6"} {
		b.Variants = append(b.Variants, topics.BundleVariant{Platform: p, Manifest: digestFor("m" + version + p), Layer: digestFor("l" + version + p), Format: topics.FormatZstd, Size: 7})
	}
	return b, nil
}

func (s *shelf) Permit(domain string, digests []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.permits[domain] = digests
}

func (s *shelf) Retain(digests map[string][]string, _ time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep = digests
	return nil
}

func (s *shelf) mayRead(domain, version string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.permits[domain], digestFor("l"+version+"linux/amd64"))
}

// inDeployingHome runs a test with a hub that has a registry, and two domains without
// services of their own: kitchen takes bundles, attic is older. lamp is defined in the file.
func inDeployingHome(t *testing.T, test func(h *home, s *shelf, kitchen, attic *agent)) {
	t.Helper()
	cfg := load(t, "[services.lamp]\npriority = \"required\"\n")
	cfg.DataDir = t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := &home{T: t, cfg: cfg, dataDir: cfg.DataDir, tree: topics.NewTree("")}
		s := &shelf{versions: map[string]bool{"web:1.0.0": true, "web:1.1.0": true, "web:1.2.0": true}, permits: make(map[string][]string)}
		h.setup = func(_ *store.Store, o *hub.Options) { o.Bundles = s }
		h.start()
		defer h.busy.Wait()
		defer func() { h.stop() }()
		kitchen, attic := h.agent("kitchen", nil), h.agent("attic", nil)
		kitchen.platform, kitchen.accept = "linux/amd64", "deploy"
		for _, a := range []*agent{kitchen, attic} {
			if err := a.join(); err != nil {
				t.Fatal(err)
			}
			defer func() { a.leave() }()
		}
		time.Sleep(5 * time.Second)
		test(h, s, kitchen, attic)
	})
}

const webTOML = "[services.web]\nbundle = %q\nreplicas = 1\n"

// apply applies a definition, and waits until it has been carried out.
func (h *home) apply(toml, more string) topics.Reply {
	h.Helper()
	text, _ := json.Marshal(toml)
	r := h.ask(topics.VerbApply, `{"toml":`+string(text)+more+`}`)
	time.Sleep(20 * time.Second)
	return r
}

// A service that is defined at run time runs on a domain that has never had it, goes from
// version to version, and is still there after a restart of the hub.
func TestDeploy(t *testing.T) {
	inDeployingHome(t, func(h *home, s *shelf, kitchen, attic *agent) {
		if r := h.apply(fmt.Sprintf(webTOML, "1.0.0"), ""); r.Status != topics.StatusOK {
			h.Fatalf("%+v", r)
		}
		if v := h.service("web"); h.where("web") != "[kitchen:running]" || v.Version != "1.0.0" {
			h.Fatalf("%s: %+v%s", h.where("web"), v, h.story())
		}
		spec, _ := kitchen.spec("web")
		if spec.Bundle == nil || spec.Bundle.Version != "1.0.0" || spec.Former != nil {
			h.Errorf("%+v", spec)
		}
		if !s.mayRead("kitchen", "1.0.0") || s.mayRead("attic", "1.0.0") {
			h.Errorf("permits %v", s.permits)
		}
		why := string(h.ask(topics.VerbWhy, `{"service":"web"}`).Data)
		if !strings.Contains(why, "attic does not tell its platform") {
			h.Error(why)
		}
		h.apply(fmt.Sprintf(webTOML, "1.1.0"), "")
		spec, _ = kitchen.spec("web")
		if v := h.service("web"); v.Version != "1.1.0" || spec.Former == nil || spec.Former.Version != "1.0.0" || !s.mayRead("kitchen", "1.0.0") {
			h.Errorf("%+v, former %+v", v, spec.Former)
		}
		started := kitchen.started("web")
		h.stop()
		h.start()
		if err := kitchen.rejoin(); err != nil {
			h.Fatal(err)
		}
		if err := attic.rejoin(); err != nil {
			h.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		if v := h.service("web"); v.Version != "1.1.0" || kitchen.started("web") != started {
			h.Errorf("after a restart of the hub: %+v, started %d times, %d before", v, kitchen.started("web"), started)
		}
		versions := string(h.ask(topics.VerbVersions, `{"service":"web"}`).Data)
		if !strings.Contains(versions, `"1.1.0"`) || !strings.Contains(versions, `"1.0.0"`) || strings.Count(versions, `"current":true`) != 1 {
			h.Error(versions)
		}
		h.ask(topics.VerbRollback, `{"service":"web"}`)
		time.Sleep(20 * time.Second)
		if v := h.service("web"); v.Version != "1.0.0" {
			h.Errorf("rolled back: %+v", v)
		}
		h.ask(topics.VerbApply, `{"service":"web"}`)
		time.Sleep(20 * time.Second)
		if h.last(h.tree.Service(topics.ServiceStatus, "web")) != "" || !h.saw(topics.ServiceRemoved) || s.mayRead("kitchen", "1.0.0") {
			h.Errorf("undefined: %s, permits %v", h.last(h.tree.Service(topics.ServiceStatus, "web")), s.permits)
		}
	})
}

// A version that does not get healthy is taken back, and its files with it.
func TestDeployIsTakenBack(t *testing.T) {
	inDeployingHome(t, func(h *home, s *shelf, kitchen, _ *agent) {
		kitchen.bad = func(_ topics.Instance, spec topics.Spec) bool {
			return spec.Bundle != nil && spec.Bundle.Version == "1.1.0"
		}
		h.apply(fmt.Sprintf(webTOML, "1.0.0"), "")
		time.Sleep(10 * time.Minute) // it has been well
		h.apply(fmt.Sprintf(webTOML, "1.1.0"), "")
		time.Sleep(10 * time.Minute)
		spec, _ := kitchen.spec("web")
		if v := h.service("web"); v.Version != "1.0.0" || spec.Bundle.Version != "1.0.0" || !h.saw(topics.ServiceReverted) {
			h.Errorf("%+v, ordered %+v%s", v, spec.Bundle, h.story())
		}
	})
}

// What cannot be applied is refused as a whole, and changes nothing.
func TestApplyRefuses(t *testing.T) {
	inDeployingHome(t, func(h *home, s *shelf, kitchen, _ *agent) {
		h.apply(fmt.Sprintf(webTOML, "1.0.0"), "")
		var view topics.DefinitionView
		if err := json.Unmarshal(h.ask(topics.VerbDefinition, `{"service":"web"}`).Data, &view); err != nil || view.Base == "" || !strings.Contains(view.TOML, "1.0.0") {
			h.Fatalf("%+v, %v", view, err)
		}
		for what, one := range map[string][3]string{
			"of the file":         {"[services.lamp]\n", "", "defined in"},
			"one of two":          {"[services.web]\n[services.lamp]\n", "", "defined in"},
			"no such version":     {fmt.Sprintf(webTOML, "9.0.0"), "", "not in the registry"},
			"a former base":       {fmt.Sprintf(webTOML, "1.1.0"), `,"base":"000000000000"`, "not the one that was edited"},
			"the base of nothing": {strings.ReplaceAll(fmt.Sprintf(webTOML, "1.1.0"), "web", "new"), `,"base":"000000000000"`, "not in the registry"},
			"no TOML":             {"[services", "", ""},
			"an unknown key":      {"[services.web]\nbundel = \"1\"\n", "", "bundel"},
		} {
			if r := h.apply(one[0], one[1]); r.Status != topics.StatusError || !strings.Contains(r.Error, one[2]) {
				h.Errorf("%s: %+v", what, r)
			}
		}
		if v := h.service("web"); v.Version != "1.0.0" || kitchen.started("web") != 1 {
			h.Errorf("%+v, started %d times", v, kitchen.started("web"))
		}
		h.refuses(topics.VerbApply, map[string]string{`{}`: "toml", `{"service":"lamp"}`: "defined in", `{"service":"nosuch"}`: "no service"})
		h.refuses(topics.VerbRollback, map[string]string{`{"service":"web"}`: "no former version", `{"service":"web","version":"3.0.0"}`: "no former version 3.0.0", `{"service":"lamp"}`: "no former version"})
		if r := h.apply(fmt.Sprintf(webTOML, "1.1.0"), `,"base":"`+view.Base+`"`); r.Status != topics.StatusOK {
			h.Errorf("with its base: %+v", r)
		}
	})
}

// With plan nothing changes, and the answer says what would.
func TestApplyPlan(t *testing.T) {
	inDeployingHome(t, func(h *home, _ *shelf, kitchen, _ *agent) {
		r := h.apply(fmt.Sprintf(webTOML, "1.0.0"), `,"plan":true`)
		var applied topics.Applied
		if err := json.Unmarshal(r.Data, &applied); err != nil || len(applied.Plan) == 0 || applied.Plan[0].Service != "web" || applied.Plan[0].Domain != "kitchen" {
			h.Errorf("%s, %v", r.Data, err)
		}
		if kitchen.started("web") != 0 || h.last(h.tree.Service(topics.ServiceStatus, "web")) != "" {
			h.Error("it was carried out")
		}
	})
}
