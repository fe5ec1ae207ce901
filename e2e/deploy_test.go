package e2e

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// deployable writes a service that keeps the home's journal on the hub's machine, and returns its
// directory. last is what it does once it has started.
func (h *Home) deployable(name, version, last string) string {
	h.t.Helper()
	dir := filepath.Join(h.Hub.Dir, "deploy", version, name)
	h.must(os.MkdirAll(dir, 0o755))
	for file, text := range map[string]string{
		"service.toml": fmt.Sprintf("version = %q\nstart_timeout = \"5s\"\n", version),
		"Makefile":     "run:\n\t@exec sh ./run.sh\n",
		"run.sh": `note() {
	until at=$(date +%s%N) && [ "$at" ]; do :; done
	echo "$at $1 $SERVICE_NAME $DOMAIN_NAME $$" >>` + h.Journal.file + `
}
trap 'note stop; kill $!; note end; exit 0' TERM
note start
` + last + `
while :; do sleep 3600 & wait $!; done
`,
	} {
		h.must(os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644))
	}
	return dir
}

// deploy deploys a directory from the hub's machine, and waits for the end of the rollout.
func (h *Home) deploy(dir string, args ...string) Result {
	h.t.Helper()
	return h.control(append([]string{"deploy", dir, "--wait", "--timeout", "2m"}, args...)...)
}

// service returns what the hub says of a service.
func (h *Home) service(name string) topics.Service {
	h.t.Helper()
	var o topics.Overview
	r := h.control("status", "--json")
	if r.Code != 0 {
		return topics.Service{}
	}
	h.must(json.Unmarshal([]byte(r.Stdout), &o))
	for _, s := range o.Services {
		if s.Service == name {
			return s
		}
	}
	return topics.Service{}
}

// awaitVersion waits until the one instance of a service is healthy in a version.
func (h *Home) awaitVersion(name, version string) {
	h.t.Helper()
	var last topics.Service
	for began := time.Now(); time.Since(began) < patience; time.Sleep(100 * time.Millisecond) {
		last = h.service(name)
		if len(last.Instances) == 1 && last.Instances[0].Version == version && last.Instances[0].State == topics.Running {
			return
		}
	}
	h.t.Fatalf("no %s %s: %+v", name, version, last)
}

// bundles returns the names of the bundles on a domain's disk.
func (d *Domain) bundles() (all []string) {
	d.t.Helper()
	entries, err := os.ReadDir(filepath.Join(d.DataDir(), "bundles"))
	d.must(err)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			all = append(all, e.Name())
		}
	}
	return all
}

// One command takes a service to a machine that has nothing of it; another version replaces it,
// and one that does not get healthy is taken back, with its files. An agent that is killed while it
// pulls goes on.
func TestDeploy(t *testing.T) {
	home := onEmbedded(t)
	home.adoptionHub("")
	home.startAskingHub()
	pi, agent := home.adoptedByCode("pi", "")

	if r := home.deploy(home.deployable("web", "1.0.0", "")); r.Code != 0 {
		t.Fatalf("deploy: %+v\n%s", r, agent.tail(4000))
	}
	home.Journal.AwaitRunning(t, "web@pi")
	home.awaitVersion("web", "1.0.0")

	if r := home.deploy(home.deployable("web", "1.1.0", "")); r.Code != 0 {
		t.Fatalf("deploy of another version: %+v\n%s", r, agent.tail(4000))
	}
	home.awaitVersion("web", "1.1.0")
	home.Journal.AwaitRunning(t, "web@pi")

	r := home.deploy(home.deployable("web", "2.0.0", "touch here; exit 1"))
	if r.Code != 1 || !strings.Contains(r.Stderr, "taken back") {
		t.Errorf("deploy of a bad version: %+v\n%s", r, agent.tail(4000))
	}
	home.awaitVersion("web", "1.1.0")
	home.Journal.AwaitRunning(t, "web@pi")

	t.Log("killed while it pulls")
	big := home.deployable("web", "1.2.0", "")
	content := make([]byte, 20<<20) // that does not get smaller
	_, _ = rand.Read(content)
	home.must(os.WriteFile(filepath.Join(big, "big"), content, 0o644))
	agent.Kill()
	pi.Configure(nil, home.hubAt()+"fetch_rate = \"2MB\"\n")
	agent = pi.startAsking()
	home.awaitState("pi", topics.DomainIsOnline)
	if r := home.control("deploy", big); r.Code != 0 {
		t.Fatalf("deploy of a large one: %+v", r)
	}
	eventually(t, "it is pulled in part", func() bool {
		s := home.service("web")
		return len(s.Instances) == 1 && s.Instances[0].Progress > 20 && s.Instances[0].Version == "1.1.0"
	})
	agent.Kill()
	agent = pi.startAsking()
	home.awaitVersion("web", "1.2.0")
	eventually(t, "what is not needed is removed", func() bool { return len(pi.bundles()) == 2 })
}
