package zeroconf

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// The tests of this file build a home of network namespaces: a hub with two
// networks and a docker0, and a host on each of them. The hosts run this test
// binary again, as the helper that helperVariable names.

const helperVariable = "ZEROCONF_TEST_HELPER"

func TestMain(m *testing.M) {
	if helper := os.Getenv(helperVariable); helper != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := help(ctx, helper); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func help(ctx context.Context, helper string) error {
	out := json.NewEncoder(os.Stdout)
	switch helper {
	case "announce":
		return Announce(ctx, nil, slog.New(slog.NewTextHandler(os.Stderr, nil)),
			Service{Type: TypeDominion, Instance: "home", Port: 1883, Text: map[string]string{"id": "x", "tls": "0"}},
			Service{Type: TypeMQTT, Instance: "home", Port: 1883, Addr: netip.IPv4Unspecified()},
			Service{Type: TypeDomain, Instance: "here", Port: 1883, Addr: netip.MustParseAddr("127.0.0.1")},
			Service{Type: TypeDomain, Instance: "bound", Port: 1883, Addr: netip.MustParseAddr("10.2.0.1")},
		)
	case "watch":
		watch(ctx, nil, TypeDominion, time.Second, func(all []Found) { _ = out.Encode(all) })
		return nil
	case "plan":
		for _, a := range []string{"127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0", "10.1.0.1"} {
			s := Service{Type: TypeMQTT, Instance: "home", Port: 1883, Addr: netip.MustParseAddr(a)}
			_ = out.Encode(slices.Collect(maps.Keys(plan([]string{"lo", "eth0"}, []Service{s}))))
		}
		return nil
	case "resolve":
		return helpResolve(ctx)
	case "conflicts":
		for ctx.Err() == nil {
			found := conflicts(ctx, nil, []Service{{Type: TypeDominion, Instance: "home", Port: 1883, Text: map[string]string{"id": "x"}}})
			_ = out.Encode(append([]Found{}, found...))
		}
		return nil
	case "goodbyes":
		return goodbyes(ctx, out)
	}
	found, err := Browse(ctx, nil, helper, 2*time.Second)
	_ = out.Encode(found)
	return err
}

// goodbyes prints the instances whose records are withdrawn: those with a time
// to live of 0 (RFC 6762, 10.1).
func goodbyes(ctx context.Context, out *json.Encoder) error {
	eth0, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	c, err := net.ListenMulticastUDP("udp4", eth0, &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353})
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = c.Close() })
	_ = out.Encode("listening")
	b := make([]byte, 1<<16)
	for {
		n, err := c.Read(b)
		if err != nil {
			return nil
		}
		var m dns.Msg
		if m.Unpack(b[:n]) != nil {
			continue
		}
		for _, rr := range m.Answer {
			if ptr, ok := rr.(*dns.PTR); ok && ptr.Hdr.Ttl == 0 && strings.HasPrefix(ptr.Ptr, "home.") {
				_ = out.Encode(ptr.Ptr)
			}
		}
	}
}

// home is the network of a test. host[name] is a namespace.
type home struct {
	t    *testing.T
	name string
}

var homes atomic.Int32

// newHome builds hub (eth0 10.1.0.1, eth1 10.2.0.1, docker0 172.17.0.1) and the
// hosts a, b and d at the other ends, called eth0 there, with .2.
func newHome(t *testing.T) home {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped: builds network namespaces, which -short leaves out")
	}
	if os.Getuid() != 0 {
		t.Skip("skipped: only root can build network namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("skipped: there is no ip (iproute2) to build network namespaces with")
	}
	t.Parallel()
	h := home{t, fmt.Sprintf("zc%d-%d-", os.Getpid(), homes.Add(1))}
	for _, host := range []string{"hub", "a", "b", "d"} {
		if out, err := exec.Command("ip", "netns", "add", h.name+host).CombinedOutput(); err != nil {
			t.Skipf("skipped: cannot build network namespaces here: %s", out)
		}
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", h.name+host).Run() })
	}
	for i, n := range []struct{ hub, host, net string }{{"eth0", "a", "10.1.0."}, {"eth1", "b", "10.2.0."}, {"docker0", "d", "172.17.0."}} {
		h.ip("link", "add", "name", n.hub, "netns", h.name+"hub", "type", "veth", "peer", "name", "eth0", "netns", h.name+n.host)
		h.ip("-n", h.name+"hub", "addr", "add", n.net+"1/24", "dev", n.hub)
		h.ip("-n", h.name+n.host, "addr", "add", n.net+"2/24", "dev", "eth0")
		h.ip("-n", h.name+n.host, "link", "set", "eth0", "up")
		if i > 0 {
			h.ip("-n", h.name+"hub", "link", "set", n.hub, "up")
		}
	}
	return h
}

// up sets the link between hub and a up.
func (h home) up() { h.ip("-n", h.name+"hub", "link", "set", "eth0", "up") }

func (h home) ip(args ...string) {
	h.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		h.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// run runs a helper on a host. Its lines arrive on the channel, which is closed
// when it ends.
func (h home) run(host, helper string) (*exec.Cmd, <-chan string) {
	h.t.Helper()
	cmd := exec.Command("ip", "netns", "exec", h.name+host, os.Args[0])
	cmd.Env = append(os.Environ(), helperVariable+"="+helper)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	lines := make(chan string)
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	h.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		go func() { // nobody may want them
			for range lines {
			}
		}()
		<-read
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
		if h.t.Failed() {
			h.t.Logf("%s on %s said:\n%s", helper, host, stderr.String())
		}
	})
	return cmd, lines
}

// await reads lines until one contains want.
func (h home) await(lines <-chan string, want string) {
	h.t.Helper()
	var seen []string
	late := time.After(2 * time.Minute)
	for {
		select {
		case l, open := <-lines:
			if !open {
				h.t.Fatalf("it ended without %s after %q", want, seen)
			}
			if seen = append(seen, l); strings.Contains(l, want) {
				return
			}
		case <-late:
			h.t.Fatalf("no %s in two minutes, but %q", want, seen)
		}
	}
}

// browse browses on a host until something is found, or once where nothing
// should be.
func (h home) browse(host, serviceType string, tries int) []Found {
	h.t.Helper()
	for range tries {
		_, lines := h.run(host, serviceType)
		var found []Found
		if err := json.Unmarshal([]byte(<-lines), &found); err != nil {
			h.t.Fatal(err)
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

func TestEachNetworkLearnsItsAddress(t *testing.T) {
	h := newHome(t)
	h.up()
	h.run("hub", "announce")
	check := func(host, serviceType, want string) {
		t.Helper()
		if got := fmt.Sprint(h.browse(host, serviceType, 5)); got != want {
			t.Errorf("%s found %s of %s, want %s", host, got, serviceType, want)
		}
	}
	check("a", TypeDominion, "[{home 1883 [10.1.0.1] map[id:x tls:0]}]")
	check("b", TypeDominion, "[{home 1883 [10.2.0.1] map[id:x tls:0]}]")
	check("a", TypeMQTT, "[{home 1883 [10.1.0.1] map[]}]")
	check("b", TypeDomain, "[{bound 1883 [10.2.0.1] map[]}]") // and not "here", which is bound to loopback
	if got := h.browse("d", TypeDominion, 1); len(got) > 0 {
		t.Errorf("behind docker0 %v was found", got)
	}
}

// What listens at loopback is not announced, nor are loopback addresses, even
// on a loopback interface that knows multicast.
func TestLoopbackIsNotAnnounced(t *testing.T) {
	h := newHome(t)
	h.up()
	h.ip("-n", h.name+"hub", "link", "set", "lo", "multicast", "on", "up")
	_, lines := h.run("hub", "plan")
	for _, want := range []string{"null", "null", "eth0 (2) [10.1.0.1]", "eth0 (2) [10.1.0.1]"} {
		if got := <-lines; !strings.HasSuffix(strings.TrimSuffix(got, `"]`), want) || strings.Contains(got, "lo ") {
			t.Errorf("planned %s, want %s", got, want)
		}
	}
}

func TestChangesAreFollowed(t *testing.T) {
	h := newHome(t)
	_, watched := h.run("a", "watch")
	h.run("hub", "announce")
	h.up() // later than the announcing began
	h.await(watched, `"10.1.0.1"`)
	h.ip("-n", h.name+"hub", "addr", "del", "10.1.0.1/24", "dev", "eth0")
	h.ip("-n", h.name+"hub", "addr", "add", "10.1.0.9/24", "dev", "eth0")
	h.await(watched, `["10.1.0.9"]`)
}

// Where the kernel does without IPv6, IPv4 is enough.
func TestWithoutIPv6(t *testing.T) {
	h := newHome(t)
	for _, host := range []string{"hub", "a"} {
		h.ip("netns", "exec", h.name+host, "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6")
	}
	h.up()
	h.run("hub", "announce")
	if got := fmt.Sprint(h.browse("a", TypeDominion, 5)); got != "[{home 1883 [10.1.0.1] map[id:x tls:0]}]" {
		t.Errorf("found %s", got)
	}
}

func TestGoodbye(t *testing.T) {
	h := newHome(t)
	h.up()
	hub, _ := h.run("hub", "announce")
	_, goodbyes := h.run("a", "goodbyes")
	h.await(goodbyes, "listening")
	_, watched := h.run("a", "watch")
	h.await(watched, `"10.1.0.1"`)
	if err := hub.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	h.await(goodbyes, "home."+TypeDominion)
	h.await(watched, "null")
}

func TestWhatDiedExpires(t *testing.T) {
	h := newHome(t)
	h.up()
	hub, _ := h.run("hub", "announce")
	_, watched := h.run("a", "watch")
	h.await(watched, `"10.1.0.1"`)
	if err := hub.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	h.await(watched, "null")
}
