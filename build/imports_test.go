// Package build holds what make needs beside the compiler: scripts, and the
// check below that packages import only what the house allows. It has no code
// of its own and nobody imports it.
package build

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/jmbarzee/dominion"

// rule says what a set of packages may not link. Packages are written below
// the module's path; a name stands for everything below it too.
type rule struct {
	what   string
	of     func(p pkg) bool   // the packages it binds
	direct bool               // looks at their own imports alone, not at what those link
	bad    func(pkg pkg) bool // what they may not import
	why    string
}

// hubParts are the parts of the hub that own state.
var hubParts = []string{
	"hub/adoption",
	"hub/announcer",
	"hub/changeset",
	"hub/commands",
	"hub/definitions",
	"hub/directory",
	"hub/fleet",
	"hub/leases",
	"hub/leftovers",
	"hub/macs",
	"hub/moves",
	"hub/ownproblems",
	"hub/presence",
	"hub/publisher",
	"hub/questions",
	"hub/restarts",
	"hub/rollouts",
	"hub/rotation",
	"hub/scaling",
	"hub/servicestatus",
	"hub/tracker",
	"hub/usage",
	"hub/workqueue",
}

var rules = []rule{
	{
		"topics imports the standard library alone", is("topics"), false, not(std),
		"it is the contract that everybody shares",
	},
	{
		"services imports topics, semver and internal/nearest alone", is("services"), false,
		not(or(std, in("topics", "internal/nearest", "github.com/blang/semver/v4"))),
		"it is the ground under hub, planner and config",
	},
	{
		"the planner decides purely", in("services/planner"), true,
		is("log", "log/slog", "os", "os/exec", "net", "net/http", "math/rand", "math/rand/v2", "io/fs", "syscall", "sync"),
		"the same inputs give the same plan: no log, no I/O, no randomness",
	},
	{
		"scaling is decided purely", in("services/autoscale"), true,
		or(is("log", "log/slog", "os", "os/exec", "net", "net/http", "math/rand", "math/rand/v2", "io/fs", "syscall", "sync"), not(or(std, is("services", "topics")))),
		"the same figures give the same number: no log, no I/O, no clock",
	},
	{
		"the rules of leases import topics alone", in("services/lease"), false, not(or(std, in("topics"))),
		"hub and agent share them, and tests play them against each other",
	},
	{
		"what devices announce is read purely", in("hub/devices"), true,
		or(is("log", "log/slog", "os", "os/exec", "net", "net/http", "math/rand", "math/rand/v2", "io/fs", "syscall", "sync", "context"), not(or(std, is("topics", "hub/devices/template")))),
		"messages in, entries out: the same in whatever order they came",
	},
	{
		"rollouts are decided purely", in("services/rollout"), true,
		is("log", "log/slog", "os", "os/exec", "net", "net/http", "math/rand", "math/rand/v2", "io/fs", "syscall", "sync", "context"),
		"hub sees, waits and acts; time is a duration there, never a clock",
	},
	{
		"small helpers import the standard library alone", in("internal"), false, not(std),
		"they know nothing of what they carry",
	},
	{
		"identity imports topics, atomicfile and cryptography alone", in("identity"), false,
		not(or(std, in("identity", "topics", "internal/atomicfile", "golang.org/x/crypto", "golang.org/x/sys", "filippo.io"))),
		"hub, agent and command line share it, and none of them is trusted with its keys by accident",
	},
	{
		"signed messages need the standard library alone", in("identity/signed"), false, not(or(std, in("identity/signed"))),
		"whoever verifies a message needs no certificate and no file",
	},
	{
		"only identity/secrets imports age", not(in("identity/secrets", "filippo.io")), true, in("filippo.io"),
		"how a secret is sealed is decided in one place",
	},
	{
		"hub does not import agent", in("hub"), false, in("agent"),
		"they meet in topics",
	},
	{
		"no part of the hub knows another", in(hubParts...), true,
		not(or(not(in("hub")), is("hub/devices", "hub/homeassistant"))),
		"the hub drives them, and hands in what they need; each may have a pure package of its own below it",
	},
	{
		"the parts of the hub do no I/O", in(hubParts...), true,
		is("os", "os/exec", "io/fs", "io/ioutil", "path/filepath", "net/http", "syscall", "context"),
		"the hub gives them messages and the time, and carries out what they return",
	},
	{
		"no part of the agent knows another", in("agent/application", "agent/link", "agent/orders", "agent/signatures", "agent/isolation", "agent/report"), true, in("agent"),
		"the loop drives them, and hands in what they need",
	},
	{
		"orders are judged purely", in("agent/orders"), true,
		or(is("log", "log/slog", "os", "os/exec", "net", "net/http", "math/rand", "math/rand/v2", "io/fs", "syscall", "sync", "context"), not(or(std, is("topics")))),
		"what is obeyed follows from the order, the grant and the state of the hub",
	},
	{
		"only the agent's loop has bundles on its disk", not(in("agent/bundles", "cmd/domain", "e2e", "simulation", "agent")), false, in("agent/bundles"),
		"no other part of the agent and no other program unpacks what a network has sent",
	},
	{
		"no part of the agent unpacks bundles", in("agent/supervisor", "agent/programs", "agent/link", "agent/report"), false, in("agent/bundles"),
		"the loop passes directories",
	},
	{
		"what services run from is decided purely", in("agent/programs"), true,
		or(is("log", "log/slog", "os", "os/exec", "net", "net/http", "math/rand", "math/rand/v2", "io/fs", "syscall", "sync", "context"), not(or(std, is("services", "topics")))),
		"the disk and the network are the loop's",
	},
	{
		"bundles know neither hub nor agent", in("bundle"), false, in("hub", "agent", "ctl", "topics", "services"),
		"command line, hub and agent share what a bundle is",
	},
	{
		"agent does not import hub", in("agent"), false, in("hub"),
		"they meet in topics",
	},
	{
		"only the hub's program links hub", not(in("hub", "cmd/dominion", "e2e")), false, in("hub"),
		"nobody but cmd imports a program's inside",
	},
	{
		"only the agent's program links agent", not(in("agent", "cmd/domain", "e2e")), false, in("agent"),
		"nobody but cmd imports a program's inside",
	},
	{
		"only the hub's program links the embedded broker",
		not(or(is("broker"), in("hub", "cmd/dominion", "e2e"))), false, is("broker"),
		"agent and command line are small, and the engine can be replaced",
	},
	{
		"agent and command line do not link the engine",
		in("agent", "ctl", "demo", "cmd/domain", "cmd/dominionctl", "broker/client", "broker/locate", "broker/zeroconf"), false,
		or(in("broker/engine", "broker/store", "github.com/mochi-mqtt"), is("broker")),
		"they are small: a connection is all they need",
	},
	{
		"only broker imports its engine", not(in("broker")), true, in("broker/engine", "broker/store", "broker/wire"),
		"the engine can be replaced",
	},
	{
		"only the agent's loop watches traits", not(in("agent", "cmd/domain", "e2e", "simulation")), false, in("agent/traits"),
		"it is a part of it",
	},
	{
		"Makefiles are judged purely", in("agent/makefile"), true,
		is("log", "log/slog", "os", "os/exec", "net", "net/http", "math/rand", "math/rand/v2", "io/fs", "syscall", "sync", "context"),
		"text in, what make expands out: the files are read by who uses it",
	},
	{
		"no program links what is for tests", or(is("broker", "broker/engine", "broker/store"), in("cmd", "demo", "hub", "agent", "ctl")), false, in("services/transcript", "topics/topicstest", "hub/devices/devicestest", "broker/store/storetest"),
		"they are for tests",
	},
	{
		"where a request comes from is judged purely", in("broker/origin"), false, not(or(std, in("broker/origin"))),
		"the broker and the hub ask it, and tests need no connection",
	},
	{
		"only hub serves HTTP", not(in("hub", "cmd/dominion", "e2e")), false, in("hub/web"),
		"its handlers come from the hub",
	},
	{
		"hub/web does not know the hub", in("hub/web"), false, is("hub"),
		"what it serves is handed in",
	},
	{
		"why a loop stood still is told by the kernel alone", in("hub/stall"), false, not(or(std, in("hub/stall", "golang.org/x/sys"))),
		"it is asked when the machine is in trouble",
	},
	{
		"access decides purely", in("broker/access"), false, not(or(std, in("topics", "broker/access"))),
		"who may do what follows from names alone",
	},
	{
		"the engine imports wire, store, limits and topics alone", in("broker/engine"), true,
		not(or(std, is("broker/wire", "broker/store", "broker/limits", "topics"))),
		"no listener, no file, no user, no configuration",
	},
	{
		"the limits import the standard library alone", in("broker/limits"), false, not(or(std, in("broker/limits"))),
		"config reads them, and links no engine",
	},
	{
		"the store imports the standard library and internal/filelock alone", in("broker/store"), false, not(or(std, in("broker/store", "internal/filelock"))),
		"it knows nothing of connections and routing",
	},
	{
		"the codec imports the standard library alone", in("broker/wire"), true, not(std),
		"it knows nothing of sessions",
	},
	{
		"no program links an MQTT library", in("cmd", "demo", "broker", "hub", "agent", "ctl"), false, in("github.com/mochi-mqtt", "github.com/eclipse"),
		"server and client are ours; tests use others as peers",
	},
	{
		"nobody imports what tests the broker", func(pkg) bool { return true }, true, in("broker/conformance", "broker/bench"),
		"it looks at brokers from outside",
	},
	{
		"only broker/zeroconf imports zeroconf", not(in("broker/zeroconf", "github.com/grandcat")), true, in("github.com/grandcat"),
		"its edges are handled in one place",
	},
	{
		"only the command line imports cobra", not(in("ctl", "cmd/dominionctl", "github.com/spf13")), true, in("github.com/spf13"),
		"hub and agent have three flags each",
	},
	{
		"programs do not link what tests use",
		in("cmd", "demo"), false, in("testing", "github.com/rogpeppe"),
		"it would be in everybody's binary",
	},
}

// pkg is a package as go list shows it.
type pkg struct {
	ImportPath string
	Dir        string
	Standard   bool
	GoFiles    []string
	Imports    []string
	Deps       []string // all that it links
}

// name is the path below the module, or the whole path of somebody else's.
func (p pkg) name() string { return strings.TrimPrefix(p.ImportPath, module+"/") }

func std(p pkg) bool { return p.Standard }

func is(names ...string) func(pkg) bool {
	return func(p pkg) bool { return slices.Contains(names, p.name()) }
}

func in(names ...string) func(pkg) bool {
	return func(p pkg) bool {
		return slices.ContainsFunc(names, func(n string) bool {
			return p.name() == n || strings.HasPrefix(p.name(), n+"/")
		})
	}
}

func not(f func(pkg) bool) func(pkg) bool { return func(p pkg) bool { return !f(p) } }

func or(fs ...func(pkg) bool) func(pkg) bool {
	return func(p pkg) bool { return slices.ContainsFunc(fs, func(f func(pkg) bool) bool { return f(p) }) }
}

// check returns every breach of the rules, in words. all holds our packages
// and whatever they link, by path.
func check(all map[string]pkg) []string {
	var faults []string
	for _, p := range all {
		if !strings.HasPrefix(p.ImportPath, module+"/") {
			continue
		}
		for _, r := range rules {
			if !r.of(p) {
				continue
			}
			links := p.Deps
			if r.direct {
				links = p.Imports
			}
			for _, path := range links {
				if r.bad(all[path]) {
					faults = append(faults, fmt.Sprintf("%s: %s links %s%s (%s)", r.what, p.name(), all[path].name(), through(all, p, path), r.why))
				}
			}
		}
	}
	slices.Sort(faults)
	return faults
}

// through names the import of p that brings path in.
func through(all map[string]pkg, p pkg, path string) string {
	if slices.Contains(p.Imports, path) {
		return ""
	}
	for _, i := range p.Imports {
		if slices.Contains(all[i].Deps, path) {
			return " through " + all[i].name()
		}
	}
	return ""
}

func TestImports(t *testing.T) {
	for _, fault := range check(list(t)) {
		t.Error(fault)
	}
}

// list asks go for our packages and what they link. Tests are left out: they
// may import what they like.
func list(t *testing.T) map[string]pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,Standard,GoFiles,Imports,Deps", module+"/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cannot list the packages: %v\n%s", err, stderr.String())
	}
	all := make(map[string]pkg)
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
	}
	return all
}

// A check that cannot fail checks nothing: each rule finds its own breach.
func TestRulesFindTheirBreach(t *testing.T) {
	for _, breach := range []struct{ importer, imported, want string }{
		{"topics", "github.com/BurntSushi/toml", "topics imports the standard library alone"},
		{"services", "config", "services imports topics, semver and internal/nearest alone"},
		{"services/planner", "log/slog", "the planner decides purely"},
		{"hub/devices", "log/slog", "what devices announce is read purely"},
		{"services/lease", "services", "the rules of leases import topics alone"},
		{"internal/atomicfile", "topics", "small helpers"},
		{"hub/scaling", "hub/store", "no part of the hub knows another"},
		{"hub/rollouts", "hub/store", "no part of the hub knows another"},
		{"hub/tracker", "hub/directory", "no part of the hub knows another"},
		{"agent/report", "agent/link", "no part of the agent knows another"},
		{"agent/orders", "log/slog", "orders are judged purely"},
		{"hub/tracker", "net/http", "the parts of the hub do no I/O"},
		{"identity", "config", "identity imports topics, atomicfile and cryptography alone"},
		{"identity/signed", "topics", "signed messages need the standard library alone"},
		{"hub", "filippo.io/age", "only identity/secrets imports age"},
		{"hub/store", "agent", "hub does not import agent"},
		{"agent/supervisor", "hub/store", "agent does not import hub"},
		{"agent/supervisor", "agent/bundles", "no part of the agent unpacks bundles"},
		{"hub/registry", "agent/bundles", "only the agent's loop has bundles on its disk"},
		{"agent/programs", "log/slog", "what services run from is decided purely"},
		{"bundle", "hub/registry", "bundles know neither hub nor agent"},
		{"ctl", "hub", "only the hub's program links hub"},
		{"broker", "hub/web", "only hub serves HTTP"},
		{"hub/web", "hub", "hub/web does not know the hub"},
		{"broker/origin", "config", "where a request comes from is judged purely"},
		{"demo", "agent/logs", "only the agent's program links agent"},
		{"ctl", "broker", "only the hub's program links the embedded broker"},
		{"cmd/domain", "broker/engine", "agent and command line do not link the engine"},
		{"hub", "broker/engine", "only broker imports its engine"},
		{"broker/engine", "config", "the engine imports wire, store, limits and topics alone"},
		{"broker/limits", "topics", "the limits import the standard library alone"},
		{"broker/engine", "broker/store/storetest", "no program links what is for tests"},
		{"broker/store", "topics", "the store imports the standard library and internal/filelock alone"},
		{"broker/wire", "broker/store", "the codec imports the standard library alone"},
		{"broker/wire", "github.com/mochi-mqtt/server/v2", "the codec imports the standard library alone"},
		{"broker", "github.com/mochi-mqtt/server/v2/packets", "no program links an MQTT library"},
		{"broker", "broker/conformance", "nobody imports what tests the broker"},
		{"agent", "github.com/eclipse/paho.mqtt.golang", "no program links an MQTT library"},
		{"hub", "github.com/grandcat/zeroconf", "only broker/zeroconf imports zeroconf"},
		{"cmd/domain", "github.com/spf13/cobra", "only the command line imports cobra"},
		{"cmd/domain", "testing", "programs do not link what tests use"},
	} {
		all := make(map[string]pkg)
		for _, name := range []string{breach.importer, breach.imported} {
			path := name
			standard := slices.Contains([]string{"testing", "log/slog", "net/http"}, name)
			if !standard && !strings.Contains(name, ".") {
				path = module + "/" + name
			}
			all[path] = pkg{ImportPath: path, Standard: standard}
		}
		p := all[module+"/"+breach.importer]
		for path := range all {
			if path != p.ImportPath {
				p.Imports, p.Deps = []string{path}, []string{path}
			}
		}
		all[p.ImportPath] = p
		if faults := check(all); !slices.ContainsFunc(faults, func(f string) bool { return strings.HasPrefix(f, breach.want) }) {
			t.Errorf("%s importing %s: %q, want %q among them", breach.importer, breach.imported, faults, breach.want)
		}
	}
}

// The planner and the ground may know what a moment is, not what time it is.
func TestNoClock(t *testing.T) {
	all := list(t)
	for _, name := range append([]string{"topics", "services", "services/lease", "services/planner", "hub/devices", "hub/devices/template", "identity", "identity/signed", "identity/adoption", "identity/secrets"}, hubParts...) {
		switch name {
		case "hub/questions": // it measures how long its own work takes, beside the loop
			continue
		case "hub/fleet": // the problem of a domain that flaps counts the minutes that are left
			continue
		}
		p := all[module+"/"+name]
		if len(p.GoFiles) == 0 {
			t.Errorf("there is no package %s", name)
		}
		for _, file := range p.GoFiles {
			for _, use := range clockUses(t, filepath.Join(p.Dir, file), "") {
				t.Errorf("%s: %s reads the clock; take the time as a value", name, use)
			}
		}
	}
	if uses := clockUses(t, "bad.go", "package bad\nimport \"time\"\nvar t = time.Now()"); len(uses) != 1 {
		t.Errorf("time.Now was not found: %v", uses)
	}
}

func clockUses(t *testing.T, file, source string) []string {
	t.Helper()
	var src any // nil: what the file holds
	if source != "" {
		src = source
	}
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, file, src, 0)
	if err != nil {
		t.Fatal(err)
	}
	clock := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}
	var uses []string
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && slices.Contains(clock, s.Sel.Name) {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" {
				uses = append(uses, files.Position(s.Pos()).String())
			}
		}
		return true
	})
	return uses
}
