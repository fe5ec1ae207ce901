package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// natsNode is a NATS server with JetStream and MQTT 3.1.1, one of a cluster.
type natsNode struct {
	*Host
	process *Process
}

func (n *natsNode) url() string { return "mqtt://" + n.Address() + ":1883" }

func (n *natsNode) start(t *testing.T, program string) {
	t.Helper()
	n.process = n.Start(program, "-c", filepath.Join(n.Dir, "nats.conf"))
}

// natsCluster starts nodes of one cluster, each on a host of its own. The server is
// built from the module that the broker is measured with.
func natsCluster(t *testing.T, home *Home, nodes int) (all []*natsNode, program string) {
	t.Helper()
	program = filepath.Join(home.Hub.Dir, "nats-server")
	build := exec.Command("go", "build", "-trimpath", "-o", program, "github.com/nats-io/nats-server/v2")
	build.Dir, build.Env = filepath.Join("..", "broker", "bench"), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build nats-server: %v\n%s", err, out)
	}
	var routes []string
	for i := range nodes {
		n := &natsNode{Host: home.Host(fmt.Sprintf("nats%d", i+1))}
		all = append(all, n)
		routes = append(routes, fmt.Sprintf("\"nats://%s:6222\"", n.Address()))
	}
	for _, n := range all {
		n.must(os.WriteFile(filepath.Join(n.Dir, "nats.conf"), fmt.Appendf(nil, `server_name: %s
listen: "0.0.0.0:4222"
jetstream { store_dir: %q }
cluster { name: home, listen: "0.0.0.0:6222", routes: [%s] }
mqtt { listen: "0.0.0.0:1883", stream_replicas: 3, js_api_timeout: "2s" }
`, n.Name, filepath.Join(n.Dir, "jetstream"), strings.Join(routes, ", ")), 0o644))
		n.start(t, program)
	}
	return all, program
}

// A node of a clustered broker that is killed takes its connections with it and
// publishes none of their wills. Hub and agents find another node, services are not
// disturbed, and nothing is taken for deleted in Home Assistant.
func TestClusteredBroker(t *testing.T) {
	home := onEmbedded(t) // its network; the broker is the cluster
	nodes, program := natsCluster(t, home, 3)
	urls := func(from int) string {
		var all []string
		for i := range nodes {
			all = append(all, fmt.Sprintf("%q", nodes[(from+i)%len(nodes)].url()))
		}
		return "[" + strings.Join(all, ", ") + "]"
	}
	home.WriteHubConfig(fmt.Sprintf("name = \"home\"\ndata_dir = %q\n[broker]\nexternal = %s\n[zeroconf]\nenabled = false\n%s",
		filepath.Join(home.Hub.Dir, "data"), urls(0), service("web", `priority = "required"`)))
	kitchen, cellar := home.Domain("kitchen"), home.Domain("cellar")
	kitchen.Configure(nil, "hub = "+urls(0)+"\n") // on the node of the hub
	cellar.Configure(nil, "hub = "+urls(1)+"\n")  // on another one
	kitchen.Install("web")
	ask := func(node *natsNode, args ...string) Result {
		return home.observer.Exec([]string{"DOMINION_URL=" + node.url()}, programs.dominionctl, append(args, "--timeout", "1m")...)
	}
	well := func(node *natsNode, when string) {
		t.Helper()
		last := ""
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("%s, status last was:\n%s", when, last)
			}
		})
		eventually(t, when+": both domains are online and web runs", func() bool {
			r := ask(node, "status", "--json")
			last = r.Stdout + r.Stderr
			var o topics.Overview
			if json.Unmarshal([]byte(r.Stdout), &o) != nil || !o.Hub.Ready || o.Hub.Domains.Online != 2 {
				return false
			}
			return len(o.Services) == 1 && o.Services[0].Healthy == 1
		})
	}
	configs := func(node *natsNode) map[string]string {
		r := home.observer.Exec(nil, "mosquitto_sub", "-h", node.Address(), "-V", "mqttv311", "-t", "homeassistant/#", "-W", "3", "-F", "%t %p")
		all := make(map[string]string)
		for line := range strings.Lines(r.Stdout) {
			if topic, payload, found := strings.Cut(strings.TrimSpace(line), " "); found {
				all[topic] = payload
			}
		}
		return all
	}
	for _, n := range nodes { // it takes connections once the cluster has a leader
		eventually(t, n.Name+" takes a message", func() bool {
			return home.observer.Exec(nil, "mosquitto_pub", "-h", n.Address(), "-V", "mqttv311", "-q", "1", "-t", "begin", "-m", "1").Code == 0
		})
	}
	hub := home.StartHub()
	// at is the node that the hub connected to last, and how often it connected.
	at := func() (*natsNode, int) {
		lines := strings.Split(hub.tail(10_000), "\n")
		lines = slices.DeleteFunc(lines, func(l string) bool { return !strings.Contains(l, "msg=connected") })
		for _, n := range nodes {
			if len(lines) > 0 && strings.Contains(lines[len(lines)-1], n.url()) {
				return n, len(lines)
			}
		}
		return nil, 0
	}
	kitchen.Start()
	cellar.Start()
	well(nodes[1], "at first")
	before := configs(nodes[1])
	if len(before) != 4 { // hub, two domains, web
		t.Fatalf("Home Assistant is shown %d devices: %v", len(before), before)
	}
	starts := home.Journal.Starts(t)
	for range 2 {
		killed, times := at()
		killed.process.Kill()
		eventually(t, "the hub finds another node than "+killed.Name, func() bool {
			n, now := at()
			return now > times && n != killed
		})
		other, _ := at()
		well(other, "after "+killed.Name+" was killed")
		killed.start(t, program) // a cluster of three does without one
		eventually(t, killed.Name+" is back", func() bool {
			return home.observer.Exec(nil, "mosquitto_pub", "-h", killed.Address(), "-V", "mqttv311", "-q", "1", "-t", "begin", "-m", "1").Code == 0
		})
	}
	if n := home.Journal.Starts(t); n != starts {
		t.Errorf("services were started %d times", n-starts)
	}
	eventually(t, "Home Assistant is shown every device", func() bool { return len(configs(nodes[0])) == len(before) })
	if text := hub.tail(10_000); strings.Contains(text, "was deleted in Home Assistant") {
		t.Error("a device was taken for deleted")
	} else if strings.Contains(text, "stood still") {
		t.Error("the hub took the cluster's absence for its own")
	}
	// What is deleted for real is noticed.
	node, _ := at()
	for topic := range before {
		if strings.Contains(topic, "web") {
			home.observer.Exec(nil, "mosquitto_pub", "-h", node.Address(), "-V", "mqttv311", "-q", "1", "-t", topic, "-r", "-n")
			hub.AwaitLog("was deleted in Home Assistant", topic)
		}
	}
}
