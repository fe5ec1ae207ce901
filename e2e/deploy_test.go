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
	pi.startAsking()
	home.awaitVersion("web", "1.2.0")
	eventually(t, "what is not needed is removed", func() bool { return len(pi.bundles()) == 2 })
}

// Without a hub a machine goes back by itself from a version that does not get healthy, and the hub
// that comes back takes that for the end of the rollout; a boot without a hub runs what was there.
func TestDeployWithoutAHub(t *testing.T) {
	home := onEmbedded(t)
	home.adoptionHub("")
	hub := home.startAskingHub()
	pi, agent := home.adoptedByCode("pi", "")
	if r := home.deploy(home.deployable("web", "1.0.0", "")); r.Code != 0 {
		t.Fatalf("deploy: %+v\n%s", r, agent.tail(4000))
	}
	home.Journal.AwaitRunning(t, "web@pi")

	deaf := home.deployable("web", "2.0.0", "")
	home.must(os.WriteFile(filepath.Join(deaf, "service.toml"), []byte("version = \"2.0.0\"\nstart_timeout = \"5s\"\nhealth = { http = \"/\" }\n"), 0o644))
	if r := home.control("deploy", deaf); r.Code != 0 {
		t.Fatalf("deploy: %+v", r)
	}
	home.Journal.Await(t, 2, "start", "web")
	hub.Kill()
	agent.AwaitLog("goes back to version 1.0.0")
	home.Journal.AwaitRunning(t, "web@pi")

	home.startAskingHub()
	home.awaitState("pi", topics.DomainIsOnline)
	eventually(t, "the rollout is over", func() bool {
		s := home.service("web")
		return len(s.Instances) == 1 && s.Instances[0].Version == "1.0.0" && s.Instances[0].State == topics.Running && !s.Update.InProgress && s.Update.Problem != ""
	})
	home.Journal.AwaitRunning(t, "web@pi")

	t.Log("power cut, and no hub")
	home.Hub.PowerCut()
	pi.PowerCut()
	starts := len(home.Journal.Of(t, "start", "web"))
	pi.startAsking()
	home.Journal.Await(t, starts+1, "start", "web")
}

// A service is built on the machine, as its user and in a copy; what fails is shown and leaves what
// runs alone. What writes in its directory, a machine that does not accept programs, and a service
// in services_dir have their reasons.
func TestDeployBuilds(t *testing.T) {
	home := onEmbedded(t)
	home.adoptionHub("")
	home.startAskingHub()
	pi, agent := home.adoptedByCode("pi", "")
	build := func(version, recipe string) string {
		dir := home.deployable("web", version, "")
		home.must(os.Rename(filepath.Join(dir, "run.sh"), filepath.Join(dir, "source.sh")))
		for file, text := range map[string]string{
			"service.toml": fmt.Sprintf("version = %q\nstart_timeout = \"20s\"\nbuild = \"compile\"\n", version),
			"Makefile":     "run:\n\t@exec sh ./run.sh\ncompile:\n\t" + recipe + "\n",
		} {
			home.must(os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644))
		}
		return dir
	}
	if r := home.deploy(build("1.0.0", "cp source.sh run.sh; id -u >user")); r.Code != 0 {
		t.Fatalf("deploy: %+v\n%s", r, agent.tail(4000))
	}
	home.Journal.AwaitRunning(t, "web@pi")
	found := false
	for _, name := range pi.bundles() {
		if !strings.HasSuffix(name, "-built") {
			continue
		}
		found = true
		dir := filepath.Join(pi.DataDir(), "bundles", name)
		user, err := os.ReadFile(filepath.Join(dir, "user"))
		info, _ := os.Stat(dir)
		if err != nil || strings.TrimSpace(string(user)) == "0" || info.Mode().Perm() != 0o555 {
			t.Errorf("built by user %s: %v, %v", user, err, info.Mode())
		}
	}
	if !found {
		t.Errorf("nothing was built: %q", pi.bundles())
	}

	if r := home.deploy(build("2.0.0", "@echo no compiler here; exit 3")); r.Code != 1 || !strings.Contains(r.Stderr, "no compiler here") {
		t.Errorf("deploy of what cannot be built: %+v", r)
	}
	home.Journal.AwaitRunning(t, "web@pi")
	home.awaitVersion("web", "1.0.0")
	if starts := len(home.Journal.Of(t, "start", "web")); starts != 1 {
		t.Errorf("it was started %d times", starts)
	}

	t.Log("a service that writes in its directory")
	if r := home.control("deploy", home.deployable("writer", "1.0.0", "touch here || exit 1")); r.Code != 0 {
		t.Fatalf("deploy: %+v", r)
	}
	eventually(t, "the reason names the directory", func() bool {
		return strings.Contains(home.control("status", "--json").Stdout, "SERVICE_DATA_DIR alone")
	})

	t.Log("a service in services_dir wins")
	pi.Install("lamp")
	eventually(t, "it is in the catalog", func() bool {
		return strings.Contains(home.control("domains", "--json").Stdout, `"lamp"`)
	})
	lamp := home.deployable("lamp", "1.0.0", "")
	if r := home.control("deploy", lamp); r.Code != 1 || !strings.Contains(r.Stderr, "pi") {
		t.Errorf("deploy of a local one: %+v", r)
	}
	if r := home.control("deploy", lamp, "--force"); r.Code != 0 {
		t.Errorf("deploy of a local one: %+v", r)
	}
	eventually(t, "status says so", func() bool {
		return strings.Contains(home.control("status", "--json").Stdout, "the service in services_dir runs")
	})

	t.Log("a machine that does not accept programs")
	agent.Stop()
	pi.Configure(nil, home.hubAt()+"accept = \"environment\"\n")
	pi.startAsking()
	home.awaitState("pi", topics.DomainIsOnline)
	eventually(t, "why says so", func() bool {
		r := home.control("why", "web")
		return strings.Contains(r.Stdout, "accept")
	})
}

// What runs once runs again by another version; where that does not end well it is taken back, and
// the one before does not run anew.
func TestDeployOnce(t *testing.T) {
	home := onEmbedded(t)
	home.adoptionHub("")
	home.startAskingHub()
	_, agent := home.adoptedByCode("pi", "")
	job := func(version string, code int) string {
		dir := filepath.Join(home.Hub.Dir, "deploy", version, "job")
		home.must(os.MkdirAll(dir, 0o755))
		home.must(os.WriteFile(filepath.Join(dir, "service.toml"), []byte(fmt.Sprintf("version = %q\ncommand = [\"sh\", \"./run.sh\"]\n", version)), 0o644))
		home.must(os.WriteFile(filepath.Join(dir, "run.sh"), []byte(fmt.Sprintf(`echo "$(date +%%s%%N) start $SERVICE_NAME $DOMAIN_NAME $$" >>%s
exit %d
`, home.Journal.file, code)), 0o644))
		return dir
	}
	defined := filepath.Join(home.Hub.Dir, "job.toml")
	apply := func(name, version, rest string) {
		home.must(os.WriteFile(defined, []byte(fmt.Sprintf("[services.%s]\nreplicas = 1\nbundle = %q\n%s\n", name, version, rest)), 0o644))
		if r := home.control("apply", defined); r.Code != 0 {
			t.Fatalf("apply: %+v", r)
		}
	}
	const once = "oneshot = true\nrestart = { policy = \"never\" }"
	ended := func(version string) func() bool {
		return func() bool {
			s := home.service("job")
			return s.State == topics.Finished && !s.Update.InProgress && strings.Contains(home.control("status", "--json").Stdout, version)
		}
	}
	if r := home.control("deploy", job("1.0.0", 0)); r.Code != 0 {
		t.Fatalf("deploy: %+v\n%s", r, agent.tail(4000))
	}
	apply("job", "1.0.0", once)
	eventually(t, "it has ended", ended("1.0.0"))
	starts := len(home.Journal.Of(t, "start", "job"))
	if r := home.control("deploy", job("2.0.0", 0)); r.Code != 0 {
		t.Fatalf("deploy: %+v", r)
	}
	home.Journal.Await(t, starts+1, "start", "job")
	eventually(t, "it has ended again", ended("2.0.0"))
	if r := home.control("deploy", job("3.0.0", 4)); r.Code != 0 {
		t.Fatalf("deploy: %+v", r)
	}
	home.Journal.Await(t, starts+2, "start", "job")
	eventually(t, "it is taken back", func() bool { s := home.service("job"); return s.Update.Problem != "" && !s.Update.InProgress })
	eventually(t, "it has ended as before", func() bool { return home.service("job").State == topics.Finished })
	if n := len(home.Journal.Of(t, "start", "job")); n != starts+2 {
		t.Errorf("it was started %d times, want %d", n, starts+2)
	}
}

// A service that is defined as exclusive at run time gets its lease, and another version replaces
// it.
func TestDeployExclusive(t *testing.T) {
	home := onEmbedded(t)
	home.adoptionHub("")
	home.startAskingHub()
	_, agent := home.adoptedByCode("pi", "")
	if r := home.deploy(home.deployable("boiler", "1.0.0", "")); r.Code != 0 {
		t.Fatalf("deploy: %+v", r)
	}
	defined := filepath.Join(home.Hub.Dir, "boiler.toml")
	home.must(os.WriteFile(defined, []byte("[services.boiler]\nreplicas = 1\nbundle = \"1.0.0\"\nexclusive = true\n"), 0o644))
	if r := home.control("apply", defined); r.Code != 0 {
		t.Fatalf("apply: %+v", r)
	}
	if r := home.deploy(home.deployable("boiler", "1.1.0", "")); r.Code != 0 {
		t.Fatalf("deploy: %+v\n%s", r, agent.tail(40))
	}
	home.awaitVersion("boiler", "1.1.0")
	home.Journal.AwaitRunning(t, "boiler@pi")
}
