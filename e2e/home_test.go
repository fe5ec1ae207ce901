package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Home is a network of hosts with a dominion on one of them.
type Home struct {
	Hub     *Host
	Journal Journal
	Broker  Broker

	t        testing.TB
	dir      string
	bridge   string
	number   int
	next     byte // last byte of the next host's address
	observer *Host
	external *mosquitto // nil with the embedded broker
	hosts    []*Host
	began    atomic.Int64 // when the last hub was started, in milliseconds
}

// Broker says whose broker a home runs on.
type Broker string

// The brokers every scenario runs on.
const (
	Embedded Broker = "embedded" // the hub's own, open to the home
	External Broker = "external" // mosquitto, with user, password and TLS
)

// onEachBroker runs a scenario on the embedded broker and on mosquitto.
func onEachBroker(t *testing.T, scenario func(t *testing.T, home *Home)) {
	needs(t)
	for _, broker := range []Broker{Embedded, External} {
		t.Run(string(broker), func(t *testing.T) {
			t.Parallel()
			scenario(t, newHome(t, broker))
		})
	}
}

// onEmbedded runs a scenario that concerns the embedded broker, or that the
// broker has no part in.
func onEmbedded(t *testing.T) *Home {
	needs(t)
	t.Parallel()
	return newHome(t, Embedded)
}

var homes atomic.Int64

func newHome(t testing.TB, broker Broker) *Home {
	t.Helper()
	needs(t)
	number := int(homes.Add(1))
	h := &Home{
		Broker: broker,
		t:      t,
		dir:    t.TempDir(),
		bridge: fmt.Sprintf("home%d", number),
		number: number,
	}
	// services, which write the journal, are not root
	h.must(os.Chmod(h.dir, 0o755))
	h.must(os.Chmod(filepath.Dir(h.dir), 0o755))
	h.Journal = Journal{filepath.Join(h.dir, "journal")}
	h.must(os.WriteFile(h.Journal.file, nil, 0o666))
	h.must(os.Chmod(h.Journal.file, 0o666))

	h.must(command("ip", "link", "add", h.bridge, "type", "bridge", "forward_delay", "0", "stp_state", "0", "mcast_snooping", "0"))
	t.Cleanup(func() { h.must(command("ip", "link", "del", h.bridge)) })
	h.must(command("ip", "link", "set", h.bridge, "up"))
	h.Hub = h.Host("hub")
	h.observer = h.Host("observer")
	if broker == External {
		h.external = startMosquitto(t, h.Host("broker"))
	}
	return h
}

func (h *Home) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// Host adds a machine to the home.
func (h *Home) Host(name string) *Host {
	h.t.Helper()
	h.next++
	id := fmt.Sprintf("%d-%d", h.number, h.next)
	host := &Host{
		Name:    name,
		Dir:     filepath.Join(h.dir, fmt.Sprintf("%s-%d", name, h.next)),
		t:       h.t,
		gateway: netip.AddrFrom4([4]byte{10, 77, byte(h.number), 254}),
		address: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, byte(h.number), h.next}), 24),
		netns:   fmt.Sprintf("e2e-%d-%s", os.Getpid(), id),
		port:    "port" + id,
	}
	h.must(os.MkdirAll(host.Dir, 0o755))
	h.must(command("ip", "netns", "add", host.netns))
	h.t.Cleanup(func() {
		host.KillAll()
		host.removeCgroups()
		host.network.Close()
		host.must(command("ip", "netns", "del", host.netns))
	})
	var err error
	host.network, err = os.Open("/run/netns/" + host.netns)
	h.must(err)
	var stat syscall.Stat_t
	h.must(syscall.Fstat(int(host.network.Fd()), &stat))
	host.inode = stat.Ino
	h.must(command("ip", "link", "add", host.port, "type", "veth", "peer", "name", "eth0", "netns", host.netns))
	h.must(command("ip", "link", "set", host.port, "master", h.bridge, "up"))
	h.must(command("ip", "-n", host.netns, "link", "set", "lo", "up"))
	h.must(command("ip", "-n", host.netns, "link", "set", "eth0", "up"))
	host.SetAddress(h.next)
	h.hosts = append(h.hosts, host)
	return host
}

// hubConfig is dominion.toml with the broker of this home; rest follows.
func (h *Home) hubConfig(rest string) string {
	broker := "listen = \":1883\"\nallow_anonymous = true\n"
	if h.external != nil {
		broker = fmt.Sprintf("external = %q\npassword_file = %q\ncafile = %q\n",
			h.external.url("hub"), h.external.passwordFile, h.external.caFile)
	}
	return fmt.Sprintf("name = \"home\"\ndata_dir = %q\n\n[broker]\n%s\n%s", filepath.Join(h.Hub.Dir, "data"), broker, rest)
}

// Configure writes the hub's configuration: the home's broker and what is
// given here, services for the most part.
func (h *Home) Configure(rest string) {
	h.t.Helper()
	h.WriteHubConfig(h.hubConfig(rest))
}

// WriteHubConfig writes dominion.toml as it is given.
func (h *Home) WriteHubConfig(text string) {
	h.t.Helper()
	h.must(os.WriteFile(h.hubFile(), []byte(text), 0o644))
}

func (h *Home) hubFile() string { return filepath.Join(h.Hub.Dir, "dominion.toml") }

// StartHub starts the hub with the configuration that was written. From now on
// views know no hub/status of the one before.
func (h *Home) StartHub() *Process {
	h.t.Helper()
	h.began.Store(time.Now().UnixMilli())
	return h.Hub.Start(programs.dominion, "-config", h.hubFile())
}

// Domain is a machine with an agent.
type Domain struct {
	*Host
	home *Home
}

// Domain adds a machine whose agent has a name and traits, and a user of the
// broker where the broker wants one.
func (h *Home) Domain(name string, traits ...string) *Domain {
	h.t.Helper()
	d := &Domain{Host: h.Host(name), home: h}
	h.must(os.MkdirAll(d.ServicesDir(), 0o755))
	d.Configure(traits, "")
	return d
}

// Configure writes domain.toml.
func (d *Domain) Configure(traits []string, rest string) {
	d.t.Helper()
	list, err := json.Marshal(traits)
	d.must(err)
	if traits == nil {
		list = []byte("[]")
	}
	text := fmt.Sprintf("name = %q\ntraits = %s\nservices_dir = %q\ndata_dir = %q\n", d.Name, list, d.ServicesDir(), d.DataDir())
	if m := d.home.external; m != nil {
		text += fmt.Sprintf("user = \"domain\"\npassword_file = %q\ncafile = %q\n", m.passwordFile, m.caFile)
	}
	d.must(os.WriteFile(d.file(), []byte(text+rest), 0o644))
}

func (d *Domain) file() string { return filepath.Join(d.Dir, "domain.toml") }

// ServicesDir is where the domain's services are.
func (d *Domain) ServicesDir() string { return filepath.Join(d.Dir, "services") }

// DataDir is what the agent keeps.
func (d *Domain) DataDir() string { return filepath.Join(d.Dir, "data") }

// Start starts the agent.
func (d *Domain) Start() *Process {
	d.t.Helper()
	return d.Host.Start(programs.domain, "-config", d.file())
}

// Install writes services into the domain's directory: programs that answer
// HTTP and keep the home's journal, started by make.
func (d *Domain) Install(services ...string) {
	d.t.Helper()
	for _, name := range services {
		d.Write(name, "Makefile", "run:\n\t@exec "+programs.answer+" "+d.home.Journal.file+"\n")
	}
}

// InstallShell writes a service in shell that keeps the home's journal.
func (d *Domain) InstallShell(name string) {
	d.t.Helper()
	d.Write(name, "Makefile", "run:\n\t@exec sh ./run.sh\n")
	d.Write(name, "run.sh", `# the end of the group may meet date
note() {
	until at=$(date +%s%N) && [ "$at" ]; do :; done
	echo "$at $1 $SERVICE_NAME $DOMAIN_NAME $$" >>`+d.home.Journal.file+`
}
trap 'note stop; kill $!; note end; exit 0' TERM
echo "hello from $SERVICE_NAME"
note start
while :; do sleep 3600 & wait $!; done
`)
}

// Write writes a file of a service.
func (d *Domain) Write(service, file, text string) {
	d.t.Helper()
	dir := filepath.Join(d.ServicesDir(), service)
	d.must(os.MkdirAll(dir, 0o755))
	d.must(os.WriteFile(filepath.Join(dir, file), []byte(text), 0o755))
}

// clientArgs are what the mosquitto clients need to reach the broker.
func (h *Home) clientArgs() []string {
	if m := h.external; m != nil {
		return m.login()
	}
	return []string{"-h", h.Hub.Address(), "-p", "1883"}
}

// Publish sends a message with mosquitto_pub, QoS 1; args such as -r follow.
func (h *Home) Publish(topic, payload string, args ...string) {
	h.t.Helper()
	h.must(h.tryPublish(topic, payload, args...))
}

func (h *Home) tryPublish(topic, payload string, args ...string) error {
	all := append(h.clientArgs(), "-q", "1", "-t", topic)
	if payload == "" {
		all = append(all, "-n") // a null message: what is retained is cleared
	} else {
		all = append(all, "-m", payload)
	}
	if r := h.observer.Exec(nil, "mosquitto_pub", append(all, args...)...); r.Code != 0 {
		return fmt.Errorf("mosquitto_pub %s: exit code %d: %s", topic, r.Code, r.Stderr)
	}
	return nil
}

// Ctl runs dominionctl on the observer's host; a private verb on the hub's machine, by the
// control socket.
func (h *Home) Ctl(args ...string) Result {
	h.t.Helper()
	if args[0] != "completion" && !slices.Contains(args, "--timeout") {
		args = append(slices.Clip(args), "--timeout", "1m") // it waits for 5 s otherwise, and machines are crowded
	}
	if topics.IsPrivate(args[0]) {
		return h.Hub.Exec([]string{"DOMINION_URL=unix:" + h.ControlSocket()}, programs.dominionctl, args...)
	}
	return h.observer.Exec(h.ctlEnvironment(), programs.dominionctl, append(args, h.ctlFlags()...)...)
}

// ControlSocket returns the path of the hub's control socket.
func (h *Home) ControlSocket() string { return filepath.Join(h.Hub.Dir, "data", "control") }

func (h *Home) ctlEnvironment() []string {
	if m := h.external; m != nil {
		return []string{"DOMINION_URL=" + m.url("observer")}
	}
	return []string{"DOMINION_URL=mqtt://" + h.Hub.Address() + ":1883"}
}

func (h *Home) ctlFlags() []string {
	if m := h.external; m != nil {
		return []string{"--password-file", m.passwordFile, "--cafile", m.caFile}
	}
	return nil
}

// Up starts hub and domains and returns an observer when every domain is
// online and the hub has settled.
func (h *Home) Up(domains ...*Domain) (hub *Process, agents []*Process, o *Observer) {
	h.t.Helper()
	for _, d := range domains {
		agents = append(agents, d.Start())
	}
	hub = h.StartHub()
	o = h.Observe()
	o.Until("the hub is ready and every domain is online", func(v View) bool {
		for _, d := range domains {
			if !v.Online(d.Name) {
				return false
			}
		}
		return v.Ready()
	})
	return hub, agents, o
}

// Lives waits until the journal tells of the very processes that the agents tell
// of, and returns them with the number of all starts so far. Agents may be
// quicker: what has no health check is said to run after a second.
func (h *Home) Lives(o *Observer) (lives []string, starts int) {
	h.t.Helper()
	var told []string
	eventually(h.t, "what is said to run has written its journal", func() bool {
		v := o.Latest()
		told = told[:0]
		for topic := range v {
			domain, below := strings.CutPrefix(topic, "dominion/domain/")
			domain, status := strings.CutSuffix(domain, "/status")
			if !below || !status || !v.Online(domain) {
				continue
			}
			for _, i := range v.Domain(domain).Services {
				if i.State == topics.Running {
					told = append(told, i.Service+"@"+domain)
				}
			}
		}
		slices.Sort(told)
		lives = h.Journal.Running(h.t)
		return slices.Equal(where(lives), told)
	})
	return lives, h.Journal.Starts(h.t)
}

// service is one [services.NAME] of dominion.toml; lines are its keys.
func service(name string, lines ...string) string {
	return fmt.Sprintf("\n[services.%s]\n%s\n", name, strings.Join(lines, "\n"))
}

// healthHTTP is a health check that answers fast.
const healthHTTP = `health = { http = "/health", interval = "200ms", timeout = "1s", failures = 3 }`

func endpointURL(e topics.Endpoint) string { return fmt.Sprintf("http://%s:%d", e.Address, e.Port) }
