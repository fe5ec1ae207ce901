package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// domain is one of the machines that the demo simulates.
type domain struct {
	name   string
	traits []string
}

// home is a hub and its domains: their files below one temporary directory,
// and their processes.
type home struct {
	dir       string
	hub       string // host:port of its broker
	domains   []domain
	services  []string
	programs  []*process // in the order of start
	helpShown bool       // the screen shows the help instead
	ended     chan error // a program that does not run any more
}

// The services are the examples. Where there is no Python, the orchestrator is
// the variant in shell, which serves nothing that could be checked.
const (
	servicesTOML = `
[services.web]
priority = "dependency"
traits = ["compute"]
environment = { %s }

[services.lamp]
priority = "required"
dependencies = ["orchestrator"]
traits = ["lamp"]

[services.orchestrator]
priority = "dependency"
dependencies = ["web"]
environment = { LISTEN = "127.0.0.1" }
`
	pythonTOML = `traits = ["python"]
health = { http = "/health", interval = "2s" }
`
	shellTOML = `target = "shell"
`
)

// newHome writes the configs of a hub and two domains.
func newHome(bin, examples string) (*home, error) {
	examples, err := filepath.Abs(examples)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(examples); err != nil {
		return nil, fmt.Errorf("cannot find the example services, run make demo in the checkout: %w", err)
	}
	hubProgram, err := programPath(bin, "dominion")
	if err != nil {
		return nil, err
	}
	domainProgram, err := programPath(bin, "domain")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "dominion-demo-")
	if err != nil {
		return nil, fmt.Errorf("cannot make a directory in TMPDIR or /tmp: %w", err)
	}

	if err := os.Chmod(dir, 0o755); err != nil { // services of root's agents are not root
		return nil, fmt.Errorf("cannot open the directory of the demo to its services: %w", err)
	}
	_, err = exec.LookPath("python3")
	python := err == nil
	h := newLayout(dir, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), python)
	h.programs = append(h.programs, newProcess("hub", hubProgram, dir, "dominion.toml"))
	for _, d := range h.domains {
		h.programs = append(h.programs, newProcess(d.name, domainProgram, dir, d.name+".toml"))
	}
	if err := h.writeConfigs(examples, python); err != nil {
		h.remove()
		return nil, err
	}
	return h, nil
}

// newLayout returns the home: its domains with their traits, and its services.
func newLayout(dir, hub string, python bool) *home {
	h := &home{
		dir: dir,
		hub: hub,
		domains: []domain{
			{"attic", []string{"compute"}},
			{"kitchen", []string{"lamp"}},
		},
		services: []string{"lamp", "orchestrator", "web"},
		ended:    make(chan error, 8),
	}
	if python {
		for i := range h.domains {
			h.domains[i].traits = append(h.domains[i].traits, "python")
		}
	}
	return h
}

// writeConfigs writes the configuration of the hub and of each domain.
func (h *home) writeConfigs(examples string, python bool) error {
	var hub strings.Builder
	fmt.Fprintf(&hub, `name = "demo"
data_dir = %q

[broker]
listen = %q
listen_tls = ""

[http]
listen_tls = ""

[zeroconf]
enabled = false

[timing]
settle = "2s"
`, filepath.Join(h.dir, "hub"), h.hub)
	fmt.Fprintf(&hub, servicesTOML, goEnvironment())
	if python {
		hub.WriteString(pythonTOML)
	} else {
		hub.WriteString(shellTOML)
	}
	err := os.WriteFile(filepath.Join(h.dir, "dominion.toml"), []byte(hub.String()), 0o600)
	for _, d := range h.domains {
		traits := make([]string, len(d.traits))
		for i, t := range d.traits {
			traits[i] = strconv.Quote(t)
		}
		config := fmt.Sprintf(`name = %q
traits = [%s]
services_dir = %q
data_dir = %q
address = "127.0.0.1"
hub = %q
token_file = %q
stop_services_on_exit = true
allow_root = ["web"]
`, d.name, strings.Join(traits, ", "), examples, filepath.Join(h.dir, d.name), h.hub, filepath.Join(h.dir, "hub", "identity", "local-token"))
		err = errors.Join(err, os.WriteFile(filepath.Join(h.dir, d.name+".toml"), []byte(config), 0o600))
	}
	return err
}

// goEnvironment is the environment of web: it listens on loopback only, and uses the
// caches that make may have chosen for Go, so that it need not compile everything
// again. Those of root are open to root only, so web may run as root (allow_root).
func goEnvironment() string {
	all := []string{`LISTEN = "127.0.0.1"`}
	for _, key := range []string{"GOCACHE", "GOPATH"} {
		if v := os.Getenv(key); v != "" {
			all = append(all, fmt.Sprintf("%s = %q", key, v))
		}
	}
	return strings.Join(all, ", ")
}

func (h *home) domainNames() []string {
	var names []string
	for _, d := range h.domains {
		names = append(names, d.name)
	}
	return names
}

// start starts the hub and the domains.
func (h *home) start() error {
	for _, p := range h.programs {
		if err := p.start(h.ended); err != nil {
			return err
		}
	}
	return nil
}

// stop ends the domains, which stop their services, then the hub, and then
// processes that remain.
func (h *home) stop() error {
	hub, domains := h.programs[0], h.programs[1:]
	for _, d := range domains {
		d.requestStop()
	}
	var failed error
	for _, d := range domains {
		failed = errors.Join(failed, d.wait())
	}
	hub.requestStop()
	return errors.Join(failed, hub.wait(), h.killRemaining())
}

// killRemaining ends services that outlived their domain: they are identified by
// their data directory, which is below ours.
func (h *home) killRemaining() error {
	var remaining error
	environments, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range environments {
		environment, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(environment, []byte("\x00SERVICE_DATA_DIR="+h.dir+"/")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil && pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			remaining = errors.Join(remaining, fmt.Errorf("process %d outlived its domain and was killed", pid))
		}
	}
	return remaining
}

func (h *home) remove() {
	if err := os.RemoveAll(h.dir); err != nil {
		fmt.Fprintln(os.Stderr, "demo: cannot remove its directory:", err)
	}
}

// lastLines returns the end of each log below the directory, as an error to
// print with the one that it explains.
func (h *home) lastLines(n int) error {
	var all error
	_ = filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".log") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil || len(b) == 0 {
			return nil
		}
		lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
		lines = lines[max(0, len(lines)-n):]
		name, _ := filepath.Rel(h.dir, path)
		all = errors.Join(all, fmt.Errorf("\n-- %s --\n%s", name, strings.Join(lines, "\n")))
		return nil
	})
	return all
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
