package zeroconf

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestIsLocal(t *testing.T) {
	for host, want := range map[string]bool{"hub.local": true, "Hub.LOCAL.": true, "a.b.local": true, "local": false, ".local": false, "hub.lan": false, "hub.local.lan": false, "192.0.2.1": false, "": false} {
		if IsLocal(host) != want {
			t.Errorf("%q: %v", host, !want)
		}
	}
}

func TestAddressesOfAnAnswer(t *testing.T) {
	answer := new(dns.Msg)
	for _, text := range []string{
		"hub.local. 120 IN A 192.0.2.7", "other.local. 120 IN A 192.0.2.8", "HUB.local. 120 IN AAAA fd00::7",
		"hub.local. 120 IN AAAA fe80::7", "hub.local. 120 IN A 127.0.0.1", "hub.local. 120 IN A 224.0.0.1", "hub.local. 120 IN TXT \"x\"",
	} {
		r, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		answer.Answer = append(answer.Answer, r)
	}
	want := []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("fd00::7")}
	if got := addressesOf(answer, "hub.local.", "eth0"); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	answer.Answer = answer.Answer[3:4]
	if got := addressesOf(answer, "hub.local.", "eth0"); len(got) != 1 || got[0].String() != "fe80::7%eth0" {
		t.Errorf("%v", got)
	}
}

// In a network namespace with one interface a host answers for its name.
func TestResolve(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	cmd := exec.Command("unshare", "-n", "sh", "-c", `ip link set lo up && ip link add net0 type veth peer name net1 && ip link set net1 up && ip addr add 10.9.0.1/24 dev net0 && ip link set net0 multicast on up && exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), helperVariable+"=resolve")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := `["10.9.0.77"] cannot look up nobody.local by multicast DNS: there was no answer`
	if got := strings.TrimSpace(string(out)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// helpResolve answers for host.local and looks it up, and a name for which nobody
// answers.
func helpResolve(ctx context.Context) error {
	i, err := net.InterfaceByName("net0")
	if err != nil {
		return err
	}
	c, err := net.ListenMulticastUDP("udp4", i, &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353})
	if err != nil {
		return err
	}
	defer c.Close()
	go func() {
		packet := make([]byte, 9000)
		for {
			n, from, err := c.ReadFromUDP(packet)
			if err != nil {
				return
			}
			query := new(dns.Msg)
			if query.Unpack(packet[:n]) != nil || query.Response || len(query.Question) != 2 || query.Question[0].Name != "host.local." {
				continue
			}
			for _, id := range []uint16{query.Id + 1, query.Id} { // a forged answer first
				answer := new(dns.Msg)
				answer.SetReply(query)
				answer.Id = id
				r, _ := dns.NewRR(fmt.Sprintf("host.local. 10 IN A 10.9.0.%d", 77+id-query.Id))
				answer.Answer = []dns.RR{r}
				b, _ := answer.Pack()
				_, _ = c.WriteToUDP(b, from)
			}
		}
	}()
	found, err := Resolve(ctx, nil, "host.local")
	if err != nil {
		return err
	}
	text, err := json.Marshal(found)
	if err != nil {
		return err
	}
	_, err = Resolve(ctx, nil, "nobody.local")
	fmt.Println(string(text), err)
	return nil
}
