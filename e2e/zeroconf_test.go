package e2e

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/jmbarzee/dominion/topics"
)

// record is one record of an mDNS answer that was on the wire.
type record struct{ dns.RR }

// listen hears all multicast DNS of the home, and asks for a service type.
func (h *Home) listen(ask ...string) *feed[record] {
	h.t.Helper()
	group := &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353}
	heard := newFeed[record]()
	var conn *net.UDPConn
	h.must(h.observer.in(func() (err error) {
		eth0, err := net.InterfaceByName("eth0")
		if err == nil {
			conn, err = net.ListenMulticastUDP("udp4", eth0, group)
		}
		return err
	}))
	h.t.Cleanup(func() { conn.Close() })
	go func() {
		packet := make([]byte, 9000)
		for {
			n, _, err := conn.ReadFromUDP(packet)
			if err != nil {
				return
			}
			var m dns.Msg
			if m.Unpack(packet[:n]) == nil && m.Response {
				for _, rr := range slices.Concat(m.Answer, m.Ns, m.Extra) {
					heard.add(record{rr})
				}
			}
		}
	}()
	for _, service := range ask {
		var m dns.Msg
		m.SetQuestion(service+".local.", dns.TypePTR)
		m.RecursionDesired = false
		query, err := m.Pack()
		h.must(err)
		_, err = conn.WriteToUDP(query, group)
		h.must(err)
	}
	return heard
}

// The hub announces itself where others can reach it, tells who it is, and
// says goodbye.
func TestAnnouncement(t *testing.T) {
	home := onEmbedded(t)
	// a container network and a tunnel on the hub, which nobody else can reach
	for i, name := range []string{"docker0", "br-0123456789ab", "veth1234567", "tailscale0"} {
		home.must(command("ip", "-n", home.Hub.netns, "link", "add", name, "type", "bridge"))
		home.must(command("ip", "-n", home.Hub.netns, "addr", "add", fmt.Sprintf("172.%d.0.1/16", 17+i), "dev", name))
		home.must(command("ip", "-n", home.Hub.netns, "link", "set", name, "up"))
	}
	home.Configure("")
	hub, _, _ := home.Up()
	heard := home.listen("_dominion._tcp", "_mqtt._tcp")
	find := func(what string, since int, match func(dns.RR) bool) dns.RR {
		t.Helper()
		r, ok := heard.await(patience, since, func(r record) bool { return match(r.RR) })
		if !ok {
			t.Fatalf("not heard: %s", what)
		}
		return r.RR
	}
	about := func(rr dns.RR, service string) bool { return strings.Contains(rr.Header().Name, service+".local.") }
	srvAt := func(service string, port uint16) *dns.SRV {
		return find(fmt.Sprintf("SRV of %s at port %d", service, port), 0, func(rr dns.RR) bool {
			srv, is := rr.(*dns.SRV)
			return is && about(rr, service) && srv.Port == port
		}).(*dns.SRV)
	}
	srvAt("_mqtt._tcp", 1883)
	// the same hub in the clear and by TLS: two instances of the service
	for port, tls := range map[uint16]string{1883: "0", 8883: "1"} {
		instance := srvAt("_dominion._tcp", port).Hdr.Name
		txt := find("TXT of "+instance, 0, func(rr dns.RR) bool { _, is := rr.(*dns.TXT); return is && rr.Header().Name == instance }).(*dns.TXT)
		entries := make(map[string]string)
		for _, kv := range txt.Txt {
			k, v, _ := strings.Cut(kv, "=")
			entries[k] = v
		}
		if !uuidPattern.MatchString(entries["id"]) || entries["name"] != "home" || entries["version"] != version ||
			entries["protocol"] != topics.Protocol || entries["tls"] != tls || entries["prefix"] != "dominion" {
			t.Errorf("TXT of the hub at port %d: %q", port, txt.Txt)
		}
	}
	find("the hub's address", 0, func(rr dns.RR) bool { a, is := rr.(*dns.A); return is && a.A.String() == home.Hub.Address() })
	all, _ := heard.from(0)
	for _, r := range all {
		if a, is := r.RR.(*dns.A); is && a.A.String() != home.Hub.Address() {
			t.Errorf("an address is announced that nobody can reach: %v", a)
		}
		if a, is := r.RR.(*dns.AAAA); is && a.AAAA.IsLoopback() {
			t.Errorf("loopback is announced: %v", a)
		}
	}

	t.Log("a lonely domain announces itself, until it has joined")
	attic := home.Domain("attic")
	attic.Configure(nil, "dominion = \"nosuch\"\n")
	lonely := attic.Start()
	srv := find("SRV of a lonely domain", 0, func(rr dns.RR) bool { _, is := rr.(*dns.SRV); return is && about(rr, "_dominion-domain._tcp") })
	if srv.Header().Ttl == 0 {
		t.Errorf("%v", srv)
	}
	mark := heard.len()
	lonely.Stop()
	goodbye := func(service string) func(dns.RR) bool {
		return func(rr dns.RR) bool { return rr.Header().Ttl == 0 && about(rr, service) }
	}
	find("goodbye of the domain", mark, goodbye("_dominion-domain._tcp"))

	t.Log("the hub says goodbye")
	mark = heard.len()
	hub.Stop()
	for _, port := range []uint16{1883, 8883} {
		find(fmt.Sprintf("goodbye of the hub at port %d", port), mark, func(rr dns.RR) bool {
			srv, is := rr.(*dns.SRV)
			return is && goodbye("_dominion._tcp")(rr) && srv.Port == port
		})
	}
	find("goodbye of the broker", mark, goodbye("_mqtt._tcp"))
}

// A password goes to a hub that zeroconf named only where TLS proves who it
// is and hides it.
func TestPasswordGoesByTLSAlone(t *testing.T) {
	home, caFile := guarded(t)
	withTLS := home.Hub.Exec(nil, "cat", home.hubFile()).Stdout
	var without []string
	for line := range strings.Lines(withTLS) {
		if key, _, _ := strings.Cut(line, " "); key != "listen_tls" && key != "cert_file" && key != "key_file" {
			without = append(without, line)
		}
	}
	home.WriteHubConfig(strings.Replace(strings.Join(without, ""), "[broker]\n", "[broker]\nlisten_tls = \"\"\n", 1))
	hub := home.StartHub()
	kitchen := home.Domain("kitchen")
	password := filepath.Join(kitchen.Dir, "password")
	kitchen.must(writeFile(password, "secret of kitchen\n"))
	kitchen.Configure(nil, fmt.Sprintf("user = \"kitchen\"\npassword_file = %q\ncafile = %q\n", password, caFile))
	agent := kitchen.Start()
	agent.AwaitLog("waits for adoption")

	t.Log("with TLS")
	hub.Stop()
	home.WriteHubConfig(withTLS)
	hub = home.StartHub()
	agent.AwaitLog("joined", "mqtts://")
	if lines, _ := hub.log.from(0); slices.ContainsFunc(lines, func(l string) bool {
		return strings.Contains(l, "user=kitchen") && strings.Contains(l, "listener=mqtt ")
	}) {
		t.Errorf("the agent showed its user to the listener without TLS: %q", lines)
	}
}

// Whoever has a certificate of an authority that the system trusts can announce
// itself as the hub: neither the agent nor the command line sends it a password.
func TestNoPasswordForAnAuthorityOfTheSystem(t *testing.T) {
	home, caFile := guarded(t)
	hub := home.StartHub()
	kitchen := home.Domain("kitchen")
	password := filepath.Join(kitchen.Dir, "password")
	kitchen.must(writeFile(password, "secret of kitchen\n"))
	kitchen.Configure(nil, fmt.Sprintf("user = \"kitchen\"\npassword_file = %q\n", password))
	trust := "SSL_CERT_FILE=" + caFile
	agent := kitchen.Host.Start("env", trust, programs.domain, "-config", kitchen.file())
	agent.AwaitLog("asks the hub at mqtts://")
	r := kitchen.Exec([]string{trust}, programs.dominionctl, "--user", "kitchen", "--password-file", password, "status")
	if r.Code != 3 || !strings.Contains(r.Stderr, "a password is not sent there") {
		t.Errorf("dominionctl: %+v", r)
	}
	if lines, _ := hub.log.from(0); slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "user=kitchen") }) {
		t.Errorf("the hub was shown the user: %q", lines)
	}
	if r := kitchen.Exec(nil, programs.dominionctl, "--user", "kitchen", "--password-file", password, "--cafile", caFile, "status"); r.Code != 0 {
		t.Errorf("dominionctl with the authority pinned: %+v", r)
	}
}
